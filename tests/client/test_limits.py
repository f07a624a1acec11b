"""The SDK against a server with limits: it waits, keeps the order, and does not run into them again and again."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from chatkit import ChatClient, ChatServer, Identity, Limits, MemoryConnector, Rate, ServerConfig, open_store
from chatkit.server.connection import Connection
from chatkit.storage.base import Store

from .foretold import foretold_ports


async def by_name(token: str) -> Identity:
    return Identity(token)


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The code of every refusal that servers answer with."""
    codes: list[str] = []
    refuse = Connection.refuse

    def noted(self: Connection, error: Any, *args: Any) -> None:
        codes.append(error.code)
        refuse(self, error, *args)

    monkeypatch.setattr(Connection, "refuse", noted)
    return codes


def limited(store: Store, **limits: Any) -> ChatServer:
    config = ServerConfig(limits=Limits(**limits))
    return ChatServer(store=store, authenticate=by_name, config=config, ports=foretold_ports())


def client(server: ChatServer, user_id: str) -> ChatClient:
    return ChatClient(
        "ws://test",
        token=user_id,
        device_id="phone",
        connector=MemoryConnector(server),
        ports=foretold_ports(),
    )


async def stored(store: Store, conversation_id: str) -> list[str]:
    """The texts of a log, in order."""
    page = await store.page(conversation_id, "ann", 1, 10_000, 10**9)
    return [msgspec.json.decode(entry.payload)["text"] for entry in page.entries]


async def send_all(chat: ChatClient, conversation_id: str, count: int) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(_send, chat, conversation_id, f"{number}")


async def _send(chat: ChatClient, conversation_id: str, text: str) -> None:
    await chat.send(conversation_id, text, timeout=10_000)


async def test_a_burst_of_1000_is_stored_in_order_at_the_allowed_rate_with_few_refusals(
    refusals: list[str],
) -> None:
    store = open_store("memory://")
    async with limited(store) as server:
        await server.create_conversation("GROUP", "ann", ["ann", "ben"], conversation_id="c-1")
        async with client(server, "ann") as chat:
            began_s = anyio.current_time()
            await send_all(chat, "c-1", 1_000)
            took_s = anyio.current_time() - began_s
        texts = await stored(store, "c-1")

    assert texts == [str(number) for number in range(1_000)]
    assert 97 <= took_s < 130  # 30 at once, 970 at 10 a second
    assert len(refusals) < 300  # the first window, once
    assert refusals.count("RATE_LIMITED") < 10


async def test_another_conversation_goes_on_where_the_limit_is_that_of_a_conversation(
    refusals: list[str],
) -> None:
    store = open_store("memory://")
    limits = {"sends_per_user": None, "sends_per_conversation": Rate(1, 5)}
    async with limited(store, **limits) as server:
        for name in ("c-1", "c-2"):
            await server.create_conversation("GROUP", "ann", ["ann", "ben"], conversation_id=name)
        async with client(server, "ann") as chat, anyio.create_task_group() as tasks:
            began_s = anyio.current_time()
            tasks.start_soon(send_all, chat, "c-1", 50)
            await anyio.sleep(0.5)
            await _send(chat, "c-2", "at once")
            at_once_s = anyio.current_time() - began_s
        texts = [await stored(store, name) for name in ("c-1", "c-2")]

    assert at_once_s < 0.6
    assert texts == [[str(number) for number in range(50)], ["at once"]]
    assert refusals.count("RATE_LIMITED") < 5


async def test_conversations_that_share_the_rate_of_their_user_all_get_through_in_order(
    refusals: list[str],
) -> None:
    store = open_store("memory://")
    async with limited(store, sends_per_user=Rate(10, 5)) as server:
        names = [f"c-{number}" for number in range(8)]
        for name in names:
            await server.create_conversation("GROUP", "ann", ["ann", "ben"], conversation_id=name)
        async with client(server, "ann") as chat, anyio.create_task_group() as tasks:
            began_s = anyio.current_time()
            for name in names:
                tasks.start_soon(send_all, chat, name, 25)
        took_s = anyio.current_time() - began_s
        texts = [await stored(store, name) for name in names]

    assert texts == [[str(number) for number in range(25)]] * 8
    assert took_s < 60  # 200 at 10 a second need 20
    assert refusals.count("RATE_LIMITED") < 200
