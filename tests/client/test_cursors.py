"""Delivered and read cursors: coalesced, repeated where they got lost, forgotten where refused."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import CaughtUp, Connected, MessageReceived
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import BadRequestError, NotFoundError, QueueFullError
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, head, new, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_what_the_server_lacks_is_confirmed_again(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store):
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1), new(2))
        await line.expect(ev.DeliveredAck)
        line.close(1006)

        line = await server.accept()
        await line.log_in(head(2, delivered=1))
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 2
        await line.quiet(1)


async def test_a_confirmation_refused_for_now_goes_again(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1))
        first = await line.expect(ev.DeliveredAck)
        line.push(ev.ErrorEvent("OVERLOADED", "busy", True, 2000, ref=first.ref, conversation_id="c-1"))
        await line.quiet(1.9)
        line.push(new(2))
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 2
        assert (await line.expect(ev.DeliveredAck)).up_to_seq in (1, 2)
        await line.quiet(10)


async def test_a_confirmation_refused_for_good_is_dropped(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1))
        first = await line.expect(ev.DeliveredAck)
        line.push(ev.ErrorEvent("NOT_FOUND", "no", False, ref=first.ref, conversation_id="c-1"))
        await line.quiet(60)


async def test_reading_is_coalesced_and_monotone(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(9, delivered=9))
        await until(chat, CaughtUp)
        for seq in (3, 7, 5):
            await chat.mark_read("c-1", seq)

        assert (await line.expect(ev.Read)).up_to_seq == 7
        await chat.mark_read("c-1", 6)
        await line.quiet(1)
        with pytest.raises(BadRequestError):
            await chat.mark_read("c-1", 10)


@pytest.mark.parametrize("proof", [ev.Behind("c-1", "e1", 10), ev.ConversationPush("c-1", "GROUP", "JOINED")])
async def test_what_was_read_before_leaving_is_said_after_coming_back(
    server: FakeServer, proof: ev.Event
) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(9, delivered=9))
        await until(chat, CaughtUp)
        line.close(1006)
        await chat.mark_read("c-1", 4)
        line = await server.accept()
        await line.log_in()
        await line.quiet(1)  # removed meanwhile: the server would refuse it
        line.push(proof)

        assert (await line.expect(ev.Read)).up_to_seq == 4


async def test_reading_offline_survives_a_restart_until_the_server_knows(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "chat.db")
    async with client(server, store=path) as chat:
        await chat.mark_read("c-1", 4)
    server = FakeServer()
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(9, delivered=9, read=2))
        assert (await line.expect(ev.Read)).up_to_seq == 4
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(9, delivered=9, read=4))
        await until(chat, Connected)
        await line.quiet(1)
    server = FakeServer()
    async with client(server, store=path):
        line = await server.accept()
        await line.log_in(head(9, delivered=9, read=0))
        await line.quiet(1)


async def test_a_read_cursor_refused_for_good_is_forgotten_and_for_now_repeated(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(9, delivered=9))
        await until(chat, CaughtUp)
        await chat.mark_read("c-1", 4)
        read = await line.expect(ev.Read)
        line.push(ev.ErrorEvent("UNAVAILABLE", "later", True, 1000, ref=read.ref, conversation_id="c-1"))
        again = await line.expect(ev.Read)
        assert again.up_to_seq == 4
        line.push(ev.ErrorEvent("BAD_REQUEST", "no", False, ref=again.ref, conversation_id="c-1"))
        await line.quiet(5)
        assert store.reads() == {}


async def test_the_end_of_the_client_waits_for_its_cursors(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(9, delivered=9))
        await until(chat, CaughtUp)
        await anyio.sleep(0.1)
        await chat.mark_read("c-1", 9)

    assert any(isinstance(event, ev.Read) for event in line.received)


async def test_what_was_marked_read_shows_at_once_and_after_a_restart(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "chat.db")
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(*(new(seq) for seq in range(1, 6)))
        await line.expect(ev.DeliveredAck)
        line.close(1006)
        await chat.mark_read("c-1", 4)
        assert chat.heads["c-1"].read_seq == 4
        await chat.aclose(0)
    server = FakeServer()
    async with client(server, store=path) as chat:
        assert chat.heads["c-1"].read_seq == 4
        line = await server.accept()
        await line.log_in(head(5, delivered=5, read=1))
        read = await line.expect(ev.Read)
        assert chat.heads["c-1"].read_seq == 4
        line.push(ev.ErrorEvent("BAD_REQUEST", "no", False, ref=read.ref, conversation_id="c-1"))
        await anyio.sleep(0.1)
        assert chat.heads["c-1"].read_seq == 1


async def test_nothing_about_the_old_log_is_sent_to_the_new_one(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(50, delivered=50))
        await until(chat, CaughtUp)
        await chat.mark_read("c-1", 50)
        read = await line.expect(ev.Read)
        line.push(ev.ErrorEvent("OVERLOADED", "busy", True, 2000, ref=read.ref, conversation_id="c-1"))
        await anyio.sleep(0.1)
        line.push(ev.Heads([head(60, epoch="e2")], False))
        line.push(ev.ErrorEvent("OVERLOADED", "late", True, 1000, ref=read.ref, conversation_id="c-1"))
        await line.page(up_to=60, epoch="e2")
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 60

        await line.quiet(30)
        assert chat.heads["c-1"].read_seq == 0


async def test_what_is_no_conversation_cannot_be_read(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        with pytest.raises(NotFoundError):
            await chat.mark_read("no-such", 7)
        await line.quiet(1)
    assert store.reads() == {}


async def test_what_was_read_before_the_first_login_is_given_up_if_it_is_none(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with client(server, store=store, config=ClientConfig(conversations_max=2)) as chat:
        await chat.mark_read("no-such", 7)
        await chat.mark_read("c-1", 2)
        with pytest.raises(QueueFullError):
            await chat.mark_read("c-3", 1)
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        await anyio.sleep(1)
    assert store.reads() == {"c-1": 2}
    assert "no-such" in caplog.text


async def test_a_read_cursor_that_is_refused_for_good_is_given_up(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        await chat.mark_read("c-1", 2)
        read = await line.expect(ev.Read)
        line.push(ev.ErrorEvent("NOT_FOUND", "no", False, conversation_id="c-1", ref=read.ref))
        await line.quiet(1)
    assert store.reads() == {}
    assert "given up" in caplog.text


async def test_with_taken_a_refused_confirmation_is_repeated_as_far_as_it_was_taken(
    server: FakeServer,
) -> None:
    async with client(server, config=ClientConfig(delivered_when="taken")) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1), new(2))
        await until(chat, MessageReceived)
        delivered = await line.expect(ev.DeliveredAck)
        line.push(ev.ErrorEvent("OVERLOADED", "no", True, 100, conversation_id="c-1", ref=delivered.ref))
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 1


async def test_a_cursor_that_is_refused_again_and_again_waits_longer_each_time(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(3, delivered=3))
        await until(chat, CaughtUp)
        await chat.mark_read("c-1", 2)
        tries: list[float] = []
        with anyio.move_on_after(120):
            while True:
                read = await line.expect(ev.Read)
                tries.append(anyio.current_time())
                line.push(ev.ErrorEvent("UNAVAILABLE", "no", True, conversation_id="c-1", ref=read.ref))
    assert 5 < len(tries) < 30
    assert tries[-1] - tries[-2] > 5 * (tries[1] - tries[0])


async def test_what_is_known_takes_no_room_of_what_waits_for_its_conversation(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(conversations_max=2)) as chat:
        line = await server.accept()
        await line.log_in(head(5, delivered=5), head(5, id_="c-2", delivered=5))
        await until(chat, CaughtUp)
        await chat.mark_read("c-1", 1)
        await chat.mark_read("c-2", 1)
        await chat.mark_read("c-1", 5)
        await chat.mark_read("c-1", 1)
        assert chat.heads["c-1"].read_seq == 5


async def test_what_comes_in_a_moment_is_confirmed_at_once(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(confirm_wait_s=0.5)):
        line = await server.accept()
        await line.log_in(head(0))
        began_s = anyio.current_time()
        for seq in (1, 2, 3):
            line.push(new(seq))
            await line.quiet(0.1)

        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 3
        assert anyio.current_time() - began_s == pytest.approx(0.5, abs=0.01)
        await line.quiet(1)
        line.push(new(4))
        await line.quiet(0.4)
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 4


async def test_what_is_to_be_confirmed_leaves_with_whatever_is_sent(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(confirm_wait_s=30)) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1))
        await until(chat, MessageReceived)
        await line.quiet(1)
        await chat.mark_read("c-1", 1)

        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 1
        assert (await line.expect(ev.Read)).up_to_seq == 1
        line.push(new(2))
        await until(chat, MessageReceived)
        async with anyio.create_task_group() as group:
            group.start_soon(chat.send, "c-1", "an answer")
            assert (await line.expect(ev.DeliveredAck)).up_to_seq == 2
            await line.expect(ev.SendMsg)
            group.cancel_scope.cancel()


async def test_a_client_that_ends_confirms_what_it_has(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(confirm_wait_s=30)) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1))
        await until(chat, MessageReceived)
        await line.quiet(1)

    assert [it.up_to_seq for it in line.received if isinstance(it, ev.DeliveredAck)] == [1]
