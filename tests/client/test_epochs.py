"""Another log under the same name: nothing of the old one may reach the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit.client.events import CaughtUp, EpochChanged, MessageReceived, MessageSent
from chatkit.client.store.memory import MemoryStore
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, ack, client, entry, head, new, recall, until, welcome


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_a_page_of_the_old_log_that_is_under_way_is_dropped(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(5, delivered=3))
        sync = await line.expect(ev.Sync)
        line.push(ev.Heads([head(2, epoch="e2")], False))
        old = [entry(new(4)), entry(new(5))]
        line.push(ev.SyncPage("c-1", EPOCH, 5, old, 5, False, ref=sync.ref))
        again = await line.page(new(1, epoch="e2"), new(2, epoch="e2"), up_to=2, epoch="e2")

        assert (again.last_seq, again.epoch) == (0, "e2")
        assert (await until(chat, EpochChanged))[0].epoch == "e2"
        shown = [(await until(chat, MessageReceived))[0].message.seq for _ in range(2)]
        assert shown == [1, 2]
        await anyio.sleep(1)
        assert (chat.heads["c-1"].head_seq, chat.heads["c-1"].epoch) == (2, "e2")


async def test_a_recall_in_the_old_log_blanks_nothing_in_the_new_one(server: FakeServer) -> None:
    store = MemoryStore(messages_max=2)
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        line.push(recall(4, 1))
        await line.expect(ev.DeliveredAck)
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(5, epoch="e2"))
        await line.page(*(new(seq, epoch="e2") for seq in range(1, 6)), up_to=5, epoch="e2")
        await line.expect(ev.DeliveredAck)

        read = list[tuple[int, str]]()
        async with anyio.create_task_group() as group:
            group.start_soon(_read, chat, read)
            while not read:
                await anyio.sleep(0.01)
                if any(isinstance(event, ev.Sync) for event in line.received):
                    older = (new(seq, epoch="e2") for seq in range(1, 4))
                    await line.page(*older, up_to=3, head=5, epoch="e2")
        assert read == [(seq, "TEXT") for seq in range(1, 6)]


async def test_what_both_logs_have_is_not_told_again(server: FakeServer, tmp_path: Path) -> None:
    """A log put back from a backup that lacks the newest two entries, after somebody has written to it again."""
    path = str(tmp_path / "chat.db")
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(*(new(seq) for seq in range(1, 8)))
        await received(chat, 7)
        await chat.mark_read("c-1", 6)
    server = FakeServer()
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(8, epoch="e2", delivered=3))
        kept, anew = [new(seq) for seq in range(1, 6)], [new(seq, epoch="e2") for seq in range(6, 9)]
        sync = await line.page(*kept, *anew, up_to=8, epoch="e2")

        assert (sync.last_seq, sync.epoch) == (0, "e2")
        changed, before = await until(chat, EpochChanged)
        assert changed == EpochChanged("c-1", "e2", 5)
        assert not any(isinstance(event, MessageReceived) for event in before)
        assert await received(chat, 3) == [6, 7, 8]
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 8
        assert (await line.expect(ev.Read)).up_to_seq == 5
        shown = await chat.history("c-1")
        assert [message.message_id for message in shown] == [it.message_id for it in kept + anew]


@pytest.mark.parametrize("by", ["heads", "page"])
async def test_a_head_below_what_is_held_is_an_older_log_under_the_same_epoch(
    server: FakeServer, by: str
) -> None:
    """The server does not know that its log was put back; the client does."""
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(*(new(seq) for seq in range(1, 8)))
        await received(chat, 7)
        line.close(1012)
        line = await server.accept()
        if by == "heads":
            await line.log_in(head(5, delivered=3))
        else:  # nobody has confirmed: the heads are as high as what is held, the page is not
            await line.log_in(head(9, delivered=3))
            await line.expect(ev.DeliveredAck)
            await line.page(up_to=5, head=5)
        await line.page(*(new(seq) for seq in range(1, 6)), up_to=5)

        assert (await until(chat, EpochChanged))[0] == EpochChanged("c-1", EPOCH, 5)
        line.push(new(6, payload={"type": "TEXT", "text": "instead"}))
        message = (await until(chat, MessageReceived))[0].message
        assert (message.seq, message.text) == (6, "instead")
        assert [it.text for it in store.messages("c-1", 99, 9)][4:] == ["t5", "instead"]


async def test_heads_from_before_a_push_prove_nothing(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(welcome(), new(3), new(4), ev.Heads([head(2, delivered=2)], False))
        await line.page(new(3), new(4), up_to=4)
        assert await received(chat, 2) == [3, 4]
        line.push(ev.Heads([head(3, delivered=3)], False))  # a snapshot may be older than what was pushed
        line.push(new(5))
        event, before = await until(chat, MessageReceived)
        assert event.message.seq == 5
        assert not any(isinstance(each, EpochChanged) for each in before)


async def test_an_own_message_that_the_new_log_has_is_not_told_twice(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        group.start_soon(chat.send, "c-1", "mine")
        send = await line.expect(ev.SendMsg)
        line.push(ack(send, 4))  # 3 is missing
        await until(chat, MessageSent)
        line.push(ev.Heads([head(5, epoch="e2", delivered=2)], False))
        mine = new(4, sender="u-1", key=send.client_msg_id, payload={"type": "TEXT", "text": "mine"})
        await line.page(new(1), new(2), new(3), mine, new(5, epoch="e2"), up_to=5, epoch="e2")

        assert (await until(chat, EpochChanged))[0].kept_seq == 2
        assert await received(chat, 2) == [3, 5]


@pytest.mark.parametrize("heard_first", ["heads", "answer"])
async def test_an_own_message_in_the_new_log_is_told_after_what_is_taken_back(
    server: FakeServer, heard_first: str
) -> None:
    """Told before it, its place would be among those that `EpochChanged` takes back, and the app would lose it."""
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(*(new(seq) for seq in range(1, 6)))
        assert await received(chat, 5) == [1, 2, 3, 4, 5]
        sent: list[int] = []

        async def say() -> None:
            sent.append((await chat.send("c-1", "mine")).seq)

        await line.expect(ev.DeliveredAck)
        group.start_soon(say)
        send = await line.expect(ev.SendMsg)
        mine = new(
            4, epoch="e2", sender="u-1", key=send.client_msg_id, payload={"type": "TEXT", "text": "mine"}
        )
        log = [new(1), new(2), new(3, epoch="e2"), mine]
        if heard_first == "heads":
            line.push(ev.Heads([head(3, epoch="e2", delivered=2)], False))
        line.push(ack(send, 4, "e2"))
        while not sent:
            await anyio.sleep(0.01)
        if heard_first == "answer":  # what follows the former log is asked for, and refused
            sync = await line.expect(ev.Sync)
            line.push(ev.ErrorEvent("CONFLICT", "another epoch", False, ref=sync.ref))
        await line.page(*log, up_to=4, epoch="e2")

        changed, before = await until(chat, EpochChanged)
        assert not any(isinstance(it, MessageSent) for it in before)
        assert changed.kept_seq == 2
        told, _ = await until(chat, MessageSent)
        assert (sent, told.sent.seq, told.sent.epoch) == ([4], 4, "e2")
        assert await received(chat, 1) == [3]


async def received(chat: Any, count: int) -> list[int]:
    return [(await until(chat, MessageReceived))[0].message.seq for _ in range(count)]


async def _read(chat: Any, into: list[tuple[int, str]]) -> None:
    into.extend((message.seq, message.type) for message in await chat.history("c-1"))


async def test_a_comparison_that_a_connection_did_not_end_goes_on_with_the_next(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        line.push(ev.Heads([head(4, epoch="e2")], False))
        await line.expect(ev.Sync)
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(4, epoch="e2"))
        await line.page(*(new(seq, epoch="e2") for seq in range(1, 5)), up_to=4, epoch="e2")

        assert (await until(chat, EpochChanged))[0].epoch == "e2"
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 4
