"""Whose turn it is to read: each user has a few reads under way and some that wait, the rest is refused.

The store has few connections for reading. Without this, long reads of one user would hold all of them. A first in,
first out line per user; another user never waits in it. Called by `sync` and by the HTTP gateway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from ..errors import RateLimitedError
from .limits import Limits

_RETRY_AFTER_S = 1.0


class _Line:
    """The reads of one user."""

    __slots__ = ("count", "turns")

    def __init__(self, at_once: int) -> None:
        self.count = 0
        self.turns = anyio.Semaphore(at_once)


class ReadGate:
    """Lets reads through, so many at a time for each user."""

    def __init__(self, limits: Limits) -> None:
        self._at_once = limits.reads_in_flight_per_user
        self._count_max = self._at_once + limits.reads_waiting_per_user
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many users have a read under way or waiting."""
        return len(self._lines)

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        """Wait for the user's turn and keep it until the block ends.

        Raises:
            RateLimitedError: Too many reads of this user wait already; a retry is safe.
        """
        line = self._lines.get(user_id)
        if line is None:
            line = self._lines[user_id] = _Line(self._at_once)
        if line.count >= self._count_max:
            raise RateLimitedError("too many reads of this user wait", retry_after_s=_RETRY_AFTER_S)
        line.count += 1
        try:
            async with line.turns:
                yield
        finally:
            line.count -= 1
            if not line.count:
                del self._lines[user_id]
