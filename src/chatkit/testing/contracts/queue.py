"""The contract of every queue: subclass `QueueContract` and override its fixture `queue`.

    class TestMyQueue(QueueContract):
        @pytest.fixture
        async def queue(self):
            return MyQueue(items_max=QueueContract.items_max, visibility_s=QueueContract.visibility_s)

Only the port is used here (`chatkit.queue.base`). On a virtual clock the waits cost nothing.
"""

from __future__ import annotations

import anyio
import pytest

from ...errors import OverloadedError
from ...queue.base import Item, Queue


class QueueContract:
    """All that a queue promises, as tests. They run through anyio's pytest plugin, on whatever backend you choose."""

    pytestmark = pytest.mark.anyio

    items_max = 20
    """How many items the queue under test holds."""

    visibility_s = 1.0
    """How long the queue under test leaves an item to its worker."""

    @pytest.fixture
    def queue(self) -> Queue:
        """Override: a fresh and empty queue with these two bounds."""
        raise NotImplementedError("override the fixture `queue`")

    async def taken(self, queue: Queue) -> Item:
        """The next item, which must come soon."""
        with anyio.fail_after(5 * self.visibility_s):
            return await queue.take()

    async def nothing_for(self, queue: Queue, seconds: float) -> bool:
        """Whether nothing is given out for a while."""
        with anyio.move_on_after(seconds):
            await queue.take()
            return False
        return True

    async def test_what_is_put_is_given_out_in_order_and_whole(self, queue: Queue) -> None:
        sent = [b"", bytes(range(256)), b"third"]
        for data in sent:
            await queue.put(data)
        items = [await self.taken(queue) for _ in sent]

        assert [item.data for item in items] == sent
        assert [item.attempt for item in items] == [1, 1, 1]

    async def test_what_is_done_never_comes_again(self, queue: Queue) -> None:
        await queue.put(b"work")
        item = await self.taken(queue)
        await queue.done(item)
        await queue.done(item)
        await queue.retry(item, 0.0)

        assert await self.nothing_for(queue, 3 * self.visibility_s)
        assert await queue.lag() == 0

    async def test_what_its_worker_forgot_comes_again(self, queue: Queue) -> None:
        await queue.put(b"work")
        first = await self.taken(queue)
        assert await self.nothing_for(queue, 0.5 * self.visibility_s)
        second = await self.taken(queue)

        assert (second.data, second.attempt, second.ticket) == (first.data, 2, first.ticket)

    async def test_what_is_retried_comes_after_the_delay(self, queue: Queue) -> None:
        await queue.put(b"work")
        await queue.retry(await self.taken(queue), 0.5 * self.visibility_s)
        await queue.put(b"other")

        assert (await self.taken(queue)).data == b"other", "it holds nobody up"
        assert await self.nothing_for(queue, 0.3 * self.visibility_s)
        again = await self.taken(queue)
        assert (again.data, again.attempt) == (b"work", 2)

    async def test_what_is_given_back_need_not_wait_for_the_workers_time(self, queue: Queue) -> None:
        await queue.put(b"work")
        await queue.retry(await self.taken(queue), 0.0)

        with anyio.fail_after(0.5 * self.visibility_s):
            assert (await queue.take()).attempt == 2

    async def test_it_is_given_back_once(self, queue: Queue) -> None:
        await queue.put(b"work")
        item = await self.taken(queue)
        await queue.retry(item, 0.0)
        await queue.retry(item, 10 * self.visibility_s)  # no longer held: nothing happens

        with anyio.fail_after(0.5 * self.visibility_s):
            assert (await queue.take()).attempt == 2

    async def test_the_longest_waiting_comes_first_though_it_was_given_out_before(self, queue: Queue) -> None:
        await queue.put(b"work")
        await queue.retry(await self.taken(queue), 0.1 * self.visibility_s)
        await anyio.sleep(0.3 * self.visibility_s)
        await queue.put(b"newer")

        assert [(await self.taken(queue)).data for _ in range(2)] == [b"work", b"newer"]

    async def test_a_delay_may_be_longer_than_what_a_worker_has(self, queue: Queue) -> None:
        await queue.put(b"work")
        await queue.retry(await self.taken(queue), 3 * self.visibility_s)

        assert await self.nothing_for(queue, 2.5 * self.visibility_s)
        assert (await self.taken(queue)).attempt == 2

    async def test_a_worker_that_comes_late_cannot_give_back_but_can_finish(self, queue: Queue) -> None:
        await queue.put(b"work")
        late = await self.taken(queue)
        await anyio.sleep(1.1 * self.visibility_s)
        await self.taken(queue)
        await queue.retry(late, 0.0)
        assert await self.nothing_for(queue, 0.5 * self.visibility_s), "somebody else holds it"
        await queue.done(late)

        assert await self.nothing_for(queue, 2 * self.visibility_s)
        assert await queue.lag() == 0

    async def test_who_waits_is_given_what_comes(self, queue: Queue) -> None:
        given: list[bytes] = []

        async def work() -> None:
            given.append((await queue.take()).data)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(work)
            await anyio.sleep(0.1 * self.visibility_s)
            for number in range(3):
                await queue.put(b"%d" % number)

        assert sorted(given) == [b"0", b"1", b"2"], "each to one"

    async def test_who_gives_up_waiting_takes_nothing_with_him(self, queue: Queue) -> None:
        assert await self.nothing_for(queue, 0.1 * self.visibility_s)
        await queue.put(b"work")

        assert (await self.taken(queue)).attempt == 1

    async def test_the_lag_counts_what_is_not_done(self, queue: Queue) -> None:
        assert await queue.lag() == 0
        for number in range(3):
            await queue.put(b"%d" % number)
        first, second = await self.taken(queue), await self.taken(queue)
        assert await queue.lag() == 3, "what is being held counts"
        await queue.done(first)
        await queue.retry(second, self.visibility_s)

        assert await queue.lag() == 2

    async def test_a_full_queue_refuses_and_has_room_again(self, queue: Queue) -> None:
        for number in range(self.items_max):
            await queue.put(b"%d" % number)
        with pytest.raises(OverloadedError) as caught:
            await queue.put(b"one too many")
        assert caught.value.retryable
        first = await self.taken(queue)
        with pytest.raises(OverloadedError):
            await queue.put(b"what is being worked on counts")
        await queue.done(first)
        await queue.put(b"room")

        assert await queue.lag() == self.items_max
