"""What an archiver asks of the store on SQLite: each question in a transaction. The SQL is in `cold`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from ...core.log.cold import ColdEntry, ColdRange
from ..cold import RESTORE_MAX, Blanks, ColdTerms, ColdTotals, Due, Expiring, Space
from . import cold

Run = Callable[..., Awaitable[Any]]
"""Runs a function of a connection and further arguments in a transaction."""


class SqliteCold:
    """`storage.cold.ColdStore` on the connections of a store.

    Args:
        read: Runs a read in a snapshot.
        change: Runs a change in a write transaction.
    """

    def __init__(self, read: Run, change: Run) -> None:
        self._read = read
        self._change = change

    async def owner_marks(self) -> list[str]:
        """The newest marks."""
        found: list[str] = await self._read(cold.owner_marks)
        return found

    async def add_owner_mark(self, mark: str) -> None:
        """Keep a mark."""
        await self._change(cold.add_owner_mark, mark)

    async def expiring(self, now_ms: int, keep_ms: int, after_key: int) -> Expiring:
        """Conversations with entries whose time is over."""
        found: Expiring = await self._read(cold.expiring, now_ms, keep_ms, after_key)
        return found

    async def due(self, terms: ColdTerms, after_key: int) -> Due:
        """Conversations with work."""
        found: Due = await self._read(cold.due, terms, after_key)
        return found

    async def entries(
        self, conversation_key: int, after_seq: int, terms: ColdTerms, limit: int, bytes_max: int
    ) -> list[ColdEntry]:
        """Cold entries after a seq."""
        found: list[ColdEntry] = await self._read(
            cold.entries, conversation_key, after_seq, terms, limit, bytes_max
        )
        return found

    async def entries_of(self, it: ColdRange) -> list[ColdEntry]:
        """The entries of a range."""
        found: list[ColdEntry] = await self._read(cold.entries_of, it)
        return found

    async def claim(self, it: ColdRange, now_ms: int, taken_before_ms: int) -> bool:
        """Say that an object is being written."""
        return bool(await self._change(cold.claim, it, now_ms, taken_before_ms))

    async def confirm(self, it: ColdRange, blanks: Blanks) -> bool:
        """Put a written object into its place."""
        return bool(await self._change(cold.confirm, it, blanks))

    async def move(self, conversation_key: int, limit: int) -> int:
        """Take some bodies out of the file."""
        return int(await self._change(cold.move, conversation_key, limit))

    async def unfinished(self, taken_before_ms: int, limit: int) -> list[ColdRange]:
        """Ranges whose object has to be written."""
        found: list[ColdRange] = await self._read(cold.unfinished, taken_before_ms, limit)
        return found

    async def blanks(self, it: ColdRange) -> Blanks:
        """Which bodies must not be in an object."""
        found: Blanks = await self._read(cold.blanks, it)
        return found

    async def expired(self, limit: int) -> list[ColdRange]:
        """Ranges that nobody may read any more."""
        found: list[ColdRange] = await self._read(cold.expired, limit)
        return found

    async def forget(self, it: ColdRange) -> bool:
        """Drop a range."""
        return bool(await self._change(cold.forget, it))

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of these objects that a range names."""
        found: set[str] = await self._read(cold.known, names)
        return found

    async def covering(self, conversation_id: str, first_seq: int, last_seq: int) -> list[ColdRange]:
        """The ranges that hold any of these entries."""
        found: list[ColdRange] = await self._read(cold.covering, conversation_id, first_seq, last_seq)
        return found

    async def ranges(self, after: tuple[int, int], limit: int) -> list[ColdRange]:
        """All ranges after a place."""
        found: list[ColdRange] = await self._read(cold.ranges, after, limit)
        return found

    async def manifests_due(self, limit: int) -> list[tuple[int, str, int]]:
        """Conversations whose manifest has to be written."""
        found: list[tuple[int, str, int]] = await self._read(cold.manifests_due, limit)
        return found

    async def manifest_written(self, conversation_key: int, version: int) -> None:
        """The manifest of this version is written."""
        await self._change(cold.manifest_written, conversation_key, version)

    async def totals(self) -> ColdTotals:
        """Counts over the archived part."""
        found: ColdTotals = await self._read(cold.totals)
        return found

    async def restore(self, it: ColdRange, bodies: Mapping[int, bytes]) -> int:
        """Put bodies back."""
        return int(await self._change(cold.restore, it, bodies, RESTORE_MAX))

    async def space(self) -> Space:
        """The size of the file."""
        found: Space = await self._read(cold.space)
        return found

    async def shrink(self, bytes_max: int) -> int:
        """Give free pages back; where there are none, nothing is written."""
        free = await self.space()
        if not free.shrinks or not free.free_bytes:
            return 0
        return int(await self._change(cold.shrink, bytes_max))
