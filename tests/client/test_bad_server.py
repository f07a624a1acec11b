"""What a server, a disk or a neighbour does wrong costs only itself."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from chatkit import ClientConfig
from chatkit.client.events import CaughtUp, Disconnected, MessageReceived, MessageSent
from chatkit.client.store.memory import MemoryStore
from chatkit.drivers.sqlite import DiskFailedError
from chatkit.errors import (
    ConflictError,
    DeadlineExceededError,
    QueueFullError,
    RefusedError,
    UnknownRefusalError,
)
from chatkit.transport.base import TransportClosedError
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, ack, client, entry, error, head, new, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def unreadable(seq: int, id_: str = "c-1", raw: bytes = b'"no object"') -> ev.NewMsg:
    return msgspec.structs.replace(new(seq, id_=id_), payload=msgspec.Raw(raw))


async def test_a_payload_that_cannot_be_read_costs_no_neighbour_and_leaves_a_hole(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        await until(chat, CaughtUp)
        group.start_soon(_send, chat)
        send = await line.expect(ev.SendMsg)
        line.push(new(3), unreadable(4), ack(send, 5), new(6))

        assert (await until(chat, MessageReceived))[0].message.seq == 3
        assert (await until(chat, MessageSent))[0].sent.seq == 5
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 3
        sync = await line.page(unreadable(4), new(5, sender="u-1", key="k"), new(6), up_to=6)
        assert sync.last_seq == 3
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 6
        assert [message.seq for message in store.messages("c-1", 99, 9)] == [3, 5, 6]
        await line.quiet(5)


async def test_an_unreadable_newest_entry_is_asked_for_once_more(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        line.push(unreadable(1))

        await line.page(new(1), up_to=1)
        assert (await until(chat, MessageReceived))[0].message.seq == 1


async def test_what_only_messagepack_can_say_is_not_stored(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store, codec="msgpack") as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        odd = msgspec.msgpack.encode({"type": "TEXT", "text": "", "x": msgspec.msgpack.Ext(5, b"x")})
        fine = msgspec.Raw(msgspec.msgpack.encode({"type": "TEXT", "text": "fine"}))
        line.push(
            msgspec.structs.replace(new(1), payload=fine),
            unreadable(1, "c-2", odd),
        )

        assert (await until(chat, MessageReceived))[0].message.text == "fine"
        assert [record.conversation_id for record in store.records()] == ["c-1", "c-2"]
        assert store.messages("c-2", 9, 9) == []


@pytest.mark.parametrize(
    "fault", [DiskFailedError("disk broken"), TransportClosedError(1006), ValueError("bug")]
)
async def test_nothing_is_confirmed_that_could_not_be_stored(server: FakeServer, fault: Exception) -> None:
    class Full(MemoryStore):
        def save(self, *arguments: Any) -> None:
            if any(change.messages for change in arguments[0]):
                raise fault
            super().save(*arguments)

    async def use() -> None:
        async with client(server, store=Full()) as chat:
            line = await server.accept()
            await line.log_in(head(0))
            await until(chat, CaughtUp)
            line.push(new(1))
            assert (await until(chat, Disconnected))[0].will_retry is False
            assert not any(isinstance(event, ev.DeliveredAck) for event in line.received)
            assert chat.stopped is fault

    with pytest.raises(type(fault)):
        await use()
    assert server.tries == 1


async def test_recalls_that_wait_do_not_hold_up_the_clients_own_requests(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(requests_max=1)) as chat:
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        await until(chat, CaughtUp)
        async with anyio.create_task_group() as group:
            group.start_soon(_recall, chat, DeadlineExceededError)
            await line.expect(ev.Recall)
            await _recall(chat, QueueFullError)
            line.push(ev.Behind("c-1", EPOCH, 3))

            await line.page(new(2), new(3), up_to=3)
            assert (await line.expect(ev.DeliveredAck)).up_to_seq == 3


async def test_a_refused_pull_invents_no_head(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        await until(chat, CaughtUp)
        line.push(new(4))
        sync = await line.expect(ev.Sync)
        line.push(new(3))  # the hole closes meanwhile
        await line.expect(ev.DeliveredAck)
        line.push(ev.ErrorEvent("OVERLOADED", "busy", True, 100, ref=sync.ref))
        await line.page(up_to=4)  # it is asked once more, for its reason may have been another

        await line.quiet(60)
        assert chat.heads["c-1"].head_seq == 4


@pytest.mark.parametrize("retryable", [False, True])
async def test_a_refusal_with_an_unknown_code_is_what_the_server_said(
    server: FakeServer, retryable: bool
) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        await until(chat, CaughtUp)
        group.start_soon(_refused, chat, retryable)
        asked = await line.expect(ev.Recall)
        line.push(ev.ErrorEvent("QUOTA_EXCEEDED", "no more", retryable, 2000, ref=asked.ref))


async def test_a_send_refused_with_an_unknown_code_for_good_is_over(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        group.start_soon(_refused_send, chat)
        line.push(error(await line.expect(ev.SendMsg), "QUOTA_EXCEEDED", retryable=False))
        await line.quiet(5)
        assert chat.pending_count == 0


async def test_a_pull_refused_with_an_unknown_code_follows_the_flag(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in(head(2))
        sync = await line.expect(ev.Sync)
        line.push(ev.ErrorEvent("QUOTA_EXCEEDED", "later", True, 2000, ref=sync.ref))
        await line.quiet(1.9)
        again = await line.expect(ev.Sync)
        line.push(ev.ErrorEvent("QUOTA_EXCEEDED", "never", False, ref=again.ref))
        await (await server.accept()).log_in(head(2))


async def test_a_key_that_the_store_keeps_already_is_a_conflict(server: FakeServer) -> None:
    class Kept(MemoryStore):
        def add_pending(self, send: Any) -> None:
            raise ConflictError("kept already")

    async with client(server, store=Kept()) as chat:
        with pytest.raises(ConflictError):
            await chat.send("c-1", "hi", client_msg_id="k")
        assert chat.pending_count == 0


async def test_a_page_shows_a_recall_whose_own_entry_is_hidden(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        await until(chat, CaughtUp)
        line.push(new(4, payload={"type": "TEXT", "text": "secret"}))  # waits above a hole
        gone = new(4, payload={"type": "RECALLED"})
        sync = await line.expect(ev.Sync)
        line.push(
            ev.SyncPage(
                "c-1", EPOCH, 7, [entry(each) for each in (new(3), gone, new(7))], 7, False, ref=sync.ref
            )
        )

        shown = [(await until(chat, MessageReceived))[0].message for _ in range(3)]
        assert [(message.seq, message.type) for message in shown] == [
            (3, "TEXT"),
            (4, "RECALLED"),
            (7, "TEXT"),
        ]
        assert store.messages("c-1", 5, 1)[0].payload == {"type": "RECALLED"}


async def _send(chat: Any) -> None:
    await chat.send("c-1", "hi", client_msg_id="k")


async def _recall(chat: Any, wanted: type[Exception]) -> None:
    with pytest.raises(wanted):
        await chat.recall("m-1")


async def _refused(chat: Any, retryable: bool) -> None:
    with pytest.raises(RefusedError) as caught:
        await chat.recall("m-1")
    assert isinstance(caught.value, UnknownRefusalError)
    said = (caught.value.code, caught.value.retryable, caught.value.retry_after_s, str(caught.value))
    assert said == ("QUOTA_EXCEEDED", retryable, 2.0, "no more")


async def _refused_send(chat: Any) -> None:
    with pytest.raises(UnknownRefusalError) as caught:
        await chat.send("c-1", "hi")
    assert (caught.value.code, caught.value.retryable) == ("QUOTA_EXCEEDED", False)
