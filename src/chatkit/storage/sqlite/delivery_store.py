"""What delivery workers ask of the store on SQLite: each question in a transaction. The SQL is in `deliveries`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from ..base import Claim, ClaimTerms, DeadLetter, DeliveryLag, EntryMark, Finished, PushTarget
from ..unread import UnreadCounts
from . import deliveries

Run = Callable[..., Awaitable[Any]]
"""Runs a function of a connection and further arguments in a transaction."""


class SqliteDeliveries:
    """`storage.base.DeliveryStore` on the connections of a store.

    Args:
        read: Runs a read in a snapshot.
        change: Runs a change in a write transaction.
        counts: The counts of unread messages of the open file.
    """

    def __init__(self, read: Run, change: Run, counts: Callable[[], UnreadCounts]) -> None:
        self._read = read
        self._counts = counts
        self._change = change

    async def claim(
        self, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None = None
    ) -> list[Claim]:
        """Take what is due. Where nothing is, nothing is written."""
        if not await self._read(deliveries.is_due, terms):
            return []
        found: list[Claim] = await self._change(deliveries.claim, terms, limit, conversation_ids)
        return found

    async def targets(self, claims: Sequence[Claim], now_ms: int) -> list[PushTarget]:
        """Whom to push to."""
        found: list[PushTarget] = await self._read(deliveries.targets, claims, now_ms)
        return found

    async def waiting(self, conversation_ids: Sequence[str]) -> set[str]:
        """Those of which the workers have more to do."""
        found: set[str] = await self._read(deliveries.waiting, conversation_ids)
        return found

    async def newest(self, claims: Sequence[Claim], count: int) -> list[EntryMark]:
        """The newest messages and recalls of conversations, without their words."""
        found: list[EntryMark] = await self._read(deliveries.newest, claims, count)
        return found

    async def marks(self, places: Collection[tuple[int, int]]) -> list[EntryMark]:
        """Entries, without their words."""
        found: list[EntryMark] = await self._read(deliveries.marks, {*places})
        return found

    async def payloads(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The payloads of entries that were not recalled."""
        found: dict[tuple[int, int], bytes] = await self._read(deliveries.payloads, places)
        return found

    async def unread(self, user_ids: Sequence[str], now_ms: int) -> dict[str, int]:
        """How many unread messages each user has."""
        found: dict[str, int] = await self._read(deliveries.unread, self._counts(), user_ids, now_ms)
        return found

    async def finish(self, ticket: int, finished: Sequence[Finished]) -> int:
        """Be done with claims."""
        count: int = await self._change(deliveries.finish, ticket, finished)
        return count

    async def lag(self) -> DeliveryLag:
        """How far the workers are behind."""
        found: DeliveryLag = await self._read(deliveries.lag)
        return found

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Those given up, the oldest first."""
        found: list[DeadLetter] = await self._read(deliveries.dead_letters, limit)
        return found

    async def discard_dead_letters(self, before_ms: int) -> int:
        """Forget those that began to fail before then."""
        count: int = await self._change(deliveries.discard_dead_letters, before_ms)
        return count

    async def discard_pushes(self, before_ms: int) -> int:
        """Forget some of those that were last answered before then."""
        count: int = await self._change(deliveries.discard_pushes, before_ms)
        return count
