"""Before WELCOME and around it: where the token comes from, what a refusal asks for, and renewals."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import CaughtUp, Connected, Reconnecting
from chatkit.errors import DeadlineExceededError, ProtocolError
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, head, until, welcome


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_a_slow_token_callable_does_not_use_up_the_servers_patience(server: FakeServer) -> None:
    async def slow() -> str:
        await anyio.sleep(12)
        return "t"

    async with client(server, token=slow, config=ClientConfig(token_timeout_s=30)) as chat:
        line = await server.accept()
        assert anyio.current_time() == pytest.approx(12, abs=0.1)
        hello = await line.log_in()  # on an open connection HELLO comes at once
        assert anyio.current_time() == pytest.approx(12, abs=0.1)
        assert hello.token == "t"
        await until(chat, Connected)


async def test_a_hanging_token_callable_is_a_failed_try_and_opens_nothing(server: FakeServer) -> None:
    async def never() -> str:
        await anyio.sleep_forever()
        raise AssertionError

    async with client(server, token=never, config=ClientConfig(token_timeout_s=3)) as chat:
        first, _ = await until(chat, Reconnecting)
        second, _ = await until(chat, Reconnecting)
        assert (first.attempt, second.attempt, server.tries) == (1, 2, 0)
        assert isinstance(second.cause, DeadlineExceededError)


async def test_the_wait_that_a_refused_login_asks_for_is_kept(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(ev.ErrorEvent("OVERLOADED", "full", True, 20_000))
        line.close(4002, "overloaded")

        assert (await until(chat, Reconnecting))[0].delay_s == 25


async def test_a_server_that_drains_during_the_login_is_left_for_as_long_as_it_asks(
    server: FakeServer,
) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(ev.GoAway("drain", 8000))
        line.close(1001)

        assert (await until(chat, Reconnecting))[0].delay_s == 10


async def test_a_goaway_before_welcome_still_counts_after_it(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(goaway_wait_s=1)) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(ev.GoAway("drain", 8000))
        line.push(welcome(), ev.Heads([], False))

        retry, before = await until(chat, Reconnecting)
        assert retry.delay_s == 10
        assert any(isinstance(event, Connected) for event in before)


async def test_a_second_welcome_breaks_the_protocol(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line.push(welcome())

        assert isinstance((await until(chat, Reconnecting))[0].cause, ProtocolError)


async def test_a_renewal_that_fails_is_logged(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    async def once() -> str:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the login service is down")
        return "secret-token"

    async with client(server, token=once) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        line.push(ev.TokenExpiring(1))
        await anyio.sleep(1)

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("the login service is down" in warning for warning in warnings)
    assert "secret-token" not in caplog.text


async def test_closing_a_lost_connection_delays_the_next_try_but_little(server: FakeServer) -> None:
    class Stubborn(FakeServer):
        async def connect(self, subprotocol: str):  # type: ignore[no-untyped-def]
            line = await super().connect(subprotocol)

            async def never(code: int = 1000, reason: str = "") -> None:
                await anyio.sleep_forever()

            line.aclose = never  # type: ignore[method-assign]
            return line

    server = Stubborn()
    async with client(server, config=ClientConfig(close_timeout_s=5)) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        lost_at_s = anyio.current_time()
        line.close(1006)
        await server.accept()
        assert anyio.current_time() - lost_at_s == pytest.approx(0.5 + 0.25, abs=0.01)
