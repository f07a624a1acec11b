"""The contract of every queue: subclass `QueueContract` and override its fixture `queue`.

    class TestMyQueue(QueueContract):
        @pytest.fixture
        async def queue(self):
            return MyQueue(items_max=QueueContract.items_max, visibility_s=QueueContract.visibility_s)

Only the port is used here (`chatkit.queue.base`). On a virtual clock the waits cost nothing.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from ...errors import BadRequestError, ClosedError, OverloadedError, TooLargeError
from ...queue.base import DATA_BYTES_MAX, KEY_CHARACTERS_MAX, Item, Queue

AWKWARD_KEYS = [
    ".",
    "..",
    "*",
    ">",
    "a.*.>",
    "a b",
    "\t",
    "\r\nPUB x 0\r\n",
    "\x00",
    "\x7f",
    "$JS.API.>",
    "-",
    "=",
    "+/",
    "A",
    "a",
    "?topic=x",
    "\u65e5\u672c",
    "\U0001f642" * KEY_CHARACTERS_MAX,
    "\udc80",
    "x" * (KEY_CHARACTERS_MAX - 1),
    "x" * KEY_CHARACTERS_MAX,
]
"""Keys that a server might take for something else, and pairs that are nearly alike."""


class QueueContract:
    """All that a queue promises, as tests. They run through anyio's pytest plugin, on whatever backend you choose."""

    pytestmark = pytest.mark.anyio

    items_max = 30
    """How many items the queue under test holds, if it is bounded."""

    bounded = True
    """Whether the queue refuses what is too much. Kafka does not: what is kept there is bounded by time or bytes."""

    visibility_s = 1.0
    """How long the queue under test leaves an item to its worker."""

    soon_s = 5.0
    """What is due is given out within this time."""

    @pytest.fixture
    def queue(self) -> Queue:
        """Override: a fresh and empty queue with these bounds."""
        raise NotImplementedError("override the fixture `queue`")

    async def taken(self, queue: Queue) -> Item:
        """The next item, which must come soon."""
        return (await self.all_taken(queue, 1))[0]

    async def all_taken(self, queue: Queue, count: int, limit: int | None = None) -> list[Item]:
        """The next items, which must come soon: so many, and `limit` at a time."""
        items: list[Item] = []
        with anyio.fail_after(self.soon_s):
            while len(items) < count:
                got = await queue.take(min(limit or count, count - len(items)))
                assert 1 <= len(got) <= min(limit or count, count - len(items))
                items += got
        return items

    async def nothing_for(self, queue: Queue, seconds: float) -> bool:
        """Whether nothing is given out for a while."""
        with anyio.move_on_after(seconds):
            await queue.take(1)
            return False
        return True

    # --- putting and taking ---

    async def test_what_is_put_is_given_out_in_order_and_whole(self, queue: Queue) -> None:
        sent = [b"", bytes(range(256)), b"third"]
        for data in sent:
            await queue.put(data, "k")
        items = await self.all_taken(queue, 3, limit=1)

        assert [item.data for item in items] == sent
        assert [(item.key, item.attempt) for item in items] == [("k", 1)] * 3

    async def test_items_of_one_key_come_in_the_order_of_their_puts(self, queue: Queue) -> None:
        for number in range(4):
            for key in ("one", "two", "three"):
                await queue.put(b"%d" % number, key)
        items = await self.all_taken(queue, 12, limit=5)

        for key in ("one", "two", "three"):
            assert [item.data for item in items if item.key == key] == [b"0", b"1", b"2", b"3"]

    async def test_keys_of_every_kind_are_their_own(self, queue: Queue) -> None:
        for number, key in enumerate(AWKWARD_KEYS):
            await queue.put(b"%d" % number, key)
        items = await self.all_taken(queue, len(AWKWARD_KEYS))

        assert {item.data: item.key for item in items} == {
            b"%d" % number: key for number, key in enumerate(AWKWARD_KEYS)
        }

    @pytest.mark.parametrize("key", ["", "x" * (KEY_CHARACTERS_MAX + 1), b"k", None, 1])
    async def test_a_key_that_is_none_is_refused(self, queue: Queue, key: Any) -> None:
        with pytest.raises(BadRequestError):
            await queue.put(b"work", key)

        assert await queue.lag() == 0

    async def test_the_largest_data_arrives_and_larger_is_refused(self, queue: Queue) -> None:
        whole = b"x" * DATA_BYTES_MAX
        with pytest.raises(TooLargeError):
            await queue.put(whole + b"x", "k")
        with pytest.raises(BadRequestError):
            await queue.put("text", "k")  # type: ignore[arg-type]
        await queue.put(whole, "k")

        assert (await self.taken(queue)).data == whole

    @pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1", None])
    async def test_a_limit_that_is_none_is_refused(self, queue: Queue, limit: Any) -> None:
        with pytest.raises(BadRequestError):
            await queue.take(limit)

    async def test_any_limit_may_be_more_than_there_is(self, queue: Queue) -> None:
        await queue.put(b"work", "k")

        with anyio.fail_after(self.soon_s):
            assert [item.data for item in await queue.take(1_000_000)] == [b"work"]

    async def test_who_waits_is_given_what_comes(self, queue: Queue) -> None:
        given: list[bytes] = []

        async def work() -> None:
            given.append((await self.taken(queue)).data)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(work)
            await anyio.sleep(0.1 * self.visibility_s)
            for number in range(3):
                await queue.put(b"%d" % number, "k")

        assert sorted(given) == [b"0", b"1", b"2"], "each to one"

    async def test_who_gives_up_waiting_takes_nothing_with_him(self, queue: Queue) -> None:
        assert await self.nothing_for(queue, 0.1 * self.visibility_s)
        await queue.put(b"work", "k")

        assert (await self.taken(queue)).attempt == 1

    # --- done, or not ---

    async def test_what_is_done_never_comes_again(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        item = await self.taken(queue)
        await queue.done([item])
        await queue.done([item, item])
        await queue.done([])
        await queue.retry(item, 0.0)

        assert await self.nothing_for(queue, 1.5 * self.visibility_s)
        assert await queue.lag() == 0

    async def test_many_are_done_at_once(self, queue: Queue) -> None:
        for number in range(self.items_max):
            await queue.put(b"%d" % number, f"k{number % 7}")
        await queue.done(await self.all_taken(queue, self.items_max))

        assert await queue.lag() == 0

    async def test_what_its_worker_forgot_comes_again(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        first = await self.taken(queue)
        assert await self.nothing_for(queue, 0.5 * self.visibility_s)
        second = await self.taken(queue)

        assert (first.data, first.attempt) == (b"work", 1)
        assert (second.data, second.key, second.attempt) == (b"work", "k", 2)

    async def test_a_worker_that_comes_late_cannot_give_back_but_can_finish(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        late = await self.taken(queue)
        await anyio.sleep(1.1 * self.visibility_s)
        await self.taken(queue)
        await queue.retry(late, 0.0)
        assert await self.nothing_for(queue, 0.5 * self.visibility_s), "somebody else holds it"
        await queue.done([late])

        assert await self.nothing_for(queue, self.visibility_s)
        assert await queue.lag() == 0

    # --- retrying ---

    async def test_what_is_retried_comes_after_the_delay(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        await queue.retry(await self.taken(queue), 0.5 * self.visibility_s)
        await queue.put(b"other", "k")

        assert (await self.taken(queue)).data == b"other", "it holds nobody up"
        assert await self.nothing_for(queue, 0.3 * self.visibility_s)
        again = await self.taken(queue)
        assert (again.data, again.attempt) == (b"work", 2)

    async def test_what_is_given_back_need_not_wait_for_the_workers_time(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        await queue.retry(await self.taken(queue), 0.0)

        with anyio.fail_after(0.5 * self.visibility_s):
            assert [item.attempt for item in await queue.take(1)] == [2]

    async def test_it_is_given_back_once(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        item = await self.taken(queue)
        await queue.retry(item, 0.0)
        await queue.retry(item, 10 * self.visibility_s)  # no longer held: nothing happens

        with anyio.fail_after(0.5 * self.visibility_s):
            assert [item.attempt for item in await queue.take(1)] == [2]

    async def test_the_longest_waiting_comes_first_though_it_was_given_out_before(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        await queue.retry(await self.taken(queue), 0.1 * self.visibility_s)
        await anyio.sleep(0.3 * self.visibility_s)
        await queue.put(b"newer", "k")

        assert [item.data for item in await self.all_taken(queue, 2, limit=1)] == [b"work", b"newer"]

    async def test_a_delay_may_be_longer_than_what_a_worker_has(self, queue: Queue) -> None:
        await queue.put(b"work", "k")
        await queue.retry(await self.taken(queue), 2 * self.visibility_s)

        assert await self.nothing_for(queue, 1.5 * self.visibility_s)
        assert (await self.taken(queue)).attempt == 2

    @pytest.mark.parametrize("delay_s", [-0.1, float("nan"), float("inf"), "1", None, True])
    async def test_a_delay_that_is_none_is_refused(self, queue: Queue, delay_s: Any) -> None:
        await queue.put(b"work", "k")
        item = await self.taken(queue)
        with pytest.raises(BadRequestError):
            await queue.retry(item, delay_s)
        await queue.done([item])

    # --- bounds and ends ---

    async def test_the_lag_counts_what_is_not_done(self, queue: Queue) -> None:
        assert await queue.lag() == 0
        for number in range(3):
            await queue.put(b"%d" % number, "k")
        first, second = await self.all_taken(queue, 2)
        assert await queue.lag() == 3, "what is being held counts"
        await queue.done([first])
        await queue.retry(second, self.visibility_s)

        assert await queue.lag() == 2

    async def test_a_full_queue_refuses_and_has_room_again(self, queue: Queue) -> None:
        if not self.bounded:
            pytest.skip("this queue refuses nothing")
        for number in range(self.items_max):
            await queue.put(b"%d" % number, "k")
        with pytest.raises(OverloadedError) as caught:
            await queue.put(b"one too many", "k")
        assert caught.value.retryable
        assert caught.value.retry_after_s
        first = await self.taken(queue)
        with pytest.raises(OverloadedError):
            await queue.put(b"what is being worked on counts", "k")
        await queue.done([first])
        await queue.put(b"room", "k")

        assert await queue.lag() == self.items_max

    async def test_closing_ends_what_waits(self, queue: Queue) -> None:
        ended: list[Exception] = []

        async def wait() -> None:
            try:
                await queue.take(1)
            except ClosedError as error:
                ended.append(error)

        with anyio.fail_after(self.soon_s):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(0.1 * self.visibility_s)
                await queue.aclose()
        await queue.aclose()

        assert len(ended) == 1
        for call in (
            lambda: queue.put(b"work", "k"),
            lambda: queue.take(1),
            queue.lag,
            lambda: queue.done([]),
        ):
            with pytest.raises(ClosedError):
                await call()
