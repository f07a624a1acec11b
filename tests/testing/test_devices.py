"""Devices: what a client of the fixtures may be made of, and whose login it may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatkit import ChatServer, ClosedError, ConfigurationError
from chatkit.client.store.memory import MemoryStore
from chatkit.ports import Ports
from chatkit.storage.memory import MemoryStore as ServerStore
from chatkit.testing import Devices, History


@pytest.fixture
def anyio_backend(chat_virtual: object) -> object:
    return chat_virtual


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda chat: chat("an n"), "user's id .* not 'an n'"),
        (lambda chat: chat(""), "user's id"),
        (lambda chat: chat(5), "user's id .* not 5"),
        (lambda chat: chat("ann", "the phone"), "device_id"),
        (lambda chat: chat("ann", ["phone"]), "device_id"),
        (lambda chat: chat("ann", store=7), "store must be .* not 7"),
        (lambda chat: chat("ann", store=Path("ann.db")), "a path as a string"),
        (lambda chat: chat("ann", store=MemoryStore), "store must be"),
        (lambda chat: chat("ann", store=ServerStore(ids=Ports().ids)), "store must be"),
        (lambda chat: chat("ann", codec="xml"), "codec"),
        (lambda chat: chat("ann", token=""), "ann's client cannot log in with another token"),
        (lambda chat: chat("ann", token="bob"), "ann's client cannot log in with another token"),
        (lambda chat: chat("ann", token=7), "token must be"),
    ],
)
async def test_what_can_never_work_is_refused_at_once(
    chat_client: Devices, make: Callable[[Any], object], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make(chat_client)


async def room(server: ChatServer) -> None:
    await server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")


def giving(token: str) -> Callable[[], Any]:
    async def give() -> str:
        return token

    return give


@pytest.mark.parametrize("token", ["ann", giving("ann")])
async def test_a_token_of_the_user_may_be_given(
    chat_server: ChatServer, chat_client: Devices, chat_history: History, token: Any
) -> None:
    await room(chat_server)
    async with chat_client("ann", token=token) as ann:
        assert (await ann.send("c-1", "hello")).seq == 2
        assert ann.user_id == "ann"
    assert [(call.user_id, call.result) for call in chat_history.calls if call.op == "send"] == [
        ("ann", "ok")
    ]


async def test_a_login_as_another_user_stops_the_client(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    await room(chat_server)
    ann = chat_client("ann", token=giving("bob"))
    await ann.__aenter__()
    with pytest.raises(ClosedError, match="ann's client logged in as bob"):
        await ann.wait_connected()
    with pytest.raises(ConfigurationError, match=r"chat_client\('bob'\)"):
        await ann.__aexit__(None, None, None)
    async with chat_client("bob") as bob:
        assert [message.type for message in await bob.history("c-1")] == ["MEMBER"]
