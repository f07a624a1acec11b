"""Which open streams a client asks for, and how often: against a server that refuses, and one that dropped parts."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from chatkit import ChatClient, StreamGrew
from chatkit.client.requests import Requests
from chatkit.server.server import ChatServer
from chatkit.testing.devices import Devices
from chatkit.testing.network import Network
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, Line, client, entry, head, message_id, new, until


@pytest.fixture
def anyio_backend(chat_virtual: Any) -> Any:
    return chat_virtual


async def shown(server: FakeServer, chat: ChatClient, *seqs: int) -> Line:
    """A connection on which these streams came, without a part."""
    line = await server.accept()
    await line.log_in(head(0))
    await chat.wait_connected()
    for seq in seqs:
        line.push(new(seq, payload={"type": "STREAM", "text": "a"}))
    await anyio.sleep(1)
    line.received.clear()
    return line


async def asked(line: Line) -> ev.Sync:
    """The next SYNC, whatever is confirmed meanwhile."""
    while True:
        event = await line._next()
        if isinstance(event, ev.Sync):
            return event


async def asked_within(line: Line, seconds: float) -> list[int]:
    """The seqs of the streams that are asked for in this time."""
    await anyio.sleep(seconds)
    found = [it.last_seq + 1 for it in line.received if isinstance(it, ev.Sync)]
    line.received.clear()
    return found


async def answer(line: Line, sync: ev.Sync, parts: int, text: str) -> None:
    seq = sync.last_seq + 1
    grown = replace(
        entry(new(seq, payload={"type": "STREAM", "text": "a"})), stream=ev.EntryStream(parts, text)
    )
    line.push(ev.SyncPage("c-1", EPOCH, seq, [grown], seq, False, ref=sync.ref))


def refuse(line: Line, sync: ev.Sync, code: str, *, retryable: bool) -> None:
    line.push(ev.ErrorEvent(code, code, retryable, UNSET, ref=sync.ref))


def part(seq: int, number: int, text: str) -> ev.StreamPartPush:
    return ev.StreamPartPush("c-1", EPOCH, message_id(seq), seq, number, text)


async def test_a_refusal_for_good_is_not_repeated_and_holds_up_no_other_stream() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await shown(server, chat, 1, 2)
        line.push(part(1, 2, "c"), part(2, 2, "c"))
        first = await asked(line)
        refuse(line, first, "FORBIDDEN", retryable=False)
        second = await asked(line)
        assert (first.last_seq, second.last_seq) == (0, 1)
        await answer(line, second, 2, "abc")
        grew, _ = await until(chat, StreamGrew)
        assert (grew.seq, grew.text) == (2, "abc")
        line.push(part(1, 3, "d"))
        assert await asked_within(line, 600) == []


async def test_a_refusal_for_now_is_repeated_after_growing_waits() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await shown(server, chat, 1)
        line.push(part(1, 2, "c"))
        tries = 0
        with anyio.move_on_after(600):
            while True:
                refuse(line, await asked(line), "UNAVAILABLE", retryable=True)
                tries += 1
        assert 5 < tries < 60
        with anyio.fail_after(60):
            await answer(line, await asked(line), 2, "abc")
            grew, _ = await until(chat, StreamGrew)
        assert grew.text == "abc"


async def test_parts_that_a_full_buffer_dropped_are_asked_for() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await shown(server, chat, 1, 2)
        line.push(part(1, 1, "b"))
        await until(chat, StreamGrew)
        line.push(ev.Behind("c-1", EPOCH, 2))
        for seq in (1, 2):
            with anyio.fail_after(5):
                sync = await asked(line)
            assert (sync.last_seq, sync.limit) == (seq - 1, 1)
            await answer(line, sync, 3, "abcd")
            grew, _ = await until(chat, StreamGrew)
            assert (grew.seq, grew.text) == (seq, "abcd")
        line.push(ev.Behind("c-other", EPOCH, 0))
        assert (await asked(line)).conversation_id == "c-other"
        assert await asked_within(line, 5) == []


async def test_a_listing_in_the_place_of_many_behind_asks_too() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await shown(server, chat, 1)
        line.push(ev.Heads([head(1, delivered=1)], False))
        with anyio.fail_after(5):
            assert (await asked(line)).last_seq == 0


async def test_own_streams_that_have_ended_are_not_followed(
    chat_client: Devices, chat_network: Network, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app hears of its own end by the answer alone: finished, cut off, and where the answer was lost."""
    asked: list[int] = []
    ask = Requests.ask

    async def counted(self: Requests, event: Any, timeout_s: float) -> Any:
        if isinstance(event, ev.Sync) and event.limit == 1:
            asked.append(event.last_seq)
        return await ask(self, event, timeout_s)

    await chat_server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
    async with chat_client("ann") as ann:
        await ann.wait_connected()
        monkeypatch.setattr(Requests, "ask", counted)
        async with ann.stream("g"):
            pass
        with pytest.raises(ZeroDivisionError):
            async with ann.stream("g"):
                raise ZeroDivisionError
        lost = ann.stream("g")
        await lost.__aenter__()
        async with anyio.create_task_group() as group:
            group.start_soon(lost.end)
            await anyio.sleep(0.015)  # it is stored, and its answer is under way
            cut(chat_network)
        for _ in range(2):
            await anyio.sleep(60)
            await ann.wait_connected()
            assert asked == [lost.sent.seq - 1], "the one that was open as the connection broke"
            cut(chat_network)


def cut(network: Network) -> None:
    for line in list(network.lines):
        line.cut()
