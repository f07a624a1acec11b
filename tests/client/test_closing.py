"""The end: whoever waits learns it at once, each with an exception of their own, and a stop for good is not silent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from chatkit import ChatApi, ChatClient
from chatkit.client.events import CaughtUp, Disconnected
from chatkit.errors import ChatkitError, ClosedError, ForbiddenError, SendOutcomeUnknownError
from chatkit.transport.base import TransportClosedError
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, error, head, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


class Waiters:
    """Calls that wait in the background, and what they raised when."""

    def __init__(self, group: Any) -> None:
        self.raised: list[ChatkitError] = []
        self.at_s: list[float] = []
        self._group = group

    def start(self, *calls: Callable[[], Awaitable[object]]) -> None:
        for call in calls:
            self._group.start_soon(self._wait, call)

    async def _wait(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except ChatkitError as error:
            self.raised.append(error)
            self.at_s.append(anyio.current_time())


async def test_closing_offline_wakes_every_waiter_at_once(server: FakeServer) -> None:
    server.refusals.extend(TransportClosedError(1006, "down") for _ in range(100))
    async with anyio.create_task_group() as group:
        waiters = Waiters(group)
        async with client(server) as chat:
            waiters.start(
                lambda: chat.recall("m-1"),
                lambda: chat.history("c-9"),
                lambda: chat.wait_connected(),
                lambda: chat.wait_connected(),
                lambda: chat.send("c-1", "hi"),
            )
            await anyio.sleep(0.1)
            assert await chat.aclose(0) == 1
            await anyio.sleep(0.1)

            assert len(waiters.raised) == 5
            kinds = sorted(type(each).__name__ for each in waiters.raised)
            assert kinds == ["ClosedError"] * 4 + ["SendOutcomeUnknownError"]
            assert max(waiters.at_s) < 0.11
            assert len({id(each) for each in waiters.raised}) == 5
            for call in (chat.recall("m-1"), chat.history("c-1"), chat.mark_read("c-1", 1)):
                with pytest.raises(ClosedError):
                    await call


async def test_closing_ends_what_is_under_way(server: FakeServer, tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        waiters = Waiters(group)
        async with client(server, store=str(tmp_path / "chat.db")) as chat:
            line = await server.accept()
            await line.log_in(head(5, delivered=5))
            await until(chat, CaughtUp)
            waiters.start(lambda: chat.recall("m-1"), lambda: chat.history("c-1"))
            await line.expect(ev.Recall)
        left_at_s = anyio.current_time()
        await anyio.sleep(1)

    assert [type(each) for each in waiters.raised] == [ClosedError] * 2
    assert max(waiters.at_s) <= left_at_s


async def test_closing_ends_a_status_that_has_no_answer(server: FakeServer) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with anyio.create_task_group() as group:
        waiters = Waiters(group)
        async with client(server) as chat:
            await (await server.accept()).log_in()
            http = httpx.AsyncClient(transport=httpx.MockTransport(never))
            chat._runtime.api = ChatApi("http://chat.test", token="t", client=http)  # type: ignore[union-attr]
            waiters.start(lambda: chat.status("m-1"))
            await anyio.sleep(0.1)
    assert [type(each) for each in waiters.raised] == [ClosedError]
    assert waiters.at_s == [pytest.approx(0.1)]


async def test_one_refusal_is_a_fresh_exception_for_each_who_waits(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        waiters = Waiters(group)
        line = await server.accept()
        await line.log_in(head(0))
        for _ in range(2):
            waiters.start(lambda: chat.send("c-1", "hi", client_msg_id="k"))
        line.push(error(await line.expect(ev.SendMsg), "FORBIDDEN", retryable=False))
        await anyio.sleep(0.1)

        first, second = waiters.raised
        assert isinstance(first, ForbiddenError) and isinstance(second, ForbiddenError)
        assert first is not second


async def test_a_stop_for_good_is_raised_at_the_end_and_tells_why(server: FakeServer) -> None:
    chat = client(server)
    with pytest.raises(ClosedError) as left:
        await _banned(server, chat)

    assert isinstance(left.value.__cause__, TransportClosedError)
    assert left.value.__cause__ is chat.stopped
    assert left.value.__cause__.close_code == 4202


async def _banned(server: FakeServer, chat: ChatClient) -> None:
    async with chat, anyio.create_task_group() as group:
        waiters = Waiters(group)
        line = await server.accept()
        await line.log_in(head(0))
        waiters.start(lambda: chat.send("c-1", "hi"), lambda: chat.recall("m-1"))
        await line.expect(ev.Recall)
        line.close(4202, "banned")
        assert [event async for event in chat.events()][-1] == Disconnected(4202, "banned", False)
        await anyio.sleep(0.1)
        assert sorted(type(each).__name__ for each in waiters.raised) == [
            "ClosedError",
            "SendOutcomeUnknownError",
        ]


async def test_an_error_of_the_app_is_not_masked_by_the_stop(server: FakeServer) -> None:
    async def use() -> None:
        async with client(server) as chat:
            (await server.accept()).close(4202)
            await until(chat, Disconnected)
            raise KeyError("the app's own")

    with pytest.raises(KeyError):
        await use()


async def test_leaving_a_running_client_raises_nothing(server: FakeServer) -> None:
    async with client(server) as chat:
        await (await server.accept()).log_in()
        await until(chat, CaughtUp)
        with pytest.raises(SendOutcomeUnknownError):
            await chat.send("c-1", "hi", timeout=0)
    assert chat.stopped is None


async def test_the_close_handshake_is_ended_though_the_host_is_cancelled(server: FakeServer) -> None:
    said = list[int]()

    async def use() -> None:
        async with client(server):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        line = await server.accept()
        await line.log_in(head(1, delivered=1))

        async def aclose(code: int = 1000, reason: str = "") -> None:
            await anyio.sleep(0.1)  # as long as the other end takes to answer
            said.append(code)
            line.close(code, reason)

        line.aclose = aclose
        group.cancel_scope.cancel()
    assert said == [1000]


async def test_a_key_is_as_long_as_it_takes_to_meet_no_other(server: FakeServer) -> None:
    """Two of 2 bytes meet by chance within hundreds of messages; of 16 bytes, never."""
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        for number in range(2):
            group.start_soon(chat.send, "c-1", f"message {number}")
        keys = {(await line.expect(ev.SendMsg)).client_msg_id for _ in range(2)}
        assert [len(bytes.fromhex(key)) for key in keys] == [16, 16]
        group.cancel_scope.cancel()
