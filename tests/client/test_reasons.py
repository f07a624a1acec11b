"""Why there is no connection: in errors, in `last_failure`, and once in the log for each kind."""

from __future__ import annotations

import logging

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import CaughtUp, Connected, Reconnecting
from chatkit.errors import ClosedError, DeadlineExceededError, SendOutcomeUnknownError
from chatkit.transport.base import ConnectFailedError, TransportClosedError
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, until

NOBODY = "nobody listens at chat.test:80 (connection refused)"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def refusing(server: FakeServer, count: int = 1000) -> None:
    server.refusals.extend(ConnectFailedError("refused", NOBODY) for _ in range(count))


async def test_every_wait_that_ends_for_want_of_a_connection_says_why(server: FakeServer) -> None:
    refusing(server)
    async with client(server, config=ClientConfig(request_timeout_s=5, close_timeout_s=0)) as chat:
        assert chat.last_failure is None
        calls = [
            chat.wait_connected(5),
            chat.recall("m-1", timeout=5),
            chat.send("c-1", "hi", timeout=5),
        ]
        for call in calls:
            with pytest.raises((DeadlineExceededError, SendOutcomeUnknownError)) as caught:
                await call
            assert NOBODY in str(caught.value)
            assert isinstance(caught.value.__cause__, ConnectFailedError)
            assert caught.value.__cause__.kind == "refused"
        assert str(chat.last_failure) == NOBODY
    assert str(chat.last_failure) == NOBODY


async def test_a_connected_client_says_that_it_is(server: FakeServer) -> None:
    refusing(server, 1)
    async with client(server, config=ClientConfig(close_timeout_s=0)) as chat:
        await (await server.accept()).log_in()
        await until(chat, Connected)
        assert chat.last_failure is None
        with pytest.raises(SendOutcomeUnknownError, match=r"\(connected\); it stays queued") as caught:
            await chat.send("c-1", "hi", timeout=1)
        assert caught.value.__cause__ is None


async def test_a_login_that_is_refused_for_now_is_a_reason(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(ev.ErrorEvent("OVERLOADED", "the node is full", True, 60_000))
        line.close(4002, "overloaded")
        with pytest.raises(DeadlineExceededError, match=r"4002 overloaded \(OVERLOADED: the node is full\)"):
            await chat.wait_connected(5)


async def test_an_error_of_the_apps_token_callable_is_a_reason(server: FakeServer) -> None:
    def broken() -> str:
        raise RuntimeError("the login service is down")

    async with client(server, token=broken) as chat:
        with pytest.raises(DeadlineExceededError, match="the login service is down") as caught:
            await chat.wait_connected(5)
        assert isinstance(caught.value.__cause__, RuntimeError)


async def test_one_warning_for_each_kind_of_failure_and_again_after_a_stable_connection(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "chatkit.client")
    for _ in range(5):
        refusing(server, 3)
        server.refusals.append(ConnectFailedError("status", "the upgrade was answered with 404", status=404))
    async with client(server) as chat:
        line = await server.accept()
        assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
            "no connection, trying again"
        ] * 2
        await line.log_in()
        await until(chat, CaughtUp)
        await anyio.sleep(11)
        refusing(server, 3)
        line.close(1006)
        await server.accept()
        assert len(caplog.records) == 3


async def refused(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.close(4101, "the token is not valid")
        await chat.wait_connected(5)


async def test_a_refusal_for_good_is_not_said_to_be_tried_again(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ClosedError, match="4101 the token is not valid"):
        await refused(server)
    (record,) = caplog.records
    assert record.getMessage().startswith("no connection, and no further try: ")


@pytest.mark.parametrize(("code", "delay_s"), [(1001, 2.0), (1012, 2.0), (1006, 0.25)])
async def test_an_end_that_everybody_shares_spreads_the_return(
    server: FakeServer, code: int, delay_s: float
) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        line.close(code)
        retry, _ = await until(chat, Reconnecting)
        assert retry.delay_s == delay_s
        assert isinstance(chat.last_failure, TransportClosedError)
