"""After the machine slept, or the network changed: looking at once, instead of waiting for heartbeats."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import CaughtUp, Connected, Reconnecting
from chatkit.ports import Ports
from chatkit.testing.virtual_time import VirtualClock
from chatkit.transport.base import TransportClosedError
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, client, head, until
from .foretold import FixedRandom, foretold_ports


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def online(server: FakeServer, chat: object) -> Line:
    line = await server.accept()
    await line.log_in(head(0))
    await until(chat, CaughtUp)  # type: ignore[arg-type]
    line.received.clear()
    return line


def clocked() -> tuple[VirtualClock, Ports]:
    clock = VirtualClock()
    return clock, Ports(clock=clock, random=FixedRandom(0.5), ids=foretold_ports().ids)


async def test_a_line_that_died_in_the_sleep_is_given_up_in_seconds(server: FakeServer) -> None:
    clock, ports = clocked()
    async with client(server, ports=ports) as chat:
        await online(server, chat)
        clock.ahead_ms += 600_000
        woken_at_s = anyio.current_time()
        retry, _ = await until(chat, Reconnecting)
        assert anyio.current_time() - woken_at_s <= 2 + 5
        assert "slept" in str(retry.cause)
        await server.accept()


async def test_a_line_that_lived_through_it_stays(server: FakeServer) -> None:
    clock, ports = clocked()
    async with client(server, ports=ports) as chat:
        line = await online(server, chat)
        for _ in range(3):
            clock.ahead_ms += 600_000
            await line.expect(ev.Ping)
            line.push(ev.Pong(server_ts=0))
            await anyio.sleep(7)
        assert (chat.last_failure, server.tries) == (None, 1)


@pytest.mark.parametrize("jump_ms", [4_000, -600_000])
async def test_a_corrected_clock_is_no_sleep(server: FakeServer, jump_ms: int) -> None:
    clock, ports = clocked()
    async with client(server, ports=ports) as chat:
        line = await online(server, chat)
        clock.ahead_ms += jump_ms
        await anyio.sleep(9)
        assert list(line.received) == []


async def test_a_sleep_ends_the_wait_before_the_next_try(server: FakeServer) -> None:
    clock, ports = clocked()
    config = ClientConfig(backoff_base_s=100, backoff_max_s=100)
    async with client(server, ports=ports, config=config) as chat:
        server.refusals.append(TransportClosedError(1006))
        await until(chat, Reconnecting)
        await anyio.sleep(3)
        clock.ahead_ms += 600_000
        await server.accept()
        assert anyio.current_time() < 6


async def test_reconnect_drops_what_there_is_and_waits_for_nothing(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(backoff_base_s=100, backoff_max_s=100)) as chat:
        line = await online(server, chat)
        before_s = anyio.current_time()
        chat.reconnect()
        again = await server.accept()
        assert line.ended is not None
        assert anyio.current_time() - before_s == pytest.approx(0.1)
        await again.log_in(head(0))
        await until(chat, Connected)

        again.close(1006)
        await until(chat, Reconnecting)
        await anyio.sleep(1)
        chat.reconnect()
        await server.accept()
        assert anyio.current_time() - before_s < 2


async def test_reconnect_gives_up_a_try_that_hangs(server: FakeServer) -> None:
    class Hanging(FakeServer):
        async def connect(self, subprotocol: str) -> Line:
            if self.tries == 0:
                self.tries += 1
                await anyio.sleep_forever()
            return await super().connect(subprotocol)

    server = Hanging()
    async with client(server) as chat:
        await anyio.sleep(1)
        chat.reconnect()
        await server.accept()
        assert anyio.current_time() == pytest.approx(1.1)


async def test_no_hurry_goes_before_what_a_server_asked(server: FakeServer) -> None:
    async with client(server) as chat:
        server.refusals.append(TransportClosedError(1006, "busy", retry_after_s=20.0))
        await until(chat, Reconnecting)
        for _ in range(5):
            chat.reconnect()
            await anyio.sleep(1)
        await server.accept()
        assert anyio.current_time() == pytest.approx(20.0)


async def test_a_loop_that_calls_reconnect_tries_ten_times_a_second_at_most(server: FakeServer) -> None:
    server.refusals.extend(TransportClosedError(1006) for _ in range(10_000))
    async with client(server) as chat:
        for _ in range(1000):
            chat.reconnect()
            await anyio.sleep(0.001)
        assert server.tries <= 11


async def test_check_connection_says_whether_the_server_answers(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await online(server, chat)

        async def pong() -> None:
            await line.expect(ev.Ping)
            line.push(ev.Pong(server_ts=0))

        async with anyio.create_task_group() as group:
            group.start_soon(pong)
            assert await chat.check_connection()
        began_s = anyio.current_time()
        assert not await chat.check_connection(2.0)
        assert anyio.current_time() - began_s == pytest.approx(2.0)
        await server.accept()
        assert not await chat.check_connection()  # not logged in
