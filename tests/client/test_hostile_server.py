"""A server that sends without end: what each thing costs the client is bounded, and the app learns why it was left."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit import ChatClient, ClientConfig
from chatkit.client.events import MessageReceived, Reconnecting
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import ProtocolError
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, client, entry, head, new, until, welcome

KIB = 1024


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def small(**options: Any) -> ClientConfig:
    return ClientConfig(conversations_max=10, **options)


def text(size: int) -> dict[str, Any]:
    return {"type": "TEXT", "text": "x" * size}


async def left_because(chat: ChatClient, line: Line) -> Exception:
    """Why the client has left this connection."""
    reconnecting, _ = await until(chat, Reconnecting)
    assert line.ended is not None
    return reconnecting.cause


def named(kind: str, id_: str) -> Any:
    match kind:
        case "heads":
            return ev.Heads([head(0, id_=id_)], True)
        case "message":
            return new(1, id_=id_)
        case "behind":
            return ev.Behind(id_, "e1", 5)
        case _:
            return ev.ConversationPush(id_, "GROUP", "JOINED")


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("kind", ["heads", "message", "behind", "conversation"])
async def test_more_conversations_than_the_bound_end_the_connection(
    server: FakeServer, kind: str, complete: bool
) -> None:
    async with client(server, config=small()) as chat:
        line = await server.accept()
        hello = await line.expect(ev.Hello)
        line.push(welcome(hello.device_id), *([ev.Heads([], False)] if complete else []))
        line.push(*(named(kind, f"c-{place}") for place in range(10)))
        await anyio.sleep(0.1)
        assert line.ended is None
        line.push(named(kind, "c-one-more"))

        cause = await left_because(chat, line)
        assert isinstance(cause, ProtocolError)
        assert "more than 10 conversations" in str(cause)
        assert "c-one-more" not in chat.heads


async def test_the_client_comes_back_after_it_and_knows_what_it_knew(server: FakeServer) -> None:
    async with client(server, config=small()) as chat:
        line = await server.accept()
        await line.log_in(*(head(0, id_=f"c-{place}") for place in range(10)))
        line.push(ev.Behind("c-one-more", "e1", 1))
        await left_because(chat, line)
        line = await server.accept()
        await line.log_in(*(head(0, id_=f"c-{place}") for place in range(10)))
        line.push(new(1, id_="c-3"))

        assert (await until(chat, MessageReceived))[0].message.conversation_id == "c-3"
        assert len(chat.heads) == 10


async def test_answers_without_a_key_and_leavings_of_strangers_leave_nothing_behind(
    server: FakeServer,
) -> None:
    async with client(server, config=small()) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await anyio.sleep(0.1)
        assert chat._runtime is not None
        before = len(chat._runtime.events)
        for place in range(1000):
            line.push(
                ev.MsgAck(f"x-{place}", "e1", "m", 1, 1),
                ev.MsgAck(f"x-{place}", "e1", "m", 1, 1, "key"),
                ev.ConversationPush(f"x-{place}", "GROUP", "LEFT"),
            )
        await line.quiet(1)

        assert (len(chat._runtime.events), chat._runtime.conversations.unknown) == (before, {})


async def test_events_that_wait_are_bounded_in_bytes(server: FakeServer) -> None:
    """From the bound on nothing more is taken in; it comes by SYNC once the app has read on."""
    config = ClientConfig(events_bytes_max=100 * KIB)
    async with client(server, config=config) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        for seq in range(1, 101):
            line.push(new(seq, payload=text(10 * KIB)))
        await anyio.sleep(0.1)
        assert chat._runtime is not None
        assert chat._runtime.events.paused
        assert chat._runtime.events.size_bytes < 150 * KIB

        shown: list[int] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_pages, line, 100)
            while len(shown) < 100:
                shown.append((await until(chat, MessageReceived))[0].message.seq)
            group.cancel_scope.cancel()
        assert shown == list(range(1, 101))


async def _pages(line: Line, last: int) -> None:
    while True:
        while not any(isinstance(event, ev.Sync) for event in line.received):
            await anyio.sleep(0.01)
        sync = next(event for event in line.received if isinstance(event, ev.Sync))
        line.received.clear()
        end = min(sync.last_seq + 5, last)
        entries = [entry(new(seq, payload=text(10 * KIB))) for seq in range(sync.last_seq + 1, end + 1)]
        line.push(ev.SyncPage("c-1", "e1", last, entries, end, end < last, ref=sync.ref))


async def test_what_is_held_above_gaps_is_bounded_in_bytes_for_all_conversations(server: FakeServer) -> None:
    config = ClientConfig(held_bytes_max=100 * KIB)
    async with client(server, config=config) as chat:
        line = await server.accept()
        await line.log_in(*(head(0, id_=f"c-{place}") for place in range(50)))
        for place in range(50):
            line.push(*(new(seq, id_=f"c-{place}", payload=text(5 * KIB)) for seq in (2, 3)))
        await anyio.sleep(0.1)

        assert chat._runtime is not None
        timelines = [conversation.timeline for conversation in chat._runtime.conversations]
        assert 100 * KIB <= timelines[0]._bytes.used < 110 * KIB
        assert sum(timeline.held_count for timeline in timelines) < 25
        assert all(timeline.head == 3 for timeline in timelines)


async def test_the_store_in_memory_is_bounded_in_bytes(server: FakeServer) -> None:
    store = MemoryStore(bytes_max=100 * KIB)
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(*(head(0, id_=f"c-{place}") for place in range(5)))
        for place in range(5):
            for seq in range(1, 11):
                line.push(new(seq, id_=f"c-{place}", payload=text(5 * KIB)))
                await until(chat, MessageReceived)
                assert store.size_bytes <= 100 * KIB
        assert store.floor("c-0") == 10  # changed longest ago
        assert [it.seq for it in store.messages("c-4", 99, 99)] == list(range(1, 11))


@pytest.mark.parametrize("what", ["page", "entry", "epoch"])
async def test_a_page_of_another_log_than_asked_is_not_believed(server: FakeServer, what: str) -> None:
    other_id, other_epoch = ("c-2", "e1") if what == "page" else ("c-1", "e2" if what == "epoch" else "e1")
    entries = [entry(new(1, id_="c-2" if what != "epoch" else "c-1", epoch=other_epoch))]
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(1), head(0, id_="c-2"))
        sync = await line.expect(ev.Sync)
        line.push(ev.SyncPage(other_id, other_epoch, 1, entries, 1, False, ref=sync.ref))

        cause = await left_because(chat, line)
        assert isinstance(cause, ProtocolError)
        assert "another log" in str(cause)
        assert [it.delivered_seq for it in chat.heads.values()] == [0, 0]


async def test_a_head_may_be_named_again_and_again(server: FakeServer) -> None:
    async with client(server, config=small()) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        for _ in range(1000):
            line.push(ev.Heads([head(0)], False))
        await line.quiet(1)
        assert len(chat.heads) == 1
