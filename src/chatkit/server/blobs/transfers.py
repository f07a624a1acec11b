"""How many files are on the way at the same time, whose they are, and how fast each has to move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio

from ...errors import OverloadedError, RateLimitedError
from .blob_bytes import refused_for_now

_RETRY_AFTER_S: Final = 2.0


class Pace:
    """How much longer a peer may be waited for: `stall_s` at first, and never more.

    Waiting takes from it, and what moved gives back the time that it takes at `bytes_per_s_min`. So a peer that is
    faster than that is never cut off, and one that is slower loses its place after `stall_s`, whatever came before.
    """

    def __init__(self, stall_s: float, bytes_per_s_min: int) -> None:
        self._stall_s, self._bytes_per_s_min = stall_s, bytes_per_s_min
        self._left_s = stall_s

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around one wait for the peer. Raises TimeoutError once the peer is too slow."""
        begun_s = anyio.current_time()
        with anyio.fail_after(self._left_s):
            yield
        self._left_s = max(self._left_s - (anyio.current_time() - begun_s), 0.0)

    def moved(self, size: int) -> None:
        """So many bytes came or went."""
        self._left_s = min(self._left_s + size / self._bytes_per_s_min, self._stall_s)


class Transfers:
    """The places that transfers take.

    Where all are taken, whoever has fewer than somebody else gets one of theirs: the newest transfer of the user with
    the most is cut off, and goes on later. So nobody is kept out by less than `total` users, each with one place.

    Args:
        total: At the same time.
        per_user: Of one user.
    """

    def __init__(self, total: int, per_user: int) -> None:
        self._total, self._per_user = total, per_user
        self._of: dict[str, list[_Place]] = {}

    def __len__(self) -> int:
        """How many have a place."""
        return sum(map(len, self._of.values()))

    @asynccontextmanager
    async def one(self, user_id: str) -> AsyncIterator[None]:
        """A transfer. It begins once whoever had its place before has ended.

        Raises:
            OverloadedError: All places are taken, and nobody has two more than this user.
            RateLimitedError: The user has as many as a user may.
            UnavailableError: Another user needed the place; what was received as whole parts is kept.
        All of them: a retry is safe.
        """
        place = _Place()
        before = self._take(user_id, place)
        try:
            with place.scope:
                if before is not None:
                    await before.make_room()
                yield
        finally:
            self._leave(user_id, place)
        if place.scope.cancelled_caught:
            raise refused_for_now("others needed the place of this transfer; go on where it was cut off")

    def _take(self, user_id: str, place: _Place) -> _Place | None:
        """Take a place; returns whose it was, if that one still has to end."""
        own = self._of.get(user_id, [])
        if len(own) >= self._per_user:
            raise RateLimitedError("too many files of this user are on the way", retry_after_s=_RETRY_AFTER_S)
        before = None
        if len(self) >= self._total:
            most = max(self._of, key=lambda it: len(self._of[it]))
            if len(self._of[most]) < len(own) + 2:
                raise OverloadedError("too many files are on the way", retry_after_s=_RETRY_AFTER_S)
            before = self._of[most].pop()
        self._of.setdefault(user_id, []).append(place)
        return before

    def _leave(self, user_id: str, place: _Place) -> None:
        place.ended.set()
        own = self._of.get(user_id, [])
        if place in own:
            own.remove(place)
        if not own:
            self._of.pop(user_id, None)


class _Place:
    """A transfer under way, or one that waits for its place."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()

    async def make_room(self) -> None:
        """End this transfer, and return once it has ended."""
        self.scope.cancel()
        with anyio.CancelScope(shield=True):  # or more than `total` would run
            await self.ended.wait()
