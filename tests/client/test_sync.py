"""The queue of pulls: order, waits for holes, and what was refused."""

from __future__ import annotations

import anyio

from chatkit import ClientConfig
from chatkit.client.conversation import Conversation
from chatkit.client.events import CaughtUp, MessageReceived
from chatkit.client.sync import PullWindow, SyncQueue
from chatkit.core.timeline import Timeline
from chatkit.testing.virtual_time import VirtualClock
from chatkit.wire import events as ev

from .fake_server import EPOCH, FakeServer, Line, client, entry, head, new, until


def behind(name: str) -> Conversation:
    conversation = Conversation(name, "GROUP", Timeline("e1"))
    conversation.timeline.rise(5)
    return conversation


def taken(queue: SyncQueue) -> list[str]:
    names = []
    while (conversation := queue.take()) is not None:
        names.append(conversation.id)
    return names


async def test_in_the_order_of_the_heads_and_what_is_live_first() -> None:
    queue = SyncQueue(0.2, VirtualClock())
    for name in ("a", "b", "c"):
        queue.add(behind(name))
    queue.add(behind("b"), first=True)
    queue.add(behind("a"))

    assert taken(queue) == ["b", "a", "c"]
    assert queue.empty


async def test_a_hole_has_time_to_close_by_itself() -> None:
    queue, closes, stays = SyncQueue(0.2, VirtualClock()), behind("a"), behind("b")
    queue.gap(closes)
    queue.gap(stays)
    assert (taken(queue), queue.wait_s(), queue.empty) == ([], 0.2, False)

    closes.timeline.prefix = 5
    await anyio.sleep(0.2)
    assert taken(queue) == ["b"]
    assert queue.empty


async def test_a_refused_pull_is_due_whatever_the_timeline_says_then() -> None:
    queue, known = SyncQueue(0.2, VirtualClock()), Conversation("a", "GROUP", Timeline("e1"))
    queue.again(known, 3.0)
    await anyio.sleep(3)

    assert taken(queue) == ["a"]


async def test_what_was_left_meanwhile_is_not_pulled() -> None:
    queue, left = SyncQueue(0.2, VirtualClock()), behind("a")
    queue.again(left, 1.0)
    left.left = True
    await anyio.sleep(1)

    assert taken(queue) == []


async def test_a_wait_that_runs_stays_and_a_pull_at_once_ends_it() -> None:
    queue, it = SyncQueue(0.2, VirtualClock()), behind("a")
    queue.later(it, 1.0)
    queue.later(it, 9.0)
    assert queue.wait_s() == 1.0

    queue.add(it)
    assert (queue.wait_s(), taken(queue)) == (None, ["a"])


async def test_with_the_connection_everything_is_forgotten() -> None:
    queue = SyncQueue(0.2, VirtualClock())
    queue.add(behind("a"))
    queue.add(behind("b"), first=True)
    queue.again(behind("c"), 1.0)
    queue.clear()

    assert queue.empty


def test_the_window_grows_with_each_quick_round_and_halves_where_pages_are_late() -> None:
    window = PullWindow(48)
    sizes = []
    for _ in range(5):
        sizes.append(window.size)
        for _ in range(window.size):
            window.answered(0.1)
    assert sizes == [1, 4, 16, 48, 48]
    window.answered(5.0)
    assert window.size == 24
    window.reset()
    window.answered(5.0)
    assert window.size == 1


async def test_300_conversations_over_a_line_of_100_ms_take_few_rounds() -> None:
    server, rounds, most = FakeServer(), 0, 0
    names = [f"c-{number:03}" for number in range(300)]
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(*(head(2, delivered=1, id_=name) for name in names[:200]))
        line.push(ev.Heads([head(2, delivered=1, id_=name) for name in names[200:]], False))
        asked: list[str] = []
        began_s = anyio.current_time()
        while len(asked) < len(names):
            await anyio.sleep(0.1)
            rounds += 1
            syncs = [event for event in line.received if isinstance(event, ev.Sync)]
            line.received.clear()
            most = max(most, len(syncs))
            for sync in syncs:
                asked.append(sync.conversation_id)
                entries = [entry(new(2, id_=sync.conversation_id))]
                line.push(ev.SyncPage(sync.conversation_id, EPOCH, 2, entries, 2, False, ref=sync.ref))
        await until(chat, CaughtUp)
        assert rounds <= 10 and anyio.current_time() - began_s < 1.1
        assert most == 48
        assert asked == names  # in the order of the heads


