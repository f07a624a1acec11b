"""The queue in memory keeps the contract."""

from __future__ import annotations

import anyio
import pytest

from chatkit.errors import ConfigurationError
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
    await queue.put(b"work", "k")
    for _ in range(100):
        (item,) = await queue.take(1)
        await queue.retry(item, 0.001)
    (item,) = await queue.take(1)
    await queue.done([item])
    with anyio.move_on_after(5.0):
        await queue.take(1)

    assert item.attempt == 101
    assert queue._table._due == []


@pytest.mark.parametrize(
    "wrong", [{"items_max": 0}, {"items_max": 1.5}, {"visibility_s": 0}, {"visibility_s": "1"}]
)
def test_numbers_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        LocalQueue(clock=VirtualClock(), **wrong)
