"""The queue on JetStream keeps the contract, against a real server, and outlives what happens to it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from nats.aio.client import Client

from chatkit.errors import ClosedError, ConfigurationError, UnavailableError
from chatkit.queue import _jetstream
from chatkit.queue.base import Item, Queue
from chatkit.queue.jetstream import JetStreamQueue
from chatkit.testing.contracts.queue import QueueContract
from tests.bus.remote import deaf_server, nothing_left
from tests.servers.jetstream import JetStreamProcess, cluster, jetstream_server, own_jetstream
from tests.servers.process import ServerProcess, free_port, running

from .remote import all_done, anyio_backend, lag_becomes, put_at_last, put_many

__all__ = ["anyio_backend", "jetstream_server", "own_jetstream"]

numbers = itertools.count()


def address_of(*servers: ServerProcess) -> str:
    return "jetstream://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


@asynccontextmanager
async def queue_on(*servers: ServerProcess, **options: Any) -> AsyncIterator[JetStreamQueue]:
    """A connected queue."""
    queue = JetStreamQueue(address_of(*servers), **options)
    try:
        await queue.connect()
        yield queue
    finally:
        await queue.aclose()


@asynccontextmanager
async def bare(server: ServerProcess) -> AsyncIterator[Client]:
    """A connection that is no queue: it does with the server what it likes."""
    client = Client()
    await client.connect(f"nats://127.0.0.1:{server.port}", allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


class TestJetStreamQueue(QueueContract):
    @pytest.fixture
    async def queue(self, jetstream_server: ServerProcess) -> AsyncIterator[Queue]:
        bounds = {"items_max": self.items_max, "visibility_s": self.visibility_s}
        async with queue_on(jetstream_server, prefix=f"contract{next(numbers)}", **bounds) as queue:
            yield queue


# --- several workers ---


async def test_workers_share_ten_thousand_items_and_none_comes_twice(jetstream_server: ServerProcess) -> None:
    taken: dict[int, list[Item]] = {0: [], 1: []}

    async def work(number: int, queue: JetStreamQueue) -> None:
        while True:
            items = await queue.take(100)
            taken[number] += items
            await queue.done(items)

    prefix = f"many{next(numbers)}"
    async with (
        queue_on(jetstream_server, prefix=prefix) as putting,
        queue_on(jetstream_server, prefix=prefix) as one,
        queue_on(jetstream_server, prefix=prefix) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(work, 0, one)
        tasks.start_soon(work, 1, two)
        await put_many(putting, range(10_000))
        await lag_becomes(putting, 0)
        tasks.cancel_scope.cancel()

    times = Counter(item.data for items in taken.values() for item in items)
    assert set(times) == {b"%d" % number for number in range(10_000)}
    assert set(times.values()) == {1}
    assert all(taken.values()), "both have worked"


async def test_what_a_killed_worker_held_comes_to_another(jetstream_server: ServerProcess) -> None:
    prefix = f"killed{next(numbers)}"
    async with queue_on(jetstream_server, prefix=prefix, visibility_s=0.5) as queue:
        await queue.put(b"work", "k")
        async with queue_on(jetstream_server, prefix=prefix, visibility_s=0.5) as gone:
            assert [item.attempt for item in await gone.take(1)] == [1]

        assert [(item.data, item.attempt) for item in await queue.take(1)] == [(b"work", 2)]


async def test_a_worker_that_waited_and_gave_up_takes_nothing_from_the_others(
    jetstream_server: ServerProcess,
) -> None:
    """What it asked for is brought to it once more, and it comes again when its time is half gone."""
    prefix = f"gave_up{next(numbers)}"
    async with (
        queue_on(jetstream_server, prefix=prefix, visibility_s=0.5) as idle,
        queue_on(jetstream_server, prefix=prefix, visibility_s=0.5) as other,
    ):
        with anyio.move_on_after(0.1):
            await idle.take(100)
        for number in range(10):
            await other.put(b"%d" % number, "k")
        items = await all_done(other, 10)
        assert Counter(item.attempt for item in items) in (Counter({1: 10}), Counter({1: 9, 2: 1}))
        await other.put(b"newer", "k")
        await all_done(idle, 1)

        assert await other.lag() == 0


async def test_retries_that_wait_hold_nobody_up(jetstream_server: ServerProcess) -> None:
    """More of them than JetStream lets workers hold by default (1,000)."""
    async with queue_on(jetstream_server, prefix=f"waiting{next(numbers)}") as queue:
        await put_many(queue, range(1_200))
        with anyio.fail_after(30):
            held: list[Item] = []
            while len(held) < 1_200:
                held += await queue.take(100)
            async with anyio.create_task_group() as tasks:
                for item in held:
                    tasks.start_soon(queue.retry, item, 3600.0)
            await queue.put(b"new", "k")

            assert [item.data for item in await queue.take(1)] == [b"new"]


# --- a server that goes away ---


async def test_a_put_is_refused_in_time_while_the_server_is_gone_and_all_goes_on_when_it_is_back(
    own_jetstream: JetStreamProcess,
) -> None:
    async with nothing_left(), queue_on(own_jetstream, wait_s=0.5) as queue:
        await queue.put(b"before", "k")
        async with anyio.create_task_group() as tasks:
            taken: list[Item] = []

            async def wait() -> None:
                taken.extend(await all_done(queue, 3))

            own_jetstream.kill()
            tasks.start_soon(wait)
            for call in (lambda: queue.put(b"lost", "k"), queue.lag):
                with anyio.fail_after(5), pytest.raises(UnavailableError) as refused:
                    await call()
                assert refused.value.retry_after_s
            own_jetstream.start()
            await put_at_last(queue, b"after")
            await put_at_last(queue, b"and more")

        assert {item.data for item in taken} == {b"before", b"after", b"and more"}
        await lag_becomes(queue, 0)


async def test_a_server_that_lost_everything_is_filled_again(own_jetstream: JetStreamProcess) -> None:
    async with queue_on(own_jetstream) as queue:
        for data in (b"1", b"2", b"3"):
            await queue.put(data, "k")
        old = await queue.take(1)
        own_jetstream.kill()
        own_jetstream.wipe()
        own_jetstream.start()
        await put_at_last(queue, b"new")
        (new,) = await queue.take(1)
        assert (new.data, new.attempt) == (b"new", 1)
        await queue.done(old)  # it has the number of the new one
        await queue.retry(old[0], 0.0)
        assert await queue.lag() == 1, "what is finished is the old one"
        await queue.done([new])

        assert await queue.lag() == 0


@pytest.mark.parametrize("what", ["STREAM.DELETE.chatkit-queue", "CONSUMER.DELETE.chatkit-queue.workers"])
async def test_what_somebody_deleted_is_made_again(own_jetstream: JetStreamProcess, what: str) -> None:
    async with queue_on(own_jetstream) as queue, anyio.create_task_group() as tasks:
        await queue.put(b"before", "k")
        await all_done(queue, 1)
        taken: list[Item] = []

        async def wait() -> None:
            taken.extend(await all_done(queue, 1))

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        async with bare(own_jetstream) as client:
            assert b'"success":true' in (await client.request(f"$JS.API.{what}", timeout=5)).data
        await put_at_last(queue, b"after")

    assert [item.data for item in taken] == [b"after"]


async def test_a_frozen_server_holds_a_put_up_for_a_bounded_time(own_jetstream: JetStreamProcess) -> None:
    async with queue_on(own_jetstream, wait_s=1.0) as queue:
        await queue.put(b"before", "k")
        own_jetstream.freeze()
        with anyio.fail_after(10):
            for call in (lambda: queue.put(b"frozen", "k"), queue.lag):
                with pytest.raises(UnavailableError):
                    await call()
        own_jetstream.thaw()
        await put_at_last(queue, b"after")

        assert {item.data for item in await all_done(queue, 2)} >= {b"before"}


async def test_closing_waits_for_no_frozen_server(own_jetstream: JetStreamProcess) -> None:
    async with nothing_left():
        queue = JetStreamQueue(address_of(own_jetstream))
        await queue.connect()
        own_jetstream.freeze()
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(ClosedError):
                    await queue.take(1)

            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(10):
                await queue.aclose()
        own_jetstream.thaw()


async def test_a_put_that_is_repeated_adds_one_item(
    own_jetstream: JetStreamProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stores it, and its answer is lost: the queue asks again, under the same id."""
    answers = itertools.count()
    hear = _jetstream.JetStreamConnection._hear_answer

    def lose_the_first(self: _jetstream.JetStreamConnection, message: Any) -> None:
        if b'"seq"' in message.data and next(answers) == 0:
            return
        hear(self, message)

    monkeypatch.setattr(_jetstream.JetStreamConnection, "_hear_answer", lose_the_first)
    monkeypatch.setattr(_jetstream, "ANSWER_S", 0.2)
    async with queue_on(own_jetstream) as queue:
        await queue.put(b"once", "k")

        assert next(answers) > 1, "it was repeated"
        assert await queue.lag() == 1


