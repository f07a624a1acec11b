"""Queued messages can be listed, and taken back while they surely never left."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

from chatkit.client.events import CaughtUp, MessageReceived, MessageSent, SendFailed
from chatkit.client.outbox import PendingMessage
from chatkit.errors import ConflictError, SendCancelledError, SendOutcomeUnknownError
from chatkit.transport.base import TransportClosedError
from chatkit.types import Sent
from chatkit.wire import events as ev

from .fake_server import FakeServer, ack, client, error, head, new, until


def offline() -> FakeServer:
    server = FakeServer()
    server.refusals.extend(TransportClosedError(1006) for _ in range(100))
    return server


async def test_what_never_left_is_taken_back_and_its_waiter_is_told() -> None:
    raised: list[Exception] = []
    server = offline()
    async with client(server) as chat, anyio.create_task_group() as group:

        async def send() -> None:
            try:
                await chat.send("c-1", "one", client_msg_id="k1")
            except SendCancelledError as error:
                raised.append(error)

        group.start_soon(send)
        await anyio.sleep(0.1)
        with pytest.raises(SendOutcomeUnknownError):
            await chat.send("c-1", "two", client_msg_id="k2", timeout=1)
        assert chat.pending() == [
            PendingMessage("c-1", "k1", {"type": "TEXT", "text": "one"}, False),
            PendingMessage("c-1", "k2", {"type": "TEXT", "text": "two"}, False),
        ]
        assert chat.cancel("c-1", "k1") == "CANCELLED"
        assert chat.cancel("c-1", "k1") == "UNKNOWN"
        await anyio.sleep(0.1)
        assert [type(error) for error in raised] == [SendCancelledError]

        server.refusals.clear()
        line = await server.accept()
        await line.log_in(head(0))
        assert (await line.expect(ev.SendMsg)).client_msg_id == "k2"
        await line.quiet(5)
        await chat.aclose(0)


async def test_what_may_be_stored_is_not_taken_back_and_its_fate_is_an_event() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        with pytest.raises(SendOutcomeUnknownError):
            await chat.send("c-1", "one", client_msg_id="k1", timeout=1)
        await line.expect(ev.SendMsg)
        assert chat.cancel("c-1", "k1") == "MAY_BE_SENT"
        line.close(1006)
        await anyio.sleep(0)
        assert chat.cancel("c-1", "k1") == "MAY_BE_SENT"
        assert [message.may_be_sent for message in chat.pending()] == [True]
        line = await server.accept()
        await line.log_in(head(0))
        line.push(ack(await line.expect(ev.SendMsg), 1))
        sent, _ = await until(chat, MessageSent)
        assert sent.sent.client_msg_id == "k1"
        assert chat.cancel("c-1", "k1") == "UNKNOWN"
        assert chat.pending() == []


async def test_a_cancelled_message_stays_cancelled_after_a_restart_and_others_of_then_may_have_left(
    tmp_path: Path,
) -> None:
    async with client(offline(), store=tmp_path / "chat.db") as chat:
        for key in ("k1", "k2"):
            with pytest.raises(SendOutcomeUnknownError):
                await chat.send("c-1", "x", client_msg_id=key, timeout=0)
        assert chat.cancel("c-1", "k1") == "CANCELLED"
        await chat.aclose(0)
    async with client(offline(), store=str(tmp_path / "chat.db")) as chat:
        assert [message.client_msg_id for message in chat.pending()] == ["k2"]
        assert chat.cancel("c-1", "k2") == "MAY_BE_SENT"
        await chat.aclose(0)


REWRITTEN = {"type": "TEXT", "text": "***"}


@pytest.mark.parametrize("is_conflict", [False, True])
async def test_what_the_log_shows_in_other_words_before_the_answer_is_told_once(is_conflict: bool) -> None:
    """A moderator rewrote it and its answer was lost; or the key is of an older message with those words."""
    outcomes: list[Sent | Exception] = []
    server = FakeServer()
    async with client(server) as chat, anyio.create_task_group() as group:

        async def send() -> None:
            try:
                outcomes.append(await chat.send("c-1", "one", client_msg_id="k1"))
            except ConflictError as refusal:
                outcomes.append(refusal)

        first = await server.accept()
        await first.log_in(head(0))
        await until(chat, CaughtUp)
        group.start_soon(send)
        await first.expect(ev.SendMsg)
        first.close(1006)
        line = await server.accept()
        await line.log_in(head(1))
        again = await line.expect(ev.SendMsg)
        await line.page(new(1, sender="u-1", payload=REWRITTEN, key="k1"), up_to=1)
        received, _ = await until(chat, MessageReceived)
        assert (received.message.client_msg_id, received.message.payload) == ("k1", REWRITTEN)
        assert outcomes == []

        if is_conflict:
            line.push(error(again, "CONFLICT", retryable=False))
            await until(chat, SendFailed)
        else:
            line.push(
                msgspec.structs.replace(ack(again, 1), payload=msgspec.Raw(msgspec.json.encode(REWRITTEN)))
            )
        line.push(new(2))
        after, before = await until(chat, MessageReceived)

        assert (after.message.seq, [it for it in before if isinstance(it, MessageSent)]) == (2, [])
        await anyio.wait_all_tasks_blocked()
        (outcome,) = outcomes
        if is_conflict:
            assert isinstance(outcome, ConflictError)
        else:
            assert isinstance(outcome, Sent)
            assert (outcome.seq, outcome.payload) == (1, REWRITTEN)
        assert chat.pending() == []
