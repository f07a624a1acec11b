"""The queue of pulls: order, waits for holes, and what was refused."""

from __future__ import annotations

import anyio

from chatkit.client.conversation import Conversation
from chatkit.client.sync import SyncQueue
from chatkit.core.timeline import Timeline
from chatkit.testing.virtual_time import VirtualClock


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
