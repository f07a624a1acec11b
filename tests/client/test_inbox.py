"""Dedup, order, gaps, recalls, heads, epochs, and the app that is too slow."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from chatkit import ClientConfig
from chatkit.client.events import (
    CaughtUp,
    ConversationChanged,
    EpochChanged,
    MessageRecalled,
    MessageReceived,
    ReceiptChanged,
    ReceiptCounts,
    Typing,
)
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import BadRequestError, ClientError, NotFoundError
from chatkit.types import Receipt
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, client, head, new, recall, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def received(chat: object, count: int) -> list[int]:
    return [(await until(chat, MessageReceived))[0].message.seq for _ in range(count)]  # type: ignore[arg-type]


async def test_pushes_are_told_stored_and_confirmed_once_per_frame(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        line.push(new(3), new(4), new(4), new(3), new(5))

        assert await received(chat, 3) == [3, 4, 5]
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 5
        assert [message.seq for message in store.messages("c-1", 99, 9)] == [3, 4, 5]
        await line.quiet(1)


async def test_a_hole_that_closes_by_itself_is_not_pulled(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        line.push(new(4))
        await line.quiet(0.15)
        line.push(new(3))

        assert await received(chat, 2) == [3, 4]
        await line.expect(ev.DeliveredAck)
        await line.quiet(1)


async def test_a_hole_is_pulled_after_the_gap_wait(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        await until(chat, CaughtUp)
        started = anyio.current_time()
        line.push(new(5))

        sync = await line.page(new(4), new(5), up_to=5)

        assert anyio.current_time() - started == pytest.approx(0.2, abs=0.01)
        assert (sync.last_seq, sync.epoch, sync.limit) == (2, EPOCH, 200)
        assert await received(chat, 2) == [4, 5]


async def test_behind_is_pulled_at_once(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        line.push(ev.Behind("c-1", EPOCH, 4))
        started = anyio.current_time()

        await line.page(new(3), up_to=3, head=4)
        await line.expect(ev.DeliveredAck)
        await line.page(new(4), up_to=4)

        assert anyio.current_time() - started < 0.01
        assert await received(chat, 2) == [3, 4]


async def test_with_a_window_of_one_missed_entries_are_pulled_in_the_order_of_the_heads_page_by_page(
    server: FakeServer,
) -> None:
    async with client(server, config=ClientConfig(sync_window=1)) as chat:
        line = await server.accept()
        await line.log_in(head(2, id_="c-new"), head(1, id_="c-old"), head(1, delivered=1, id_="c-done"))

        first = await line.expect(ev.Sync)
        await line.quiet(1)
        entry = new(1, id_="c-new")
        line.push(_page(first, 2, 1, entry))
        more = await line.expect(ev.DeliveredAck)
        second = await line.expect(ev.Sync)
        line.push(_page(second, 2, 2, new(2, id_="c-new")))
        await line.expect(ev.DeliveredAck)
        third = await line.page(new(1, id_="c-old"), up_to=1)

        assert (first.conversation_id, first.last_seq) == ("c-new", 0)
        assert more.conversation_id == "c-new"
        assert (second.conversation_id, second.last_seq) == ("c-new", 1)
        assert third.conversation_id == "c-old"
        _, before = await until(chat, CaughtUp)
        assert [event.message.seq for event in before if isinstance(event, MessageReceived)] == [1, 2, 1]


async def test_a_new_device_starts_at_its_delivered_cursor(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(9, delivered=7))

        sync = await line.page(new(8), new(9), up_to=9)

        assert sync.last_seq == 7
        assert await received(chat, 2) == [8, 9]


async def test_a_push_before_the_heads_waits_for_them(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        from .fake_server import welcome

        line.push(welcome(), new(10))
        await line.quiet(1)
        line.push(ev.Heads([head(9, delivered=9)], False))

        sync = await line.page(new(10), up_to=10)
        assert sync.last_seq == 9
        assert await received(chat, 1) == [10]


async def test_a_push_of_an_unknown_conversation_means_joined(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, CaughtUp)
        line.push(new(5, id_="c-2"))

        sync = await line.page(new(4, id_="c-2"), new(5, id_="c-2"), up_to=5)

        assert (sync.conversation_id, sync.last_seq) == ("c-2", 0)
        assert await received(chat, 2) == [4, 5]


async def test_a_left_conversation_stays_left_until_the_heads_have_it_again(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "chat.db")
    shown: list[list[ConversationChanged]] = []
    for heads in ([head(1, delivered=1)], [], [], [head(3, delivered=1)]):
        server = FakeServer()
        async with client(server, store=path) as chat:
            line = await server.accept()
            await line.log_in(*heads)
            if heads and heads[0].head_seq == 3:
                await line.page(new(3), up_to=3)
            _, before = await until(chat, CaughtUp)
            shown.append([event for event in before if isinstance(event, ConversationChanged)])

    left, joined = (ConversationChanged("c-1", "GROUP", change) for change in ("LEFT", "JOINED"))
    assert shown == [[], [left], [], [joined]]


async def test_heads_in_pages_are_complete_only_at_their_end(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(*(head(0, id_=f"c-{number}") for number in range(3)))
        await until(chat, CaughtUp)
        line.push(ev.Heads([head(0, id_="c-0")], True))
        line.push(new(1, id_="c-2"))
        line.push(ev.Heads([], False))

        left, before = await until(chat, ConversationChanged)
        assert (left.conversation_id, left.change) == ("c-1", "LEFT")
        assert [event.message.conversation_id for event in before if isinstance(event, MessageReceived)] == [
            "c-2"
        ]
        assert sorted(chat.heads) == ["c-0", "c-2"]


async def test_joining_and_leaving_while_online(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line.push(ev.ConversationPush("c-2", "SINGLE", "JOINED"))
        await line.page(new(1, id_="c-2"), up_to=1)
        joined, _ = await until(chat, ConversationChanged)
        assert joined == ConversationChanged("c-2", "SINGLE", "JOINED")
        assert await received(chat, 1) == [1]
        assert chat.heads["c-2"].type == "SINGLE"

        line.push(ev.ConversationPush("c-2", "SINGLE", "LEFT"))
        left, _ = await until(chat, ConversationChanged)
        assert left.change == "LEFT"
        assert chat.heads == {}


async def test_a_pull_that_is_not_found_means_left(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(4))
        sync = await line.expect(ev.Sync)
        line.push(ev.ErrorEvent("NOT_FOUND", "no", False, ref=sync.ref))

        left, _ = await until(chat, ConversationChanged)
        assert left.change == "LEFT"
        await line.quiet(5)


async def test_a_pull_refused_for_now_comes_again_after_the_hint(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(1))
        sync = await line.expect(ev.Sync)
        line.push(ev.ErrorEvent("OVERLOADED", "busy", True, 2000, ref=sync.ref))
        await line.quiet(1.9)

        await line.page(new(1), up_to=1)
        assert await received(chat, 1) == [1]
        await until(chat, CaughtUp)


async def test_a_page_that_brings_nothing_is_not_asked_for_in_a_hot_loop(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        line.push(ev.Behind("c-1", EPOCH, 9))
        for _ in range(3):
            await line.page(up_to=2)
            await line.quiet(0.1)


@pytest.mark.parametrize("other", ["e2", "0"])
async def test_another_epoch_in_the_heads_starts_afresh(
    server: FakeServer, tmp_path: Path, other: str
) -> None:
    path = str(tmp_path / "chat.db")
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1), new(2))
        await received(chat, 2)
    server = FakeServer()
    async with client(server, store=path) as chat:
        line = await server.accept()
        await line.log_in(head(1, epoch=other))
        sync = await line.page(
            new(1, epoch=other, payload={"type": "TEXT", "text": "new"}), up_to=1, epoch=other
        )

        assert (sync.last_seq, sync.epoch) == (0, other)
        changed, _ = await until(chat, EpochChanged)
        assert changed == EpochChanged("c-1", other, 0)
        assert await received(chat, 1) == [1]
        assert [message.text for message in await chat.history("c-1")] == ["new"]


async def test_another_epoch_in_a_push_is_settled_by_a_pull(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=2))
        line.push(new(3, epoch="e2"))
        sync = await line.expect(ev.Sync)
        assert (sync.last_seq, sync.epoch) == (2, EPOCH)
        line.push(ev.ErrorEvent("CONFLICT", "another epoch", False, ref=sync.ref))

        again = await line.page(new(1, epoch="e2"), up_to=1, epoch="e2")

        assert (again.last_seq, again.epoch) == (0, ev.UNSET)
        await until(chat, EpochChanged)
        assert await received(chat, 1) == [1]
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 1


async def test_a_recall_blanks_what_was_shown(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1))
        shown, _ = await until(chat, MessageReceived)
        line.push(recall(2, 1))
        recalled, _ = await until(chat, MessageRecalled)

        assert shown.message.text == "t1"
        assert recalled == MessageRecalled("c-1", "m-1", 1, "u-2")
        assert [message.type for message in store.messages("c-1", 9, 9)] == ["RECALLED", "RECALL"]


async def test_a_recall_that_comes_early_wins(server: FakeServer) -> None:
    store = MemoryStore()
    async with client(server, store=store) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(recall(3, 2))
        line.push(new(2), new(1))

        first, _ = await until(chat, MessageReceived)
        second, _ = await until(chat, MessageReceived)
        recalled, _ = await until(chat, MessageRecalled)
        assert (first.message.type, second.message.type, recalled.seq) == ("TEXT", "RECALLED", 2)
        assert store.messages("c-1", 3, 1)[0].payload == {"type": "RECALLED"}


async def test_an_unknown_payload_keeps_its_seq_and_shows_its_fallback(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line.push(new(1, payload={"type": "HOLOGRAM", "fallbackText": "a hologram"}), new(2))

        hologram, _ = await until(chat, MessageReceived)
        assert hologram.message.text == "a hologram"
        assert await received(chat, 1) == [2]


async def test_a_slow_app_stops_the_pushes_and_loses_nothing(server: FakeServer) -> None:
    config = ClientConfig(events_max=10, events_low=5, gap_wait_s=0.01)
    async with client(server, config=config) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        for seq in range(1, 51):
            line.push(new(seq))
            await anyio.sleep(0.001)
        line.push(ev.TypingPush("c-1", "u-2"))
        await anyio.sleep(1)
        acks = [event.up_to_seq for event in line.received if isinstance(event, ev.DeliveredAck)]
        assert not any(isinstance(event, ev.Sync) for event in line.received)
        line.received.clear()

        seqs = []
        async with anyio.create_task_group() as group:
            group.start_soon(_serve_pages, line, 50)
            while len(seqs) < 50:
                event, before = await until(chat, MessageReceived)
                assert not any(isinstance(each, Typing) for each in before)
                seqs.append(event.message.seq)
            group.cancel_scope.cancel()

        assert seqs == list(range(1, 51))
        assert max(acks) < 12


async def test_a_small_buffer_never_holds_more_than_its_bound_and_a_page(server: FakeServer) -> None:
    config = ClientConfig(events_max=10, events_low=5)
    async with client(server, config=config) as chat:
        line = await server.accept()
        await line.log_in(head(600))
        async with anyio.create_task_group() as group:
            group.start_soon(_serve_pages, line, 600)
            await anyio.sleep(5)
            assert len(chat._runtime.events) < 10 + 200  # type: ignore[union-attr]
            assert await received(chat, 600) == list(range(1, 601))
            group.cancel_scope.cancel()


async def test_one_consumer_at_a_time_and_the_next_may_follow(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        group.start_soon(received, chat, 1)
        await anyio.sleep(0.1)
        with pytest.raises(ClientError):
            await received(chat, 1)

        line.push(new(1))
        await anyio.sleep(0.1)
        line.push(new(2))
        assert await received(chat, 1) == [2]


async def test_history_is_completed_from_the_server(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(250, delivered=250))
        line.push(new(251))
        await received(chat, 1)
        await line.expect(ev.DeliveredAck)
        group.start_soon(_serve_pages, line, 251)

        newest = await chat.history("c-1", limit=50)
        again = await chat.history("c-1", limit=50)
        older = await chat.history("c-1", before_seq=newest[0].seq, limit=200)
        oldest = await chat.history("c-1", before_seq=older[0].seq, limit=200)
        far = await chat.history("c-1", before_seq=5, limit=2)

        assert [message.seq for message in newest] == list(range(202, 252))
        assert newest == again
        assert [message.seq for message in older] == list(range(2, 202))
        assert [message.seq for message in oldest] == [1]
        assert [message.seq for message in far] == [3, 4]
        group.cancel_scope.cancel()


async def test_history_passes_over_what_is_not_visible(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(5000, delivered=5000, first=10))
        group.start_soon(_serve_pages, line, 5000, {10, 11, 4000})

        assert [message.seq for message in await chat.history("c-1", limit=3)] == [10, 11, 4000]
        group.cancel_scope.cancel()


async def test_history_of_nothing_and_with_bad_arguments(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        with pytest.raises(NotFoundError):
            await chat.history("c-unknown")
        for arguments in ({"limit": 0}, {"limit": 201}, {"before_seq": -1}):
            with pytest.raises(BadRequestError):
                await chat.history("c-1", **arguments)  # type: ignore[arg-type]


async def test_receipts_give_the_state_of_own_messages(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(5, delivered=5, type_="SINGLE", others=(2, 1)))
        risen, _ = await until(chat, ReceiptChanged)
        assert risen.receipt == Receipt("c-1", "", 2, 1)
        assert [chat.message_state("c-1", seq) for seq in (1, 2, 3)] == ["READ", "DELIVERED", "SENT"]

        line.push(ev.ReceiptPush("c-1", "u-2", delivered_seq=4, read_seq=3))
        live, _ = await until(chat, ReceiptChanged)
        assert live.receipt == Receipt("c-1", "u-2", 4, 3)
        assert [chat.message_state("c-1", seq) for seq in (3, 4, 5)] == ["READ", "DELIVERED", "SENT"]

        line.push(ev.ReceiptPush("c-1", "u-1", delivered_seq=5, read_seq=5))
        await until(chat, ReceiptChanged)
        assert chat.heads["c-1"].read_seq == 5
        assert chat.message_state("c-unknown", 1) == "SENT"


async def test_counts_of_large_groups_are_told(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(5, delivered=5))
        line.push(ev.ReceiptPush("c-1", seq=5, delivered_count=7, read_count=3, member_count=150))

        counts, _ = await until(chat, ReceiptCounts)
        assert counts == ReceiptCounts("c-1", 5, 7, 3, 150)


async def test_events_of_a_newer_server_are_ignored(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        line._to_client.append(
            '[{"event":"HOLOGRAM","x":1},{"event":"NEWS_OF_TOMORROW","userId":"u","online":true}]'
        )
        line.push(new(1))

        assert await received(chat, 1) == [1]


def _page(sync: ev.Sync, head_seq: int, up_to: int, *messages: ev.NewMsg) -> ev.SyncPage:
    from .fake_server import entry

    entries = [entry(message) for message in messages]
    return ev.SyncPage(sync.conversation_id, EPOCH, head_seq, entries, up_to, up_to < head_seq, ref=sync.ref)


async def _serve_pages(line: object, head_seq: int, visible: set[int] | None = None) -> None:
    """Answer every SYNC from a log of `head_seq` entries."""
    while True:
        sync = await line._next()  # type: ignore[attr-defined]
        if not isinstance(sync, ev.Sync):
            continue
        limit = sync.limit if isinstance(sync.limit, int) else 200
        seen = [seq for seq in range(sync.last_seq + 1, head_seq + 1) if visible is None or seq in visible]
        up_to = seen[limit - 1] if len(seen) > limit else head_seq
        line.push(_page(sync, head_seq, up_to, *(new(seq) for seq in seen[:limit])))  # type: ignore[attr-defined]
