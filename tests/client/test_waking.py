"""After the machine slept, or the network changed: looking at once, instead of waiting for heartbeats."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import CaughtUp, Connected, Disconnected, Reconnecting
from chatkit.errors import BadRequestError, ClosedError
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


async def test_reconnect_gives_up_a_login_that_hangs_and_forgives_its_late_hello(server: FakeServer) -> None:
    async with client(server) as chat:
        hung = await server.accept()
        await hung.expect(ev.Hello)
        chat.reconnect()
        line = await server.accept()
        assert anyio.current_time() == pytest.approx(0.1)
        assert hung.ended is not None
        await line.log_in(head(0))
        await until(chat, CaughtUp)

        line.close(4201, "replaced")  # by the HELLO of the try that was given up
        assert (await until(chat, Disconnected))[0].will_retry
        await server.accept()


async def test_reconnect_gives_up_a_login_whose_welcome_comes_just_then(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        chat.reconnect()
        await (await server.accept()).log_in(head(0))
        assert anyio.current_time() == pytest.approx(0.1)
        assert line.ended is not None
        await until(chat, CaughtUp)


async def test_reconnect_leaves_out_the_wait_that_a_failing_token_callable_is_given(
    server: FakeServer,
) -> None:
    asked_at_s: list[float] = []

    async def token() -> str:
        asked_at_s.append(anyio.current_time())
        if len(asked_at_s) == 8:
            await anyio.sleep(5)
        raise RuntimeError("the login service is down")

    async with client(server, token=token) as chat:
        await anyio.sleep(60)
        before = len(asked_at_s)
        assert asked_at_s[-1] - asked_at_s[-2] > 10
        for _ in range(3):  # the second one cuts a call under way, which is no fault of the callable
            chat.reconnect()
            await anyio.sleep(1)
        assert len(asked_at_s) == before + 3


async def test_a_wish_that_was_granted_does_not_shorten_a_later_wait(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(backoff_base_s=20, backoff_max_s=20)) as chat:
        line = await online(server, chat)
        assert not await chat.check_connection(0)
        line = await server.accept()
        await chat.check_connection(0)  # while that one logs in
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        lost_at_s = anyio.current_time()
        line.close(1006)
        await server.accept()
        assert anyio.current_time() - lost_at_s == pytest.approx(10)


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


async def test_check_connection_spares_a_connection_that_was_made_while_it_asked(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await online(server, chat)
        answers: list[tuple[bool, float]] = []

        async def check() -> None:
            answers.append((await chat.check_connection(5.0), anyio.current_time()))

        group.start_soon(check)
        await line.expect(ev.Ping)
        ended_at_s = anyio.current_time()
        line.close(1006)
        again = await server.accept()
        assert anyio.current_time() - ended_at_s == pytest.approx(0.1), "the wait is left out"
        await again.log_in(head(0))
        await until(chat, CaughtUp)
        await anyio.sleep(9)
        assert answers == [(False, ended_at_s)]
        assert (again.ended, server.tries) == (None, 2)


@pytest.mark.parametrize("hangs_in", ["opening", "login"])
async def test_check_connection_again_and_again_lets_a_slow_try_come_to_its_end(hangs_in: str) -> None:
    class Slow(FakeServer):
        async def connect(self, subprotocol: str) -> Line:
            await anyio.sleep(4 if hangs_in == "opening" else 0)
            return await super().connect(subprotocol)

    server = Slow()
    async with client(server) as chat, anyio.create_task_group() as group:

        async def answer() -> None:
            line = await server.accept()
            await anyio.sleep(4 if hangs_in == "login" else 0)
            await line.log_in(head(0))
            while True:
                await line.expect(ev.Ping)
                line.push(ev.Pong(server_ts=0))

        group.start_soon(answer)
        answers = []
        for _ in range(4):
            answers.append(await chat.check_connection())
            await anyio.sleep(3)
        assert (answers, server.tries) == ([False, False, True, True], 1)
        group.cancel_scope.cancel()


async def test_closing_ends_check_connection(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await online(server, chat)

        async def check() -> None:
            with pytest.raises(ClosedError):
                await chat.check_connection(100.0)
            assert anyio.current_time() < 1

        group.start_soon(check)
        await line.expect(ev.Ping)
        await chat.aclose()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
async def test_a_time_that_is_none_is_refused_as_by_the_other_calls(
    server: FakeServer, timeout: object
) -> None:
    async with client(server) as chat:
        line = await online(server, chat)
        with pytest.raises(BadRequestError, match="timeout"):
            await chat.check_connection(timeout)  # type: ignore[arg-type]
        with pytest.raises(BadRequestError, match="timeout"):
            await chat.aclose(timeout)  # type: ignore[arg-type]
        chat.pending()
        chat.reconnect()  # it is open still
        assert line.ended is None
