"""The queue in memory keeps the contract."""

from __future__ import annotations

import anyio
import pytest

from chatkit.queue.base import Queue
from chatkit.queue.local import LocalQueue
from chatkit.testing.contracts.queue import QueueContract
from chatkit.testing.virtual_time import VirtualClock


class TestLocalQueue(QueueContract):
    @pytest.fixture
    def queue(self) -> Queue:
        return LocalQueue(clock=VirtualClock(), items_max=self.items_max, visibility_s=self.visibility_s)


async def test_retries_leave_nothing_behind() -> None:
    queue = LocalQueue(clock=VirtualClock(), visibility_s=1.0)
    await queue.put(b"work")
    for _ in range(100):
        await queue.retry(await queue.take(), 0.001)
    item = await queue.take()
    await queue.done(item)
    with anyio.move_on_after(5.0):
        await queue.take()

    assert item.attempt == 101
    assert queue._due == []
