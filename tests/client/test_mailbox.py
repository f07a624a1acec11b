"""The buffer of events: what it keeps, what it drops, and when it stops the reader."""

from __future__ import annotations

import anyio

from chatkit.client.events import (
    ChatEvent,
    Connected,
    Connecting,
    ConversationChanged,
    EpochChanged,
    MessageReceived,
    MessageSent,
    SendFailed,
    Typing,
)
from chatkit.client.mailbox import Mailbox
from chatkit.errors import ForbiddenError
from chatkit.types import Message, Sent

MESSAGE = MessageReceived(Message("c-1", 1, "m-1", "u-2", 1, {"type": "TEXT", "text": ""}))
SENT = MessageSent(Sent("c-1", "k", "m-1", 1, 1))


def filled(*events: ChatEvent, events_max: int = 4, events_low: int = 1) -> Mailbox:
    box = Mailbox(events_max, events_low)
    for event in events:
        box.put(event)
    return box


async def emptied(box: Mailbox) -> list[ChatEvent]:
    box.close()
    events: list[ChatEvent] = []
    while (event := await box.take()) is not None:
        events.append(event)
    return events


async def test_pauses_at_its_bound_and_goes_on_at_the_low_mark() -> None:
    box = filled(MESSAGE, MESSAGE, MESSAGE)
    assert not box.paused
    box.put(MESSAGE)
    paused = []
    while len(box):
        paused.append(box.paused)
        await box.take()
    assert paused == [True, True, True, False]


async def test_paused_it_drops_what_is_ephemeral_and_keeps_messages() -> None:
    box = filled(MESSAGE, MESSAGE, MESSAGE, MESSAGE)
    box.put(Typing("c-1", "u-2"))
    box.put(MESSAGE)
    box.put(SENT, droppable=True)

    assert await emptied(box) == [MESSAGE] * 5


async def test_connection_states_always_fit_and_do_not_pile_up() -> None:
    box = filled(MESSAGE, MESSAGE, MESSAGE, MESSAGE)
    for attempt in range(1000):
        box.put(Connecting(attempt))
    box.put(Connected("s", False))

    assert await emptied(box) == [MESSAGE] * 4 + [Connected("s", False)]


async def test_outcomes_nobody_waits_for_are_kept_up_to_twice_the_bound() -> None:
    box = filled(*[SENT] * 7)
    box.put(SendFailed("c-1", "k", ForbiddenError()))
    box.put(SENT)

    assert [type(event) for event in await emptied(box)] == [MessageSent] * 7 + [SendFailed]


async def test_a_waiting_consumer_is_woken_by_an_event_and_by_the_end() -> None:
    box, taken = filled(), []

    async def take_all() -> None:
        while (event := await box.take()) is not None:
            taken.append(event)

    async with anyio.create_task_group() as group:
        group.start_soon(take_all)
        await anyio.sleep(1)
        box.put(MESSAGE)
        await anyio.sleep(1)
        assert taken == [MESSAGE]
        box.close()


async def test_events_taken_in_a_row_let_others_run_and_each_can_be_cancelled_without_loss() -> None:
    box, taken = filled(*[MESSAGE] * 200, events_max=500), []
    with anyio.CancelScope() as scope:
        scope.cancel()
        taken.append(await box.take())
    assert (taken, len(box)) == ([], 200)

    async with anyio.create_task_group() as group:
        turns: list[int] = []

        async def other() -> None:
            while len(box):
                turns.append(len(box))
                await anyio.lowlevel.checkpoint()

        group.start_soon(other)
        for _ in range(200):
            await box.take()
    assert len(turns) >= 200 // 64


async def test_paused_it_keeps_the_newest_that_is_said_of_each_conversation() -> None:
    box = filled(MESSAGE, events_max=1)
    for place in range(50):
        for id_ in ("c-1", "c-2"):
            box.put(ConversationChanged(id_, "GROUP", "LEFT"))
            box.put(ConversationChanged(id_, "GROUP", "JOINED"))
            box.put(ConversationChanged(id_, "GROUP", "UPDATED"))
            box.put(EpochChanged(id_, f"e{place}"))

    assert await emptied(box) == [
        MESSAGE,
        ConversationChanged("c-1", "GROUP", "JOINED"),
        EpochChanged("c-1", "e49"),
        ConversationChanged("c-2", "GROUP", "JOINED"),
        EpochChanged("c-2", "e49"),
    ]


async def test_what_was_taken_is_not_replaced() -> None:
    box = filled(MESSAGE, MESSAGE, MESSAGE, events_max=3, events_low=1)
    left, joined = (ConversationChanged("c-1", "GROUP", change) for change in ("LEFT", "JOINED"))
    box.put(left)
    assert [await box.take() for _ in range(3)] == [MESSAGE] * 3
    box.put(joined)

    assert await emptied(box) == [left, joined]