# --- a cluster ---


async def test_a_cluster_that_loses_a_server_loses_nothing(tmp_path: Path) -> None:
    """Three servers keep the stream; the one that leads it is killed while items are put and taken."""
    with cluster(tmp_path) as servers:
        async with (
            queue_on(*servers, replicas=3, wait_s=20.0) as queue,
            queue_on(*servers, replicas=3) as worker,
        ):
            taken: list[Item] = []

            async def work() -> None:
                taken.extend(await all_done(worker, 600, limit=20))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await put_many(queue, range(300), at_once=10)
                leader = await leader_of_the_stream(servers)
                async with anyio.create_task_group() as putting:
                    putting.start_soon(put_many, queue, range(300, 600), 10)
                    await anyio.wait_all_tasks_blocked()
                    servers[leader].kill()
            await lag_becomes(queue, 0)

    assert {item.data for item in taken} == {b"%d" % number for number in range(600)}


async def leader_of_the_stream(servers: list[JetStreamProcess]) -> int:
    async with bare(servers[0]) as client:
        answer = await client.request("$JS.API.STREAM.INFO.chatkit-queue", timeout=5)
    (name,) = [
        name
        for name in ("n0", "n1", "n2")
        if b'"leader":"%s"' % name.encode() in answer.data.replace(b" ", b"")
    ]
    return int(name[1])


