"""An own message is encoded once, from `send` to the local store; whatever the app does with its dict later."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import anyio
import msgspec
import pytest

from chatkit import ChatClient
from chatkit.client.events import CaughtUp, MessageRecalled, MessageReceived, MessageSent
from chatkit.client.store.base import LocalStore
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import SqliteStore
from chatkit.wire import events as ev
from chatkit.wire.codec import Codec

from .fake_server import FakeServer, Line, ack, client, head, new, recall, until

WRITER = "chatkit.client.connection"

PAYLOAD = {
    "type": "CUSTOM",
    "schema": "s",
    "data": {"b": [1, 2.5, None, "到"], "a": True},
    "fallbackText": "",
}


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LocalStore:
    return MemoryStore() if request.param == "memory" else SqliteStore(str(tmp_path / "client.db"))


@contextmanager
def codec_calls() -> Iterator[list[tuple[str, str]]]:
    """Every call of an encoder or decoder of msgspec: the calling module, and `encode` or `decode`."""
    calls: list[tuple[str, str]] = []

    def profile(frame: FrameType, event: str, function: Any) -> None:
        kind = getattr(function, "__name__", "").rpartition("_")[
            2
        ]  # a method, or msgspec.json's `json_decode`
        owner = getattr(function, "__self__", None)
        home = type(owner).__module__ if not isinstance(owner, ModuleType) else owner.__name__
        if event == "c_call" and kind in ("encode", "decode") and home.startswith("msgspec"):
            calls.append((frame.f_globals["__name__"], kind))

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def of_payloads(calls: list[tuple[str, str]], kind: str) -> list[str]:
    """Who encoded or decoded payloads in the client: all its calls but the writer's, for the events around them."""
    modules = [module for module, called in calls if called == kind]
    return [
        module
        for module in modules
        if module.startswith(("chatkit.client", "chatkit.wire.payload")) and module != WRITER
    ]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_from_send_to_the_local_store_it_is_encoded_once(
    server: FakeServer, store: LocalStore, codec: str
) -> None:
    with codec_calls() as calls:
        async with client(server, store=store, codec=codec) as chat:
            line = await logged_in(server, chat)
            calls.clear()
            await answered_send(line, chat, seq=1)
            made = of_payloads(calls, "encode"), of_payloads(calls, "decode")
            (stored,) = store.messages("c-1", 9, 9)

    assert made == (["chatkit.wire.payload"], ["chatkit.client.inbox"])
    assert stored.payload == PAYLOAD


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_above_a_gap_too(server: FakeServer, store: LocalStore, codec: str) -> None:
    with codec_calls() as calls:
        async with client(server, store=store, codec=codec) as chat:
            line = await logged_in(server, chat)
            calls.clear()
            await answered_send(line, chat, seq=2)
            before = len(calls)
            line.push(recalled(1, line.codec))
            await until(chat, MessageReceived)
            made, later = of_payloads(calls[:before], "encode"), of_payloads(calls[before:], "encode")
            stored = store.messages("c-1", 9, 9)

    assert made == ["chatkit.wire.payload"]
    assert later.count("chatkit.client.store.base") == 1  # what closed the gap
    assert [message.payload for message in stored] == [{"type": "RECALLED"}, PAYLOAD]


async def test_what_the_app_changes_in_its_dict_is_not_sent_and_not_stored(
    server: FakeServer, store: LocalStore
) -> None:
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await logged_in(server, chat)
        given: dict[str, Any] = {**PAYLOAD, "data": {"kept": 1}}
        group.start_soon(chat.send, "c-1", given)
        await anyio.sleep(0)
        given["data"]["kept"] = 2
        send = await line.expect(ev.SendMsg)
        given["data"]["kept"] = 3
        line.push(ack(send, 1))
        await until(chat, MessageSent)

        assert send.payload["data"] == {"kept": 1}
        assert [message.payload["data"] for message in await chat.history("c-1")] == [{"kept": 1}]


async def test_an_own_message_that_is_recalled_above_a_gap_leaves_no_bytes(
    server: FakeServer, store: LocalStore
) -> None:
    async with client(server, store=store) as chat:
        line = await logged_in(server, chat)
        await answered_send(line, chat, seq=2)
        line.push(recall(3, 2, by="u-1"))
        line.push(new(1))
        await until(chat, MessageRecalled)

        assert store.messages("c-1", 3, 1)[0].payload == {"type": "RECALLED"}


async def logged_in(server: FakeServer, chat: ChatClient) -> Line:
    line = await server.accept()
    await line.log_in(head(0))
    await until(chat, CaughtUp)
    return line


async def answered_send(line: Line, chat: ChatClient, seq: int) -> None:
    """Send the payload, and give it its place in the log."""
    async with anyio.create_task_group() as group:
        group.start_soon(chat.send, "c-1", PAYLOAD)
        line.push(ack(await line.expect(ev.SendMsg), seq))


def recalled(seq: int, codec: Codec) -> ev.NewMsg:
    """An entry whose payload is in the connection's codec."""
    return msgspec.structs.replace(new(seq), payload=msgspec.Raw(codec.encode({"type": "RECALLED"})))
