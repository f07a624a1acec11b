"""The queue in memory: bounded, for one process. What it holds goes with the process; the outbox in the store stays."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.lowlevel

from .._arguments import check_number
from .._auto_reset_event import AutoResetEvent
from ..errors import ClosedError, OverloadedError
from ..ports import Clock
from ._work import WorkTable
from .base import Item, check_delay, check_limit, check_put

ITEMS_MAX = 100_000
VISIBILITY_S = 30.0
_FULL_RETRY_S = 1.0


class LocalQueue:
    """`queue.base.Queue` in memory.

    Args:
        clock: For what is due; its seconds must pass as those of the event loop.
        items_max: Pieces of work that are not done; further ones are refused.
        visibility_s: How long a taken item is left to its worker.

    Raises:
        ConfigurationError: One of the numbers is none, or too small.
    """

    def __init__(
        self, *, clock: Clock, items_max: int = ITEMS_MAX, visibility_s: float = VISIBILITY_S
    ) -> None:
        check_number("items_max", items_max, whole=True)
        check_number("visibility_s", visibility_s)
        self._clock = clock
        self._items_max = items_max
        self._table = WorkTable(visibility_s)
        self._changed = AutoResetEvent()
        self._closed = False

    async def put(self, data: bytes, key: str) -> None:
        """Add a piece of work."""
        await self._checkpoint()
        check_put(data, key)
        if len(self._table) >= self._items_max:
            raise OverloadedError("the queue is full", retry_after_s=_FULL_RETRY_S)
        self._table.add(data, key, self._clock.now_s())
        self._changed.set()

    async def take(self, limit: int) -> list[Item]:
        """Wait for work that is due."""
        limit = check_limit(limit)
        await self._checkpoint()
        while True:
            now_s = self._clock.now_s()
            items = self._table.take(limit, now_s)
            if items:
                return items
            await self._changed.wait(self._table.wait_s(now_s))
            self._check_open()

    async def done(self, items: Sequence[Item]) -> None:
        """This work is finished."""
        await self._checkpoint()
        for item in items:
            self._table.done(int(item.ticket))

    async def retry(self, item: Item, delay_s: float) -> None:
        """Give this work out again, later."""
        await self._checkpoint()
        if self._table.retry(item, self._clock.now_s() + check_delay(delay_s)):
            self._changed.set()

    async def lag(self) -> int:
        """How many pieces of work are not done."""
        await self._checkpoint()
        return len(self._table)

    async def aclose(self) -> None:
        """Use the queue no more; what it holds is gone with it."""
        self._closed = True
        self._changed.set()
        await anyio.lowlevel.checkpoint()

    async def _checkpoint(self) -> None:
        self._check_open()
        await anyio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the queue is closed")