# --- who may, and what is there already ---


async def test_rights_that_are_enough(tmp_path: Path) -> None:
    """Those that docs/queues.md names."""
    config = tmp_path / "nats.conf"
    rights = (
        'publish: { allow: ["chatkit.queue.*", "$JS.API.STREAM.*.chatkit-queue",'
        ' "$JS.API.CONSUMER.DURABLE.CREATE.chatkit-queue.workers", "$JS.API.CONSUMER.*.chatkit-queue.workers",'
        ' "$JS.API.CONSUMER.MSG.NEXT.chatkit-queue.workers", "$JS.ACK.chatkit-queue.>"] },'
        ' subscribe: { allow: "_INBOX.>" }'
    )
    password = "p/w#?@:%41é"
    config.write_text(
        f'authorization {{ users: [{{ user: "a@b", password: "{password}", permissions: {{ {rights} }} }}] }}'
    )
    with running(JetStreamProcess(tmp_path, "--config", str(config))) as server:
        login = f"a%40b:{quote(password, safe='')}@"
        async with nothing_left():
            queue = JetStreamQueue(f"jetstream://{login}127.0.0.1:{server.port}")
            await queue.connect()
            await queue.put(b"work", "k")
            (item,) = await queue.take(1)
            await queue.retry(item, 0.0)
            await all_done(queue, 1)
            assert await queue.lag() == 0
            await queue.aclose()
            wrong = JetStreamQueue(f"jetstream://a%40b:wrong@127.0.0.1:{server.port}", wait_s=1.0)
            with pytest.raises(ConfigurationError, match=r"(?i)authorization violation") as refused:
                await wrong.connect()
            await wrong.aclose()
    assert "wrong@" not in str(refused.value)


async def test_a_stream_that_is_somebody_elses_is_left_alone(own_jetstream: JetStreamProcess) -> None:
    async with bare(own_jetstream) as client:
        await client.jetstream().add_stream(name="chatkit-queue", subjects=["orders.*"])
    async with nothing_left():
        queue = JetStreamQueue(address_of(own_jetstream))
        with pytest.raises(ConfigurationError, match="chatkit-queue is there"):
            await queue.connect()
        await queue.aclose()


async def test_a_stream_that_is_there_keeps_its_bounds(own_jetstream: JetStreamProcess) -> None:
    async with queue_on(own_jetstream, items_max=2) as first, queue_on(own_jetstream, items_max=5) as second:
        await second.put(b"1", "k")
        await second.put(b"2", "k")
        with pytest.raises(Exception, match="full"):
            await second.put(b"3", "k")

        assert len(await all_done(first, 2)) == 2


async def test_a_message_that_is_no_work_is_passed_over(
    own_jetstream: JetStreamProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with queue_on(own_jetstream) as queue, bare(own_jetstream) as client:
        for token in ("~", "a", "_w", "YQ-"):
            await client.request(f"chatkit.queue.{token}", b"?", timeout=5)
        await client.request("chatkit.queue.x", b"", timeout=5, headers={"Status": "404"})
        await queue.put(b"work", "k")

        assert [item.data for item in await queue.take(10)] == [b"work"]
        await lag_becomes(queue, 1)
    assert "no work of chatkit" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"replicas": 0},
        {"items_max": 1.5},
        {"visibility_s": 0},
        {"wait_s": float("nan")},
        {"prefix": "a.b"},
        {"prefix": ""},
    ],
)
def test_settings_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        JetStreamQueue("jetstream://127.0.0.1", **options)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "jetstream://",
        "jetstream://:4222",
        "jetstream://host:0",
        "jetstream://host/path",
        "jetstream://a,",
        "nats://a",
        "jetstream://u:secret@h:port",
        "jetstream://[::1",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigurationError, match="such as jetstream://") as refused:
        JetStreamQueue(address)
    assert "secret" not in str(refused.value)


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    from tests.servers.nats import nats_process

    with running(nats_process(tmp_path)) as server:
        async with nothing_left():
            queue = JetStreamQueue(address_of(server), wait_s=1.0)
            with pytest.raises(ConfigurationError, match="JetStream"):
                await queue.connect()
            await queue.aclose()


async def test_nobody_there_and_nobody_who_speaks() -> None:
    async with nothing_left():
        with deaf_server() as port:
            for other in (port, free_port()):
                queue = JetStreamQueue(f"jetstream://127.0.0.1:{other}", wait_s=0.5)
                with anyio.fail_after(10), pytest.raises(ConfigurationError):
                    await queue.connect()
                await queue.aclose()
