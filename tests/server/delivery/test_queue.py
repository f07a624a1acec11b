"""A worker that goes by a queue: as soon as without one, and nothing is lost with what the queue loses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from chatkit.errors import ConfigurationError, OverloadedError, UnavailableError
from chatkit.observability.instrument import Instrument
from chatkit.ports import Ports, SystemIds
from chatkit.queue.local import LocalQueue
from chatkit.server.config import ServerConfig
from chatkit.server.delivery.config import DeliveryConfig
from chatkit.server.delivery.feed import WAITING_MAX, QueueFeed
from chatkit.server.delivery.worker import DeliveryWorker
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer
from chatkit.storage.base import Entry
from tests.observability.recorder import Recorder
from tests.server.harness import GatedStore, HarnessServer, by_name, group

from .test_server import register
from .world import CLOCK, ScriptedProvider


class LossyQueue(LocalQueue):
    """Loses what is put, or refuses it, if told to."""

    def __init__(self) -> None:
        super().__init__(clock=CLOCK)
        self.fate: Callable[[], bool] = lambda: True
        self.puts = 0

    async def put(self, data: bytes, key: str) -> None:
        self.puts += 1
        if self.fate():
            await super().put(data, key)


@asynccontextmanager
async def serving(
    queue: LossyQueue, provider: ScriptedProvider, instruments: Sequence[Instrument] = ()
) -> AsyncIterator[HarnessServer]:
    server = HarnessServer(
        store=GatedStore(),
        authenticate=by_name,
        config=ServerConfig(limits=Limits.unlimited()),
        ports=Ports(CLOCK),
        push={"scripted": provider},
        delivery=DeliveryConfig(),
        queue=queue,
        instruments=instruments,
    )
    async with server:
        await group(server, "ann", "bob")
        await register(server, "bob", "phone")
        await anyio.sleep(60)
        yield server


async def send(server: ChatServer, words: str = "hello") -> None:
    await server.send("g-1", "ann", words, client_msg_id=SystemIds().token_bytes(8).hex())


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


async def test_a_worker_with_a_queue_says_how_far_it_is(provider: ScriptedProvider) -> None:
    seen = Recorder()
    async with serving(LossyQueue(), provider, [seen]) as server:
        await send(server)
        await anyio.sleep(20)

    assert len(provider.sent) == 1
    assert {lag.working for lag in seen.named("queue lag")} == {True}
    assert len(seen.named("queue lag")) >= 7


async def test_a_push_comes_soon_after_its_time(provider: ScriptedProvider) -> None:
    queue = LossyQueue()
    async with serving(queue, provider) as server:
        await send(server)
        await anyio.sleep(4.9)
        assert provider.sent == []
        await anyio.sleep(1.2)
        assert len(provider.sent) == 1
        await anyio.sleep(100)
        assert len(provider.sent) == 1
        assert await queue.lag() == 0


async def test_what_the_queue_loses_is_found_in_the_outbox(provider: ScriptedProvider) -> None:
    queue = LossyQueue()
    async with serving(queue, provider) as server:
        queue.fate = lambda: False
        await send(server)
        await anyio.sleep(34)
        assert provider.sent == []
        await anyio.sleep(3)
        assert len(provider.sent) == 1


@pytest.mark.parametrize(
    "error", [OverloadedError("full", retry_after_s=1), UnavailableError("away", retry_after_s=1)]
)
async def test_a_queue_that_refuses_costs_nothing_but_time(
    provider: ScriptedProvider, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> bool:
        raise error

    queue = LossyQueue()
    async with serving(queue, provider) as server:
        queue.fate = refuse
        await send(server)
        await anyio.sleep(40)
        assert len(provider.sent) == 1
        queue.fate = lambda: True
        await send(server, "again")
        await anyio.sleep(7)
        assert len(provider.sent) == 2

    assert "the delivery queue takes nothing" in caplog.text


async def test_a_queue_that_cannot_be_read_is_read_again(provider: ScriptedProvider) -> None:
    queue = LossyQueue()
    failures = iter([UnavailableError("away", retry_after_s=1)] * 3)
    take = queue.take

    async def failing(limit: int) -> list[object]:
        for error in failures:
            raise error
        return [*await take(limit)]

    queue.take = failing  # type: ignore[method-assign,assignment]
    async with serving(queue, provider) as server:
        await send(server)
        await anyio.sleep(7)
        assert len(provider.sent) == 1


async def test_what_nobody_here_put_is_looked_at_and_done_with(
    provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    queue = LossyQueue()
    async with serving(queue, provider) as server:
        queue.fate = lambda: False
        await send(server)
        queue.fate = lambda: True
        await anyio.sleep(10)
        await queue.put(b"nonsense", "g-1")
        await queue.put(b"nonsense", "nowhere")
        await anyio.sleep(1)
        assert len(provider.sent) == 1
        assert await queue.lag() == 0

    assert "an item of the delivery queue cannot be read" in caplog.text


async def test_a_busy_conversation_is_put_once_a_second(provider: ScriptedProvider) -> None:
    queue = LossyQueue()
    async with serving(queue, provider) as server:
        before = queue.puts
        for _ in range(100):
            await send(server)
            await anyio.sleep(0.1)
        assert 9 <= queue.puts - before <= 11
        await anyio.sleep(10)
        assert provider.sent[-1][1].badge == 100


async def test_a_resend_is_no_new_work(provider: ScriptedProvider) -> None:
    queue = LossyQueue()
    async with serving(queue, provider) as server:
        await server.send("g-1", "ann", "hello", client_msg_id="k")
        await anyio.sleep(30)
        before = queue.puts
        await server.send("g-1", "ann", "hello", client_msg_id="k")
        await anyio.sleep(30)
        assert queue.puts == before


async def test_the_feed_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    queue = LossyQueue()
    feed = QueueFeed(queue, CLOCK)
    for number in range(WAITING_MAX + 10):
        feed.stored(Entry(f"g{number}", "e", "id", 1, "ann", 0, b"", None))
    with anyio.move_on_after(5):
        await feed.run()

    assert queue.puts == WAITING_MAX
    assert "10 conversations were not put" in caplog.text


async def test_a_server_with_a_queue_is_entered_once(provider: ScriptedProvider) -> None:
    async with serving(LossyQueue(), provider) as server:
        pass
    with pytest.raises(ConfigurationError, match="queue"):
        await server.__aenter__()
    for wrong in (object(), LocalQueue, "jetstream://h"):
        with pytest.raises(ConfigurationError):
            ChatServer(store=GatedStore(), authenticate=by_name, queue=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            DeliveryWorker(GatedStore(), {}, queue=wrong)  # type: ignore[arg-type]
