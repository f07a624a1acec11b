"""What proves membership and what does not; and answers to sends that come before the heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit.client.events import CaughtUp, ConversationChanged, MessageReceived, MessageSent
from chatkit.wire import events as ev

from .fake_server import FakeServer, ack, client, head, new, until, welcome


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def send(chat: Any, key: str = "k") -> None:
    await chat.send("c-1", "hi", client_msg_id=key)


async def test_the_same_answer_after_leaving_revives_nothing(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        await until(chat, CaughtUp)
        line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
        await until(chat, ConversationChanged)
        async with anyio.create_task_group() as group:
            group.start_soon(send, chat)
            line.push(ack(await line.expect(ev.SendMsg), 3))
        await line.quiet(5)

        assert chat.heads == {}
        assert (await until(chat, MessageSent))[0].sent.seq == 3


async def test_the_same_answer_in_a_conversation_that_the_heads_do_not_name_makes_none(
    server: FakeServer,
) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        async with anyio.create_task_group() as group:
            group.start_soon(send, chat)
            line.push(ack(await line.expect(ev.SendMsg), 3))
        line.close(1006)
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        await line.quiet(5)
        assert chat.heads == {}

        line.push(
            ev.Behind("c-1", "e1", 3)
        )  # this does prove it; the app is not notified of the own message again
        await line.page(new(2), new(3, sender="u-1", key="k"), up_to=3)
        await line.expect(ev.DeliveredAck)
        line.push(new(4))
        received = [(await until(chat, MessageReceived))[0].message.seq for _ in range(2)]
        assert received == [2, 4]
        assert list(chat.heads) == ["c-1"]


@pytest.mark.parametrize(
    "proof", [new(3), ev.Behind("c-1", "e1", 3), ev.ConversationPush("c-1", "GROUP", "JOINED")]
)
async def test_live_events_bring_a_left_conversation_back(server: FakeServer, proof: object) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
        await until(chat, ConversationChanged)
        line.push(proof)
        await anyio.sleep(0.01)

        assert list(chat.heads) == ["c-1"]


async def test_an_answer_before_its_heads_is_told_once_even_if_the_app_dies_before_them(
    server: FakeServer, tmp_path: Path
) -> None:
    path, shown = str(tmp_path / "chat.db"), list[str]()
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(welcome())
        async with anyio.create_task_group() as group:
            group.start_soon(send, chat)
            sent = await line.expect(ev.SendMsg)
            line.push(ack(sent, 1))
            await anyio.sleep(1)
            assert chat.pending_count == 1  # the answer waits for the heads: nothing is half stored
            group.cancel_scope.cancel()
        await chat.aclose(0)
        shown += [type(event).__name__ async for event in chat.events()]
    server = FakeServer()
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(1))
        again = await line.expect(ev.SendMsg)
        assert again == sent
        await line.page(new(1, sender="u-1", key="k"), up_to=1)
        line.push(ack(again, 1))
        await anyio.sleep(1)
        await chat.aclose(0)
        shown += [type(event).__name__ async for event in chat.events()]

    assert [name for name in shown if name.startswith("Message")] == ["MessageSent"]


async def test_an_answer_before_its_heads_counts_once_they_come(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(welcome())
        group.start_soon(send, chat)
        line.push(ack(await line.expect(ev.SendMsg), 3))
        await anyio.sleep(0.1)
        line.push(ev.Heads([head(3, delivered=2)], False))

        assert (await until(chat, MessageSent))[0].sent.seq == 3
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 3
        assert chat.pending_count == 0


async def test_an_answer_before_the_heads_counts_also_where_the_conversation_is_left_right_then(
    server: FakeServer,
) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        group.start_soon(send, chat)
        line = await server.accept()
        hello = await line.expect(ev.Hello)
        line.push(welcome(hello.device_id))
        line.push(ack(await line.expect(ev.SendMsg), 3))
        line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"), ev.Heads([], False))
        assert (await until(chat, MessageSent))[0].sent.seq == 3
        assert chat.pending_count == 0


async def test_the_same_answer_again_is_remembered_once(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        for _ in range(20):
            async with anyio.create_task_group() as group:
                group.start_soon(send, chat)
                line.push(ack(await line.expect(ev.SendMsg), 3))
        runtime = chat._runtime
        assert runtime is not None
        assert list(runtime.conversations.unknown["c-1"].own) == [3]
