"""Left by another task, used from another event loop or under trio: it works, or says at once what to do."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from chatkit import ChatApi, ChatClient, Sent
from chatkit.client.events import CaughtUp
from chatkit.errors import ConfigurationError

from .fake_server import FakeServer, client, until

GIVEN: dict[str, Any] = {
    "conversation_id": "c-1",
    "content": "hi",
    "up_to_seq": 1,
    "message_id": "m-1",
    "reason": "SPAM",
    "last_seq": 0,
    "type": "GROUP",
    "member_ids": ["ben"],
    "user_ids": ["cat"],
    "user_id": "ben",
    "client_msg_id": "k1",
    "title": "trip",
    "description": "to the sea",
    "state": "AWAY",
    "role": "ADMIN",
    "history": "FROM_START",
    "provider": "log",
    "token": "a token",
    "message": Sent("c-1", "k1", "2a-9f2c4e61a0-2", 2, 1),
    "reaction": "\N{THUMBS UP SIGN}",
    "query": "hi",
    "source": b"bytes",
    "handler": anyio.lowlevel.checkpoint,
}
"""What the calls are given, by the names of their parameters."""


def calls(of: ChatClient | ChatApi) -> list[Callable[[], Awaitable[object]]]:
    """Every public coroutine."""
    found: list[Callable[[], Awaitable[object]]] = []
    for name, function in inspect.getmembers(type(of), inspect.iscoroutinefunction):
        if not name.startswith("_"):
            parameters = list(inspect.signature(function).parameters.values())[1:]
            needed = {it.name: GIVEN[it.name] for it in parameters if it.default is it.empty}
            found.append(partial(function, of, **needed))
    return found


def on_a_real_clock(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Threads do not live in virtual time; nothing here waits for a clock."""

    def synchronous() -> None:
        anyio.run(test)

    return synchronous


async def refused_elsewhere(call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(ConfigurationError, match="another event loop"):
        await anyio.to_thread.run_sync(anyio.run, call)


@on_a_real_clock
async def test_every_coroutine_of_a_client_refuses_another_event_loop_at_once() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await (await server.accept()).log_in()
        await until(chat, CaughtUp)
        events = chat.events()
        for call in [*calls(chat), events.__anext__, partial(chat.__aexit__, None, None, None)]:
            await refused_elsewhere(call)
        assert chat.pending_count == 0
        assert chat.stopped is None


@on_a_real_clock
async def test_what_changes_a_client_without_waiting_refuses_another_event_loop_too() -> None:
    server = FakeServer()
    async with client(server) as chat:
        await (await server.accept()).log_in()
        await until(chat, CaughtUp)
        for change in (chat.reconnect, partial(chat.cancel, "c-1", "k1")):

            async def elsewhere(change: Callable[[], object] = change) -> None:
                change()

            await refused_elsewhere(elsewhere)
            with pytest.raises(ConfigurationError, match="call_soon_threadsafe"):
                await anyio.to_thread.run_sync(change)  # a thread without a loop


@on_a_real_clock
async def test_every_coroutine_of_an_api_refuses_a_second_event_loop() -> None:
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"status": "ok"}))
    )
    async with http, ChatApi("http://chat.test", token="t", client=http) as api:
        assert await api.health()
        for call in calls(api):
            await refused_elsewhere(call)


async def test_another_task_may_leave_a_client_and_the_order_is_free() -> None:
    first, second = FakeServer(), FakeServer()
    one, other = client(first), client(second)
    async with anyio.create_task_group() as enters:
        enters.start_soon(one.__aenter__)
        enters.start_soon(other.__aenter__)
    for server, chat in ((first, one), (second, other)):
        await (await server.accept()).log_in()
        await until(chat, CaughtUp)
    async with anyio.create_task_group() as leaves:
        leaves.start_soon(one.__aexit__, None, None, None)
    async with anyio.create_task_group() as leaves:
        leaves.start_soon(other.__aexit__, None, None, None)

    assert (one.stopped, other.stopped) == (None, None)


def test_websockets_under_trio_are_refused_at_entering() -> None:
    async def main() -> None:
        async with ChatClient("ws://127.0.0.1:9", token="t", device_id="phone"):
            raise AssertionError("it was entered")

    with pytest.raises(ConfigurationError, match="asyncio"):
        anyio.run(main, backend="trio")
