"""The buffer of events: what it keeps, what it drops, and when it stops the reader."""

from __future__ import annotations

import anyio

from chatkit.client.event_queue import EventQueue
from chatkit.client.events import (
    ChatEvent,
    Connected,
    Connecting,
    ConversationChanged,
    MessageEdited,
    MessageReceived,
    MessageSent,
    SendFailed,
    StreamGrew,
    Typing,
)
from chatkit.errors import ForbiddenError
from chatkit.types import Edit, Message, Sent

MESSAGE = MessageReceived(Message("c-1", 1, "m-1", "u-2", 1, {"type": "TEXT", "text": ""}))
SENT = MessageSent(Sent("c-1", "k", "m-1", 1, 1))


def filled(*events: ChatEvent, events_max: int = 4, events_low: int = 1) -> EventQueue:
    queue = EventQueue(events_max, events_low)
    for event in events:
        queue.put(event)
    return queue


async def emptied(queue: EventQueue) -> list[ChatEvent]:
    queue.close()
    events: list[ChatEvent] = []
    while (delivery := await queue.take()) is not None:
        events.append(delivery.event)
    return events


async def test_pauses_at_its_bound_and_goes_on_at_the_low_mark() -> None:
    queue = filled(MESSAGE, MESSAGE, MESSAGE)
    assert not queue.paused
    queue.put(MESSAGE)
    paused = []
    while len(queue):
        paused.append(queue.paused)
        await queue.take()
    assert paused == [True, True, True, False]


async def test_paused_it_drops_what_is_ephemeral_and_keeps_messages() -> None:
    queue = filled(MESSAGE, MESSAGE, MESSAGE, MESSAGE)
    queue.put(Typing("c-1", "u-2"))
    queue.put(MESSAGE)
    queue.put(SENT, droppable=True)

    assert await emptied(queue) == [MESSAGE] * 5


async def test_connection_states_always_fit_and_do_not_pile_up() -> None:
    queue = filled(MESSAGE, MESSAGE, MESSAGE, MESSAGE)
    for attempt in range(1000):
        queue.put(Connecting(attempt))
    queue.put(Connected("s", False))

    assert await emptied(queue) == [MESSAGE] * 4 + [Connected("s", False)]


def grew(parts: int, text: str, seq: int = 1) -> StreamGrew:
    return StreamGrew("c-1", f"m-{seq}", seq, parts, text)


async def test_of_a_stream_the_newest_text_waits() -> None:
    """Each has all of the text: together they would fill the queue, and keep real messages out of it."""
    queue = filled(grew(1, "a"), MESSAGE, grew(1, "b", seq=2), events_max=8)
    for parts in range(2, 3_000):
        queue.put(grew(parts, "a" * parts * 20))
    assert not queue.paused
    assert await emptied(queue) == [grew(2_999, "a" * 59_980), MESSAGE, grew(1, "b", seq=2)]
    assert queue.size_bytes == 0


async def test_a_stream_that_waits_grows_also_while_paused_or_passed_over() -> None:
    queue = filled(grew(1, "a"), MESSAGE, MESSAGE, MESSAGE)
    assert queue.paused
    queue.put(grew(2, "ab"))
    queue.put(grew(1, "b", seq=2))
    queue.release("")
    assert await queue.take(lambda _: True) is None
    queue.put(grew(3, "abc"))
    queue.resume()
    assert await emptied(queue) == [grew(3, "abc"), MESSAGE, MESSAGE, MESSAGE]
    queue.put(grew(4, "abcd"))
    assert len(queue) == 1, "once it was taken, the next one is an event of its own"


async def test_the_text_of_a_stream_counts_in_bytes() -> None:
    assert filled(grew(1, "\U0001f600" * 10_000)).size_bytes > 40_000


async def test_outcomes_nobody_waits_for_are_kept_up_to_twice_the_bound() -> None:
    queue = filled(*[SENT] * 7)
    queue.put(SendFailed("c-1", "k", ForbiddenError()))
    queue.put(SENT)

    assert [type(event) for event in await emptied(queue)] == [MessageSent] * 7 + [SendFailed]


async def test_a_waiting_consumer_is_woken_by_an_event_and_by_the_end() -> None:
    queue, taken = filled(), []

    async def take_all() -> None:
        while (delivery := await queue.take()) is not None:
            taken.append(delivery.event)

    async with anyio.create_task_group() as group:
        group.start_soon(take_all)
        await anyio.sleep(1)
        queue.put(MESSAGE)
        await anyio.sleep(1)
        assert taken == [MESSAGE]
        queue.close()


async def test_events_taken_in_a_row_let_others_run_and_each_can_be_cancelled_without_loss() -> None:
    queue, taken = filled(*[MESSAGE] * 200, events_max=500), []
    with anyio.CancelScope() as scope:
        scope.cancel()
        taken.append(await queue.take())
    assert (taken, len(queue)) == ([], 200)

    async with anyio.create_task_group() as group:
        turns: list[int] = []

        async def other() -> None:
            while len(queue):
                turns.append(len(queue))
                await anyio.lowlevel.checkpoint()

        group.start_soon(other)
        for _ in range(200):
            await queue.take()
    assert len(turns) >= 200 // 64


async def test_paused_it_keeps_the_newest_that_is_said_of_each_conversation() -> None:
    queue = filled(MESSAGE, events_max=1)
    for _ in range(50):
        for id_ in ("c-1", "c-2"):
            queue.put(ConversationChanged(id_, "GROUP", "LEFT"))
            queue.put(ConversationChanged(id_, "GROUP", "JOINED"))
            queue.put(ConversationChanged(id_, "GROUP", "UPDATED"))

    assert await emptied(queue) == [
        MESSAGE,
        ConversationChanged("c-1", "GROUP", "JOINED"),
        ConversationChanged("c-2", "GROUP", "JOINED"),
    ]


async def test_what_was_taken_is_not_replaced() -> None:
    queue = filled(MESSAGE, MESSAGE, MESSAGE, events_max=3, events_low=1)
    left, joined = (ConversationChanged("c-1", "GROUP", change) for change in ("LEFT", "JOINED"))
    queue.put(left)
    assert [(await queue.take()).event for _ in range(3)] == [MESSAGE] * 3
    queue.put(joined)

    assert await emptied(queue) == [left, joined]


async def test_what_waits_while_the_queue_is_open_ends_with_it() -> None:
    queue = EventQueue(4, 1)
    with queue.while_open():
        await anyio.sleep(0)
    async with anyio.create_task_group() as group:
        with queue.while_open():
            group.start_soon(_close, queue)
            await anyio.sleep_forever()
    assert queue.closed


async def _close(queue: EventQueue) -> None:
    queue.close()


async def test_edits_count_with_what_they_say() -> None:
    payload = {"type": "TEXT", "text": "x" * 100_000}
    edited = MessageEdited("c-1", "m-1", 1, "u-2", Edit(2, 1, payload))
    queue = EventQueue(100, 1, 250_000)
    for count in (1, 2, 3):
        queue.put(edited)
        assert queue.size_bytes >= count * 100_000
    assert queue.paused
    await queue.take()
    await queue.take()
    assert not queue.paused
    queue.put(MessageEdited("c-1", "m-1", 1, "u-2", Edit(2, 1, None)))
    assert queue.size_bytes < 102_000
