"""Whose turn it is to read: each user has a few reads under way and some that wait, the rest is refused.

The store has few connections for reading. Without this, long reads of one user would hold all of them. A first in,
first out line per user; another user never waits in it. Called by `sync` and by the HTTP gateway.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

import anyio

from ..errors import RateLimitedError
from .limits import Limits

_RETRY_AFTER_S = 1.0


class _Line:
    """The reads of one user: how many there are, and how many of them are under way."""

    __slots__ = ("count", "under_way", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.under_way = 0
        self.waiting: deque[anyio.Event] = deque()

    def end(self, event: anyio.Event | None = None) -> None:
        """One read is over, or gives up before its turn (`event`). Whoever waits longest is next."""
        self.count -= 1
        if event is not None and not event.is_set():
            self.waiting.remove(event)
        elif self.waiting:
            self.waiting.popleft().set()
        else:
            self.under_way -= 1


class ReadGate:
    """Lets reads through, so many at a time for each user."""

    def __init__(self, limits: Limits) -> None:
        self.at_once = limits.reads_in_flight_per_user
        self.count_max = self.at_once + limits.reads_waiting_per_user
        self.lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many users have a read under way or waiting."""
        return len(self.lines)

    def turn(self, user_id: str) -> Turn:
        """Waits for the user's turn when entered, and keeps it until it is left.

        Entering raises RateLimitedError if too many reads of this user wait already; a retry is safe.
        """
        return Turn(self, user_id)


class Turn:
    """One turn, for `async with`."""

    __slots__ = ("_gate", "_line", "_user_id")

    def __init__(self, gate: ReadGate, user_id: str) -> None:
        self._gate = gate
        self._user_id = user_id

    async def __aenter__(self) -> None:
        gate = self._gate
        line = gate.lines.get(self._user_id)
        if line is None:
            line = gate.lines[self._user_id] = _Line()
        if line.count >= gate.count_max:
            raise RateLimitedError("too many reads of this user wait", retry_after_s=_RETRY_AFTER_S)
        self._line = line
        line.count += 1
        if line.under_way < gate.at_once:
            line.under_way += 1
            return
        event = anyio.Event()
        line.waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            self._end(event)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self, event: anyio.Event | None = None) -> None:
        self._line.end(event)
        if not self._line.count:
            del self._gate.lines[self._user_id]
