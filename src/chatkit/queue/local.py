"""The queue in memory: bounded, for one process. What it holds goes with the process; the outbox in the store stays."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf

import anyio.lowlevel
import msgspec

from .._auto_reset_event import AutoResetEvent
from ..errors import OverloadedError
from ..ports import Clock
from .base import Item

ITEMS_MAX = 100_000
VISIBILITY_S = 30.0
_FULL_RETRY_S = 1.0


class _Work(msgspec.Struct):
    """One piece of work: not given out before `due_s`; `held` until it is given back."""

    data: bytes
    due_s: float = 0.0
    attempt: int = 0
    held: bool = False


class LocalQueue:
    """`queue.base.Queue` in memory.

    Args:
        clock: For what is due; its seconds must pass as those of the event loop.
        items_max: Pieces of work that are not done; further ones are refused.
        visibility_s: How long a taken item is left to its worker.
    """

    def __init__(
        self, *, clock: Clock, items_max: int = ITEMS_MAX, visibility_s: float = VISIBILITY_S
    ) -> None:
        self._clock = clock
        self._items_max = items_max
        self._visibility_s = visibility_s
        self._work: dict[int, _Work] = {}
        self._due: list[tuple[float, int]] = []  # a heap of (when, ticket); overtaken ones are passed over
        self._count = 0
        self._changed = AutoResetEvent()

    async def put(self, data: bytes) -> None:
        """Add a piece of work."""
        await anyio.lowlevel.checkpoint()
        if len(self._work) >= self._items_max:
            raise OverloadedError("the queue is full", retry_after_s=_FULL_RETRY_S)
        self._count += 1
        self._work[self._count] = _Work(data)
        self._schedule(self._count, 0.0)

    async def take(self) -> Item:
        """Wait for the next piece of work that is due."""
        await anyio.lowlevel.checkpoint()
        while True:
            item, wait_s = self._next()
            if item is not None:
                return item
            await self._changed.wait(wait_s)

    async def done(self, item: Item) -> None:
        """This work is finished."""
        await anyio.lowlevel.checkpoint()
        self._work.pop(int(item.ticket), None)

    async def retry(self, item: Item, delay_s: float) -> None:
        """Give this work out again, later."""
        await anyio.lowlevel.checkpoint()
        work = self._work.get(int(item.ticket))
        if work is not None and work.held and work.attempt == item.attempt:
            work.held = False
            self._schedule(int(item.ticket), delay_s)

    async def lag(self) -> int:
        """How many pieces of work are not done."""
        await anyio.lowlevel.checkpoint()
        return len(self._work)

    def _next(self) -> tuple[Item | None, float]:
        """The item that is due longest, now given out; else how long to wait for one."""
        while self._due:
            due_s, ticket = self._due[0]
            work = self._work.get(ticket)
            if work is not None and work.due_s == due_s:
                wait_s = due_s - self._clock.now_s()
                return (None, wait_s) if wait_s > 0 else (self._give_out(ticket, work), 0.0)
            heappop(self._due)
        return None, inf

    def _give_out(self, ticket: int, work: _Work) -> Item:
        heappop(self._due)
        work.attempt += 1
        work.held = True
        self._schedule(ticket, self._visibility_s)
        return Item(work.data, work.attempt, ticket)

    def _schedule(self, ticket: int, delay_s: float) -> None:
        """Have a piece of work given out after a while; whoever waits looks again."""
        self._work[ticket].due_s = self._clock.now_s() + delay_s
        heappush(self._due, (self._work[ticket].due_s, ticket))
        self._changed.set()
