"""A local store that says "not now" costs the connection, not the client, and nothing that came."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit.client.events import CaughtUp, Disconnected, MessageReceived, MessageSent
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import SendCancelledError, UnavailableError
from chatkit.wire import events as ev

from .fake_server import FakeServer, ack, client, head, new, until, welcome


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_a_store_that_refuses_for_now_ends_the_connection_and_loses_nothing(server: FakeServer) -> None:
    store = Refusing()
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        group.start_soon(_send, chat)
        send = await line.expect(ev.SendMsg)
        store.full = True
        line.push(new(1), ack(send, 2))
        assert (await until(chat, Disconnected))[0].will_retry is True
        with pytest.raises(UnavailableError):
            await chat.send("c-1", "nothing is queued")
        assert chat.pending_count == 1

        line = await server.accept()
        hello = await line.expect(ev.Hello)
        store.full = False
        line.push(welcome(hello.device_id), ev.Heads([head(2)], False))
        again = await line.expect(ev.SendMsg)
        assert again.client_msg_id == send.client_msg_id
        await line.page(new(1), new(2, sender="u-1", key=send.client_msg_id), up_to=2)
        _, before = await until(chat, CaughtUp)
        shown = [event for event in before if isinstance(event, MessageReceived | MessageSent)]
        assert {type(event) for event in shown} == {MessageReceived, MessageSent} and len(shown) == 2
        assert chat.pending_count == 0
        assert [message.seq for message in store.messages("c-1", 9, 9)] == [1, 2]
        assert chat.stopped is None


async def test_what_never_left_can_still_be_taken_back_after_the_store_refused(server: FakeServer) -> None:
    store = Refusing()
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        line.stuck = True
        await chat.typing("c-1")  # hangs in the line, and what comes after it behind it
        await anyio.sleep(0.01)
        group.start_soon(_send_in_vain, chat)
        await anyio.sleep(0.01)
        store.full = True
        line.push(new(1))
        await until(chat, Disconnected)
        store.full = False
        await server.accept()
        assert [it.may_be_sent for it in chat.pending()] == [False]
        assert chat.cancel("c-1", "k") == "CANCELLED"


async def _send_in_vain(chat: Any) -> None:
    with pytest.raises(SendCancelledError):
        await chat.send("c-1", "t2", client_msg_id="k")


class Refusing(MemoryStore):
    """Refuses every change while it is `full`."""

    full = False

    def save(self, *arguments: Any) -> None:
        self._check()
        super().save(*arguments)

    def add_pending(self, send: Any) -> None:
        self._check()
        super().add_pending(send)

    def _check(self) -> None:
        if self.full:
            raise UnavailableError("disk full", retry_after_s=1.0)


async def test_a_store_that_refuses_its_owner_for_now_is_tried_again(server: FakeServer) -> None:
    class Busy(MemoryStore):
        tries = 0

        def bind(self, *arguments: str) -> None:
            self.tries += 1
            if self.tries == 1:
                raise UnavailableError("busy")
            super().bind(*arguments)

    async with client(server, store=Busy()) as chat:
        await (await server.accept()).log_in()
        await (await server.accept()).log_in()
        await until(chat, CaughtUp)
        assert chat.stopped is None


async def _send(chat: Any) -> None:
    await chat.send("c-1", "t2", client_msg_id="k")
