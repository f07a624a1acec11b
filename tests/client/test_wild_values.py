"""Numbers and answers that no honest server gives: they cost a connection at most, and never run hot."""

from __future__ import annotations

from typing import Any, TypeVar

import anyio
import msgspec
import pytest

from chatkit import ClientConfig
from chatkit.client.events import (
    CaughtUp,
    Connected,
    ConversationChanged,
    Disconnected,
    MessageReceived,
    Reconnecting,
)
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, ack, client, error, head, new, until

_E = TypeVar("_E")


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.mark.parametrize(
    "wrong",
    [
        msgspec.structs.replace(new(1), server_ts=2**63),
        msgspec.structs.replace(new(1), seq=-1),
        ev.Heads([head(2**63, id_="c-2", delivered=2**63)], False),
        ev.Behind("c-1", EPOCH, 2**60),
    ],
)
async def test_a_number_out_of_range_ends_the_connection_and_not_the_client(
    server: FakeServer, wrong: Any
) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(wrong)
        await (await server.accept()).log_in(head(0))
        await until(chat, CaughtUp)
        assert chat.stopped is None


@pytest.mark.parametrize("wait_ms", ["-5000", "1" + "0" * 400])
async def test_a_wild_wait_is_clamped(server: FakeServer, wait_ms: str) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push_text(f'{{"event":"GOAWAY","reason":"drain","reconnectAfterMs":{wait_ms}}}')
        line.close(1001)
        again, _ = await until(chat, Reconnecting)
        assert 0 <= again.delay_s <= 450
        await (await server.accept()).log_in(head(0))


async def test_a_log_said_to_start_at_0_starts_at_1(server: FakeServer) -> None:
    async with client(server) as chat:
        await (await server.accept()).log_in(head(0, first=0))
        await until(chat, CaughtUp)
        assert await chat.history("c-1") == []
        assert chat.heads["c-1"].first_seq == 1


async def test_an_epoch_that_flips_on_every_page_is_asked_for_ever_more_seldom(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(3))
        for place in range(2, 20):
            sync = await _next_of(line, ev.Sync)
            if sync.epoch is not ev.UNSET:
                line.push(ev.ErrorEvent("CONFLICT", "another epoch", False, ref=sync.ref))
                sync = await _next_of(line, ev.Sync)
            line.push(ev.SyncPage("c-1", f"e{place}", 3, [], 1, True, ref=sync.ref))
        assert chat._ports.clock.now_s() > 1  # the waits; a hot loop takes no time at all


async def test_a_drain_with_a_paused_conversation_does_not_run_hot(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        group.start_soon(_send, chat)
        send = await line.expect(ev.SendMsg)
        line.push(ev.GoAway("drain", 100), error(send, "UNAVAILABLE", retryable=True, after_ms=50))
        await line.quiet(5)  # on virtual time a hot loop never gets here
        line.close(1001)
        line = await server.accept()
        await line.log_in(head(0))
        line.push(ack(await line.expect(ev.SendMsg), 1))


async def test_a_token_callable_that_cancels_itself_only_failed(server: FakeServer) -> None:
    calls: list[None] = []

    async def token() -> str:
        calls.append(None)
        if len(calls) < 3:
            raise anyio.get_cancelled_exc_class()
        return "secret-token"

    async with client(server, token=token) as chat:
        await (await server.accept()).log_in(head(0))
        await until(chat, CaughtUp)
    assert len(calls) == 3


async def test_4201_after_a_try_that_was_given_up_is_believed_the_second_time(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(hello_timeout_s=1)) as chat:
        await (await server.accept()).expect(ev.Hello)  # no WELCOME: it is on its way for long
        line = await server.accept()
        await line.log_in()
        await until(chat, Connected)
        line.close(4201, "replaced")
        assert (await until(chat, Disconnected))[0].will_retry is True

        line = await server.accept()
        await line.log_in()
        await until(chat, Connected)
        line.close(4201, "replaced")
        assert (await until(chat, Disconnected))[0].will_retry is False
        await chat.aclose()


async def test_own_sends_beyond_the_bound_above_a_gap_are_not_shown_again(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(held_max=2)) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        keys = []
        for seq in range(2, 7):
            async with anyio.create_task_group() as group:
                group.start_soon(_send, chat, f"k{seq}")
                send = await _next_of(line, ev.SendMsg)
                keys.append(send.client_msg_id)
                line.push(ack(send, seq))
        own = [new(seq, sender="u-1", key=key) for seq, key in enumerate(keys, start=2)]
        line.push(ev.Behind("c-1", EPOCH, 7))
        sync = await _next_of(line, ev.Sync)
        entries = [ev.LogEntry(**msgspec.structs.asdict(each)) for each in (new(1), *own, new(7))]
        line.push(ev.SyncPage("c-1", EPOCH, 7, entries, 7, False, ref=sync.ref))

        shown = []
        while shown[-1:] != [7]:
            shown.append((await until(chat, MessageReceived))[0].message.seq)
        assert shown == [1, 7]


async def test_a_new_membership_lets_go_of_what_was_held_from_before(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1, payload={"type": "TEXT", "text": "secret"}), new(2))
        await until(chat, MessageReceived)
        line.push(ev.ConversationPush("c-1", "GROUP", "LEFT"))
        await until(chat, ConversationChanged)
        line.push(ev.ConversationPush("c-1", "GROUP", "JOINED"))
        joined = new(5, payload={"type": "MEMBER", "op": "ADDED", "userIds": ["u-1"]})
        await line.expect(ev.DeliveredAck)
        await line.page(joined, up_to=5)
        assert (await until(chat, MessageReceived))[0].message.seq == 5
        store = chat._runtime.store  # type: ignore[union-attr]
        assert [message.seq for message in store.messages("c-1", 9, 9)] == [5]
        await line.expect(ev.DeliveredAck)

        async with anyio.create_task_group() as group:
            group.start_soon(_history, chat)
            await line.page(new(1, payload={"type": "RECALLED"}), new(2), up_to=2)


async def _history(chat: Any) -> None:
    assert [(each.seq, each.type) for each in await chat.history("c-1")] == [
        (1, "RECALLED"),
        (2, "TEXT"),
        (5, "MEMBER"),
    ]


async def _send(chat: Any, key: str = "k") -> None:
    await chat.send("c-1", "hi", client_msg_id=key)


async def _next_of(line: Any, kind: type[_E]) -> _E:
    """The next event of this kind; others before it are passed over."""
    while True:
        event = await line._next()
        if isinstance(event, kind):
            return event
