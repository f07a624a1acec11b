"""send(): durable, ordered, once; what is pending survives refusals, cuts, deadlines and restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import Connected, MessageReceived, MessageSent, SendFailed
from chatkit.client.store.memory import MemoryStore
from chatkit.core.resend import PendingSend
from chatkit.errors import (
    BadRequestError,
    ClosedError,
    ConflictError,
    ForbiddenError,
    QueueFullError,
    SendOutcomeUnknownError,
    TooLargeError,
)
from chatkit.types import Sent
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, ack, client, error, head, new, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


class Sending:
    """A send in the background, and what became of it."""

    def __init__(self, group: Any, chat: Any, content: Any, **options: Any) -> None:
        self.sent: Sent | None = None
        self.error: Exception | None = None
        group.start_soon(self._run, chat, content, options)

    async def _run(self, chat: Any, content: Any, options: dict[str, Any]) -> None:
        try:
            self.sent = await chat.send("c-1", content, **options)
        except Exception as error:
            self.error = error


async def all_blocked() -> None:
    """Let everything that can run, run."""
    await anyio.sleep(0.001)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_returns_once_the_server_has_acknowledged(server: FakeServer, codec: str) -> None:
    async with client(server, codec=codec) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        sending = Sending(group, chat, "到了吗？", client_msg_id="k")
        send = await line.expect(ev.SendMsg)
        assert send == ev.SendMsg("c-1", "k", {"type": "TEXT", "text": "到了吗？"})
        await all_blocked()
        assert sending.sent is None

        line.push(ack(send, 2))
        await all_blocked()

        assert sending.sent == Sent("c-1", "k", "m-2", 2, 1002, "e1")
        sent, before = await until(chat, MessageSent)
        assert sent.sent == sending.sent
        assert not any(isinstance(event, MessageReceived) for event in before)
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 2
        assert [message.text for message in await chat.history("c-1", limit=1)] == ["到了吗？"]


@pytest.mark.parametrize(
    ("conversation_id", "content", "key", "wanted"),
    [
        ("no spaces", "x", None, BadRequestError),
        ("..", "x", None, BadRequestError),
        ("c-1", {"type": "RECALL"}, None, BadRequestError),
        ("c-1", {"type": "TEXT", "text": "a\x00"}, None, BadRequestError),
        ("c-1", {"type": "TEXT", "text": "\ud800"}, None, BadRequestError),
        ("c-1", {"type": "TEXT", "text": "x", "n": float("nan")}, None, BadRequestError),
        ("c-1", {"type": "TEXT", "text": "x", "n": 2**53}, None, BadRequestError),
        ("c-1", "x" * 70_000, None, TooLargeError),
        ("c-1", "x", "", BadRequestError),
        ("c-1", "x", "k" * 129, BadRequestError),
        ("c-1", "x", "\ud800", BadRequestError),
    ],
)
async def test_nothing_the_server_must_refuse_is_queued(
    server: FakeServer, conversation_id: str, content: Any, key: str | None, wanted: type[Exception]
) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        with pytest.raises(wanted):
            await chat.send(conversation_id, content, client_msg_id=key)

        assert (chat.pending_count, store.pending()) == (0, [])


async def test_is_stored_before_it_is_sent(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat, anyio.create_task_group() as group:
        Sending(group, chat, "hi", client_msg_id="k", timeout=1)
        await all_blocked()

        assert store.pending() == [PendingSend("c-1", "k", b'{"text":"hi","type":"TEXT"}', 1)]
        line = await server.accept()
        await line.log_in()
        line.push(ack(await line.expect(ev.SendMsg), 1))
        await all_blocked()
        assert store.pending() == []


async def test_a_passed_deadline_says_that_the_outcome_is_unknown(server: FakeServer) -> None:
    async with client(server) as chat:
        with pytest.raises(SendOutcomeUnknownError) as caught:
            await chat.send("c-1", "hi", client_msg_id="k", timeout=2)
        assert (caught.value.client_msg_id, chat.pending_count) == ("k", 1)

        line = await server.accept()
        await line.log_in()
        line.push(ack(await line.expect(ev.SendMsg), 1))

        sent, _ = await until(chat, MessageSent)
        assert (sent.sent.client_msg_id, chat.pending_count) == ("k", 0)


async def test_the_same_call_again_waits_for_the_same_answer(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in()
        first = Sending(group, chat, "hi", client_msg_id="k")
        second = Sending(group, chat, "hi", client_msg_id="k")
        other = Sending(group, chat, "another", client_msg_id="k")
        send = await line.expect(ev.SendMsg)
        await line.quiet(1)
        assert isinstance(other.error, ConflictError)

        line.push(ack(send, 1))
        await all_blocked()

        assert first.sent is not None
        assert first.sent == second.sent


async def test_a_refusal_for_good_is_raised_and_drops_exactly_that_message(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in()
        bad = Sending(group, chat, "bad", client_msg_id="a")
        good = Sending(group, chat, "good", client_msg_id="b")
        sends = [await line.expect(ev.SendMsg), await line.expect(ev.SendMsg)]

        line.push(error(sends[0], "FORBIDDEN", retryable=False), ack(sends[1], 1))

        failed, _ = await until(chat, SendFailed)
        await all_blocked()
        assert (failed.client_msg_id, type(failed.error)) == ("a", ForbiddenError)
        assert isinstance(bad.error, ForbiddenError)
        assert good.sent is not None and good.sent.seq == 1
        assert chat.pending_count == 0


async def test_after_a_refusal_for_now_the_conversation_waits_and_order_survives(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in()
        await chat.wait_connected()
        for key in ("a", "b"):
            Sending(group, chat, key, client_msg_id=key)
        sends = [await line.expect(ev.SendMsg), await line.expect(ev.SendMsg)]
        line.push(
            error(sends[0], "OVERLOADED", retryable=True, after_ms=3000),
            error(sends[1], "OVERLOADED", retryable=True, after_ms=3000),
        )
        Sending(group, chat, "c", client_msg_id="c")
        await line.quiet(2.9)

        again = [await line.expect(ev.SendMsg) for _ in range(3)]
        assert [send.client_msg_id for send in again] == ["a", "b", "c"]
        line.push(*(ack(send, seq) for seq, send in enumerate(again, start=1)))


async def test_after_a_cut_pending_messages_go_again_in_order(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in()
        for key in ("a", "b", "c"):
            Sending(group, chat, key, client_msg_id=key)
        await line.expect(ev.SendMsg)
        line.close(1006)

        line = await server.accept()
        await line.log_in()
        again = [await line.expect(ev.SendMsg) for _ in range(3)]
        assert [send.client_msg_id for send in again] == ["a", "b", "c"]
        line.push(*(ack(send, seq) for seq, send in enumerate(again, start=1)))
        await all_blocked()
        assert chat.pending_count == 0


async def test_a_page_settles_what_a_cut_left_open(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        sending = Sending(group, chat, "t1", client_msg_id="k")
        await line.expect(ev.SendMsg)
        line.close(1006)

        line = await server.accept()
        await line.log_in(head(2))
        await line.expect(ev.SendMsg)
        await line.page(new(1, sender="u-1", key="k"), new(2), up_to=2)
        received, before = await until(chat, MessageReceived)
        await all_blocked()

        assert sending.sent == Sent("c-1", "k", "m-1", 1, 1001, "e1")
        assert received.message.seq == 2
        assert [type(event) for event in before].count(MessageSent) == 1
        assert chat.pending_count == 0


async def test_an_own_push_settles_it_too(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        sending = Sending(group, chat, "t1", client_msg_id="k")
        send = await line.expect(ev.SendMsg)
        line.push(new(1, sender="u-1", key="k"))
        line.push(ack(send, 1))
        await all_blocked()

        assert sending.sent is not None and sending.sent.seq == 1
        line.push(new(2))
        received, before = await until(chat, MessageReceived)
        assert received.message.seq == 2
        assert [type(event) for event in before].count(MessageSent) == 1


async def test_another_payload_under_the_same_key_settles_nothing(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        sending = Sending(group, chat, "other than t1", client_msg_id="k")
        send = await line.expect(ev.SendMsg)
        line.push(new(1, sender="u-1", key="k"))
        received, _ = await until(chat, MessageReceived)
        assert received.message.text == "t1"
        assert sending.sent is None
        line.push(error(send, "CONFLICT", retryable=False))
        await all_blocked()

        assert isinstance(sending.error, ConflictError)
        assert chat.pending_count == 0


async def test_a_refused_message_that_the_log_shows_comes_again(server: FakeServer) -> None:
    """The commit took effect and its answer was lost: the server still holds the conversation for this very key."""
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        first = Sending(group, chat, "t1", client_msg_id="k")
        send = await line.expect(ev.SendMsg)
        line.push(error(send, "UNAVAILABLE", retryable=True))
        line.push(new(1, sender="u-1", key="k"))
        await line.expect(ev.DeliveredAck)
        assert first.sent is not None

        second = Sending(group, chat, "next", client_msg_id="k2")
        assert (await line.expect(ev.SendMsg)).client_msg_id == "k"
        following = await line.expect(ev.SendMsg)
        assert following.client_msg_id == "k2"
        line.push(ack(send, 1), ack(following, 2))
        await all_blocked()
        assert second.sent is not None and second.sent.seq == 2
        assert chat.pending_count == 0


async def test_an_own_message_of_another_device_is_received(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1, sender="u-1", key="of-the-tablet"))

        received, before = await until(chat, MessageReceived)
        assert received.message.client_msg_id == "of-the-tablet"
        assert not any(isinstance(event, MessageSent) for event in before)


async def test_an_acknowledgement_beyond_the_next_seq_masks_no_gap(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        Sending(group, chat, "hi", client_msg_id="k")
        line.push(ack(await line.expect(ev.SendMsg), 3))

        sync = await line.page(new(2), new(3, sender="u-1", key="k"), up_to=3)
        assert sync.last_seq == 1
        received, before = await until(chat, MessageReceived)
        assert received.message.seq == 2
        assert [type(event) for event in before].count(MessageSent) == 1
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 3


async def test_many_waiting_messages_share_frames_within_the_limits(server: FakeServer) -> None:
    config = ClientConfig(window=1000)
    async with client(server, config=config) as chat, anyio.create_task_group() as group:
        for _ in range(300):
            Sending(group, chat, "m", timeout=5)
        for number in range(40):
            Sending(group, chat, str(number) + "x" * 60_000, timeout=5)
        await all_blocked()
        line = await server.accept()
        await line.log_in()
        await all_blocked()

        for seq in range(1, 341):
            line.push(ack(await line.expect(ev.SendMsg), seq))

        sent = [len(frame) for frame in line.frames if isinstance(frame[0], ev.SendMsg)]
        assert sum(sent) == 340
        assert 200 < max(sent) <= 256
        assert len(sent) <= 2 + 40, "small ones share a frame; one above 32 KiB travels alone"
        group.cancel_scope.cancel()


class SlowLine(Line):
    """100 kB a second."""

    async def send(self, frame: bytes | str) -> None:
        await anyio.sleep(len(frame) / 100_000)
        await super().send(frame)


async def test_on_a_slow_line_large_messages_hold_up_neither_requests_nor_themselves() -> None:
    server = FakeServer(SlowLine)
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0), head(0, id_="c-2"))
        sendings = [Sending(group, chat, "x" * 60_000, timeout=200) for _ in range(200)]
        asked_after_s: list[float] = []
        behind_at_s = 0.0
        for seq in range(1, 201):
            event = await line._next()
            while not isinstance(event, ev.SendMsg):
                if isinstance(event, ev.Sync):
                    asked_after_s.append(anyio.current_time() - behind_at_s)
                    page = ev.SyncPage("c-2", "e1", seq, [], seq, False, ref=event.ref)
                    line.push(page)
                event = await line._next()
            line.push(ack(event, seq))
            if seq % 50 == 1:
                behind_at_s = anyio.current_time()
                line.push(ev.Behind("c-2", "e1", seq))
        await all_blocked()

        assert [sending.sent.seq for sending in sendings if sending.sent] == list(range(1, 201))
        assert len(asked_after_s) == 4
        assert max(asked_after_s) < 2.5
        assert (line.ended, server.tries) == (None, 1)


async def test_a_full_queue_refuses_the_next(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(pending_max=2)) as chat:
        for key in ("a", "b"):
            with pytest.raises(SendOutcomeUnknownError):
                await chat.send("c-1", key, client_msg_id=key, timeout=0)

        with pytest.raises(QueueFullError):
            await chat.send("c-1", "c")
        assert chat.pending_count == 2


async def test_the_next_start_resends_what_was_pending(server: FakeServer, tmp_path: Path) -> None:
    path = str(tmp_path / "chat.db")
    async with client(server, store=path, config=ClientConfig(close_timeout_s=0)) as chat:
        for key in ("a", "b"):
            with pytest.raises(SendOutcomeUnknownError):
                await chat.send("c-1", key, client_msg_id=key, timeout=0)
    assert chat.pending_count == 2
    server = FakeServer()

    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in()
        first, second = await line.expect(ev.SendMsg), await line.expect(ev.SendMsg)
        assert (first.client_msg_id, second.client_msg_id) == ("a", "b")
        line.push(ack(first, 1), error(second, "FORBIDDEN", retryable=False))

        sent, _ = await until(chat, MessageSent)
        failed, _ = await until(chat, SendFailed)
        assert (sent.sent.client_msg_id, failed.client_msg_id) == ("a", "b")


async def test_an_own_message_above_a_gap_is_told_once_even_over_a_restart(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "chat.db")
    async with client(server, store=path) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        Sending(group, chat, "hi", client_msg_id="k")
        line.push(ack(await line.expect(ev.SendMsg), 3))
        await until(chat, MessageSent)
    server = FakeServer()

    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(4, delivered=1))
        await line.page(new(2), new(3, sender="u-1", key="k"), new(4), up_to=4)

        received = [(await until(chat, MessageReceived))[0].message.seq for _ in range(2)]
        assert received == [2, 4]


async def test_closing_waits_for_acknowledgements_up_to_its_deadline(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        with pytest.raises(SendOutcomeUnknownError):
            await chat.send("c-1", "hi", timeout=0)
        send = await line.expect(ev.SendMsg)
        async with anyio.create_task_group() as group:
            group.start_soon(_later, 1.0, line.push, ack(send, 1))
            started = anyio.current_time()
            assert await chat.aclose(timeout=5) == 0
            assert anyio.current_time() - started == pytest.approx(1.0, abs=0.1)
        with pytest.raises(ClosedError):
            await chat.send("c-1", "too late")


async def test_closing_reports_what_is_still_pending(server: FakeServer) -> None:
    async with client(server) as chat:
        with pytest.raises(SendOutcomeUnknownError):
            await chat.send("c-1", "hi", timeout=0)

        assert await chat.aclose(timeout=1) == 1
    assert chat.pending_count == 1


async def test_a_message_without_any_answer_means_a_broken_connection(server: FakeServer) -> None:
    config = ClientConfig(ack_wait_s=40, send_timeout_s=500)
    async with client(server, config=config) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in()
        Sending(group, chat, "hi", client_msg_id="k")
        await line.expect(ev.SendMsg)
        for _ in range(5):
            await anyio.sleep(10)
            line.push(ev.Pong(0))

        line = await server.accept()
        await line.log_in()
        assert (await line.expect(ev.SendMsg)).client_msg_id == "k"
        await until(chat, Connected)
        group.cancel_scope.cancel()


async def _later(delay_s: float, what: Any, *arguments: Any) -> None:
    await anyio.sleep(delay_s)
    what(*arguments)


async def test_a_key_that_is_asked_for_again_needs_room_like_any_other(server: FakeServer) -> None:
    """The log has shown it, so that it waits no more, but for the answer that this connection owes."""
    async with client(server, config=ClientConfig(pending_max=1)) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        first = Sending(group, chat, "hi", client_msg_id="k")
        send = await line.expect(ev.SendMsg)
        line.push(error(send, "OVERLOADED", retryable=True, after_ms=50_000))
        line.push(new(2, sender="u-1", payload={"type": "TEXT", "text": "hi"}, key="k"))
        await all_blocked()
        assert first.sent is not None and chat.pending_count == 0
        second = Sending(group, chat, "there", client_msg_id="k2")
        again = Sending(group, chat, "hi", client_msg_id="k")
        await all_blocked()

        assert isinstance(again.error, QueueFullError)
        assert (second.error, chat.pending_count) == (None, 1)
        group.cancel_scope.cancel()
