"""The queue on Kafka keeps the contract, against a broker that speaks its protocol, and outlives what happens to it.

The broker (tests/servers/kafka.py) keeps everything in memory: what is shown here is what the adapter does, not what a
cluster keeps. Joining a consumer group takes it half of the session's timeout, so that is short here, and what can be
is shown on one queue; and it answers a reader that waits for more only when the reader's time is over.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from confluent_kafka import Producer

from chatkit.errors import ClosedError, ConfigurationError, UnavailableError
from chatkit.queue import kafka
from chatkit.queue._kafka_progress import Progress
from chatkit.queue.base import Item
from chatkit.queue.kafka import KafkaQueue
from chatkit.testing.contracts.queue import AWKWARD_KEYS, QueueContract
from tests.servers.kafka import kafka_server, own_kafka
from tests.servers.process import ServerProcess, free_port

from .remote import all_done, anyio_backend, lag_becomes, put_at_last, put_many

__all__ = ["anyio_backend", "kafka_server", "own_kafka"]

numbers = itertools.count()


@asynccontextmanager
async def queue_on(server: ServerProcess, **options: Any) -> AsyncIterator[KafkaQueue]:
    """A connected queue, of a topic and a group of its own unless they are given."""
    defaults = {
        "topic": f"topic{next(numbers)}",
        "group": f"group{next(numbers)}",
        "partitions": 4,
        "session_s": 2.0,
        "options": {"fetch.wait.max.ms": 50},
    }
    queue = KafkaQueue(f"kafka://127.0.0.1:{server.port}", **{**defaults, **options})
    try:
        await queue.connect()
        yield queue
    finally:
        await queue.aclose()


class TestKafkaQueue(QueueContract):
    bounded = False
    soon_s = 30.0

    @pytest.fixture(scope="class")
    async def joined(self, kafka_server: ServerProcess) -> AsyncIterator[KafkaQueue]:
        async with queue_on(kafka_server, partitions=7, visibility_s=self.visibility_s) as queue:
            await queue.put(b"first", "k")
            await all_done(queue, 1)
            yield queue

    @pytest.fixture
    async def queue(self, joined: KafkaQueue) -> KafkaQueue:
        """The one queue, empty."""
        while await joined.lag():
            with anyio.move_on_after(0.3):
                await joined.done(await joined.take(1_000))
        return joined

    async def test_closing_ends_what_waits(self, kafka_server: ServerProcess) -> None:  # type: ignore[override]
        async with queue_on(kafka_server) as queue:
            await super().test_closing_ends_what_waits(queue)

    async def test_a_partition_is_read_no_further_than_its_bounds(
        self, queue: KafkaQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka, "UNDONE_MAX", 20)
        for number in range(100):
            await queue.put(b"%d" % number, "k")
        first = await self.all_taken(queue, 20, limit=10)
        for item in first:
            await queue.retry(item, 60.0)
        assert await self.nothing_for(queue, 0.5), "others than these are not read"
        assert await queue.lag() == 100
        monkeypatch.setattr(kafka, "UNDONE_MAX", 200)

        assert len(await self.all_taken(queue, 80)) == 80
        await queue.done(first)

    async def test_a_key_goes_to_the_partition_that_javas_clients_choose(self, queue: KafkaQueue) -> None:
        keys = [*AWKWARD_KEYS, "conversation-1", "conversation-2"]
        for key in keys:
            await queue.put(b"", key)
        items = await self.all_taken(queue, len(keys))

        assert {item.key: queue._partition_of[int(item.ticket)] for item in items} == {
            key: java_partition(key.encode("utf-8", "surrogatepass"), 7) for key in keys
        }

    async def test_a_message_that_is_no_work_is_passed_over(
        self, queue: KafkaQueue, kafka_server: ServerProcess, caplog: pytest.LogCaptureFixture
    ) -> None:
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{kafka_server.port}", "linger.ms": 0})
        for key, value in ((None, b"?"), (b"", b"?"), (b"\xff", b"?"), (b"k", None)):
            producer.produce(queue._config.topic, value, key)
            await anyio.to_thread.run_sync(producer.flush)
        await queue.put(b"work", "k")

        assert (await self.taken(queue)).data == b"work"
        with anyio.fail_after(self.soon_s):
            while caplog.text.count("no work of chatkit") < 4:
                await self.nothing_for(queue, 0.1)
        assert await queue.lag() == 1


# --- several workers ---


async def test_workers_share_ten_thousand_items_and_none_comes_twice(kafka_server: ServerProcess) -> None:
    taken: dict[int, list[Item]] = {0: [], 1: []}

    async def work(number: int, queue: KafkaQueue) -> None:
        while True:
            items = await queue.take(500)
            taken[number] += items
            await queue.done(items)

    names = {"topic": f"many{next(numbers)}", "group": f"many{next(numbers)}"}
    async with (
        queue_on(kafka_server, **names) as one,
        queue_on(kafka_server, **names) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(work, 0, one)
        tasks.start_soon(work, 1, two)
        await both_have_partitions(one, two)
        await put_many(one, range(10_000), at_once=200)
        with anyio.fail_after(60):
            while sum(map(len, taken.values())) < 10_000:
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()

    times = Counter(item.data for items in taken.values() for item in items)
    assert set(times) == {b"%d" % number for number in range(10_000)}
    assert set(times.values()) == {1}
    assert all(taken.values()), "both have worked"
    assert not {item.key for item in taken[0]} & {item.key for item in taken[1]}, "a key is one worker's"


async def both_have_partitions(*queues: KafkaQueue) -> None:
    """The group is shared out: each of its members has two of the four."""
    with anyio.fail_after(60):
        while not all(queue._reader and len(queue._reader._consumer.assignment()) == 2 for queue in queues):
            await anyio.sleep(0.05)


async def test_what_a_worker_held_comes_to_another_and_what_is_done_does_not(
    kafka_server: ServerProcess,
) -> None:
    names = {"topic": f"left{next(numbers)}", "group": f"left{next(numbers)}"}
    async with queue_on(kafka_server, **names) as gone:
        for number in range(4):
            await gone.put(b"%d" % number, "k")
        items: list[Item] = []
        while len(items) < 4:
            items += await gone.take(4)
        await gone.done([items[0], items[1], items[3]])
        await gone.retry(items[2], 3600.0)
        assert await gone.lag() == 1
    async with queue_on(kafka_server, **names) as queue:
        again = await all_done(queue, 2)
        assert await queue.lag() == 0

    assert [item.data for item in again] == [b"2", b"3"], "from the oldest on that was not done"
    assert [item.attempt for item in again] == [1, 1]


# --- a broker that goes away ---


async def test_a_put_is_refused_in_time_while_the_broker_is_gone(own_kafka: ServerProcess) -> None:
    async with queue_on(own_kafka, wait_s=1.0) as queue:
        await queue.put(b"before", "k")
        own_kafka.kill()
        for call in (lambda: queue.put(b"lost", "k"), queue.lag):
            with anyio.fail_after(15), pytest.raises(UnavailableError) as refused:
                await call()
            assert refused.value.retry_after_s


async def test_a_broker_that_lost_everything_is_filled_again(own_kafka: ServerProcess) -> None:
    async with queue_on(own_kafka, wait_s=2.0) as queue:
        for data in (b"1", b"2", b"3"):
            await queue.put(data, "k")
        old = (await queue.take(3))[0]
        own_kafka.kill()
        own_kafka.start()
        await put_at_last(queue, b"new")
        taken: list[Item] = []
        with anyio.fail_after(60):
            while b"new" not in {item.data for item in taken}:
                taken += await queue.take(10)
        await queue.done([old])  # it may have the place of the new one
        (new,) = [item for item in taken if item.data == b"new"]
        assert new.attempt == 1
        assert await queue.lag() >= 1, "what is finished is the old one"
        await queue.done(taken)

        await lag_becomes(queue, 0)


async def test_a_frozen_broker_holds_a_put_up_for_a_bounded_time(own_kafka: ServerProcess) -> None:
    async with queue_on(own_kafka, wait_s=1.0) as queue:
        await queue.put(b"before", "k")
        await all_done(queue, 1)
        own_kafka.freeze()
        with anyio.fail_after(15):
            for call in (lambda: queue.put(b"frozen", "k"), queue.lag):
                with pytest.raises(UnavailableError):
                    await call()
        own_kafka.thaw()
        await put_at_last(queue, b"after")

        with anyio.fail_after(60):
            while b"after" not in {item.data for item in await all_done(queue, 1)}:
                pass


async def test_closing_waits_for_no_frozen_broker(own_kafka: ServerProcess) -> None:
    async with queue_on(own_kafka, wait_s=1.0) as queue:
        await queue.put(b"work", "k")
        await all_done(queue, 1)
        own_kafka.freeze()
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(ClosedError):
                    await queue.take(1)

            tasks.start_soon(wait)
            await anyio.sleep(0.05)
            with anyio.fail_after(15):
                await queue.aclose()
        own_kafka.thaw()


def java_partition(key: bytes, count: int) -> int:
    """By the definition in Kafka's `BuiltInPartitioner`: murmur2 of the key, without its sign, modulo."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ len(key)) & mask
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        part = int.from_bytes(key[at : at + 4], "little") * multiplier & mask
        part = (part ^ part >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ part
    if whole < len(key):
        value = (value ^ int.from_bytes(key[whole:], "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    value ^= value >> 15
    return (value & 0x7FFFFFFF) % count


async def test_closing_leaves_no_thread_behind_though_the_broker_is_gone(own_kafka: ServerProcess) -> None:
    """librdkafka's own `close` waits for ever then, and so would the end of the process."""
    before = library_threads()
    async with queue_on(own_kafka, wait_s=1.0) as queue:
        await queue.put(b"work", "k")
        await queue.take(1)
        assert library_threads() > before
        own_kafka.kill()
        with anyio.fail_after(30):
            await queue.aclose()
            while library_threads() > before:
                await anyio.sleep(0.05)


def library_threads() -> int:
    """How many threads of librdkafka this process has."""
    names = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()]
    return sum(name.startswith("rdk:") for name in names)


# --- setting up ---


@pytest.mark.parametrize(
    "address",
    [
        "",
        "kafka://",
        "kafka://:9092",
        "kafka://host:0",
        "kafka://host:port",
        "kafka://host/path",
        "kafka://a,",
        "nats://a",
        "kafka://[::1",
        "kafka://u:secret@host",
        "kafka://a b",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigurationError, match="such as kafka://") as refused:
        KafkaQueue(address)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"topic": ""},
        {"topic": "a b"},
        {"topic": ".."},
        {"group": "x" * 250},
        {"partitions": 0},
        {"replicas": 1.5},
        {"visibility_s": 0},
        {"wait_s": float("inf")},
        {"session_s": "1"},
        {"options": "security.protocol"},
        {"options": {"no.such.option": "1"}},
    ],
)
def test_settings_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))[:6]):
        KafkaQueue("kafka://127.0.0.1", **options)


async def test_nobody_there() -> None:
    queue = KafkaQueue(f"kafka://127.0.0.1:{free_port()}", wait_s=0.5)
    with anyio.fail_after(10), pytest.raises(ConfigurationError, match="kafka://"):
        await queue.connect()
    await queue.aclose()


# --- how far a worker is ---


def test_progress_is_the_oldest_that_is_not_done_in_whatever_order_they_are_done() -> None:
    rng = random.Random(7)
    for _ in range(200):
        offsets = sorted(rng.sample(range(100, 140), rng.randint(1, 20)))
        progress = Progress(offsets[0])
        for ticket, offset in enumerate(offsets):
            progress.read(offset, ticket)
        undone = dict(enumerate(offsets))
        for ticket in rng.sample(list(undone), len(undone)):
            assert progress.done_to == min(undone.values())
            assert (progress.undone, progress.tickets) == (len(undone), list(undone))
            assert progress.span == offsets[-1] + 1 - min(undone.values())
            progress.done(ticket)
            progress.done(ticket)
            del undone[ticket]

        assert (progress.done_to, progress.span) == (offsets[-1] + 1, 0)