async def test_a_page_that_takes_half_a_minute_is_asked_for_alone() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(*(head(2, delivered=1, id_=name) for name in "abcd"))
        for _ in range(4):
            sync = await _next_sync(line)
            line.received.clear()
            await anyio.sleep(13)
            line.push(ev.Pong(server_ts=0))
            await anyio.sleep(13)
            assert not any(isinstance(event, ev.Sync) for event in line.received)
            entries = [entry(new(2, id_=sync.conversation_id))]
            line.push(ev.SyncPage(sync.conversation_id, EPOCH, 2, entries, 2, False, ref=sync.ref))
        _, before = await until(chat, CaughtUp)
        assert sum(isinstance(event, MessageReceived) for event in before) == 4


async def test_one_conversation_has_one_page_under_way_and_the_end_waits_for_all() -> None:
    server = FakeServer()
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in(head(2, delivered=1, id_="warm"), head(1, id_="a"), head(1, id_="b"))
        await line.page(new(2, id_="warm"), up_to=2)
        await _next_sync(line)
        first, second = [event for event in line.received if isinstance(event, ev.Sync)]
        line.received.clear()
        line.push(ev.Behind("a", EPOCH, 1), ev.Behind("a", EPOCH, 1))
        line.push(ev.SyncPage("b", EPOCH, 1, [entry(new(1, id_="b"))], 1, False, ref=second.ref))
        await anyio.sleep(1)
        assert [event for event in line.received if isinstance(event, ev.Sync)] == []
        line.push(ev.SyncPage("a", EPOCH, 1, [entry(new(1, id_="a"))], 1, False, ref=first.ref))
        again = await _next_sync(line)
        assert again.conversation_id == "a"  # a head that came meanwhile is looked after
        line.push(ev.SyncPage("a", EPOCH, 1, [], 1, False, ref=again.ref))
        _, before = await until(chat, CaughtUp)
        assert sum(isinstance(event, MessageReceived) for event in before) == 3


async def _next_sync(line: Line) -> ev.Sync:
    while True:
        for event in line.received:
            if isinstance(event, ev.Sync):
                return event
        await anyio.sleep(0.01)


async def test_no_more_is_under_way_than_the_app_has_room_for() -> None:
    server, config = FakeServer(), ClientConfig(events_max=50, events_low=10, page_limit=10)
    async with client(server, config=config) as chat:
        line = await server.accept()
        await line.log_in(*(head(10, id_=f"c-{number}") for number in range(30)))
        answered = 0
        for _ in range(40):
            await anyio.sleep(0.1)
            syncs = [event for event in line.received if isinstance(event, ev.Sync)]
            line.received.clear()
            assert answered + 10 * len(syncs) <= 60
            for sync in syncs:
                entries = [entry(new(seq, id_=sync.conversation_id)) for seq in range(1, 11)]
                line.push(ev.SyncPage(sync.conversation_id, EPOCH, 10, entries, 10, False, ref=sync.ref))
                answered += 10
        assert 40 <= answered <= 60
        await chat.aclose(0)


async def test_refusals_of_what_was_asked_side_by_side_count_as_one() -> None:
    server = FakeServer()
    async with client(server):
        line = await server.accept()
        await line.log_in(*(head(1, id_=f"c-{number:02}") for number in range(20)))
        for _ in range(2):
            await anyio.sleep(0.1)
            syncs = [event for event in line.received if isinstance(event, ev.Sync)]
            line.received.clear()
            for sync in syncs:
                entries = [entry(new(1, id_=sync.conversation_id))]
                line.push(ev.SyncPage(sync.conversation_id, EPOCH, 1, entries, 1, False, ref=sync.ref))
        await anyio.sleep(0.1)
        syncs = [event for event in line.received if isinstance(event, ev.Sync)]
        line.received.clear()
        assert len(syncs) == 15
        for sync in syncs:
            line.push(ev.ErrorEvent("OVERLOADED", "busy", True, ref=sync.ref))
        await anyio.sleep(0.3)
        again = [event for event in line.received if isinstance(event, ev.Sync)]
        assert len(again) == 1  # after the first wait (0.25 s), and one at a time again


async def test_a_pull_that_was_refused_for_now_is_not_asked_before_its_time_whatever_comes() -> None:
    server = FakeServer()
    async with client(server):
        line = await server.accept()
        await line.log_in(head(5))
        asked = await line.expect(ev.Sync)
        line.push(ev.ErrorEvent("OVERLOADED", "no", True, 20_000, ref=asked.ref))
        await line.quiet(0.1)
        line.push(ev.Behind("c-1", EPOCH, 6))
        await line.quiet(19)
        await line.expect(ev.Sync)
