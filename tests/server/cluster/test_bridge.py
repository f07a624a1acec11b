"""What comes from the bus: in order, in turns of bounded work, and one fault costs what it belongs to."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

from chatkit.bus.base import BusEvent
from chatkit.bus.local import LocalBus, LocalMember
from chatkit.server import receipts
from chatkit.server.cluster import bridge
from chatkit.server.cluster import messages as cm
from chatkit.server.cluster.bridge import ClusterBridge
from chatkit.server.receipts import Receipts
from chatkit.server.session import Session
from chatkit.storage.base import Advanced
from chatkit.storage.memory import MemoryStore

from ..live.test_hub import NAME, World, entry, heard

USERS = [f"u-{number}" for number in range(10)]
PER_FRAME = 16


class WatchedMember(LocalMember):
    """Notes whether its reader has closed the stream of events."""

    closed = False

    async def events(self) -> AsyncGenerator[BusEvent, None]:
        try:
            async for event in super().events():
                yield event
        finally:
            self.closed = True


class Node:
    """A bridge, its hub with ten sessions in a group, and another place on the bus."""

    def __init__(self) -> None:
        bus = LocalBus()
        self.other = bus.join()
        self.member = WatchedMember(bus, 10_000)
        bus._members.append(self.member)
        self.member.subscribe(cm.topic_of(NAME))
        self.world = World()
        self.sessions: list[Session] = [self.world.join(user, 1, members=len(USERS)) for user in USERS]
        self.receipts = Receipts(self.world.hub, self.world.asked, MemoryStore(ids=None))  # type: ignore[arg-type]
        self.looked: list[bool] = []
        self.bridge = ClusterBridge(
            self.member,
            self.world.hub,
            self.receipts,
            self.world.asked,
            Random(1),
            lambda: self.looked.append(True),
            lambda message: None,
        )

    def hear(self, *messages: cm.ClusterMessage) -> None:
        """Another node says this, in one frame."""
        self.other.publish(cm.topic_of(NAME), cm.encode(messages))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.bridge.run)
            yield
            tasks.cancel_scope.cancel()


@pytest.fixture
def node() -> Node:
    return Node()


async def turns_until(node: Node, position: int) -> list[int]:
    """How many entries were applied between the turns of this task."""
    applied, before = [], node.world.position
    while before < position:
        await checkpoint()
        applied.append(node.world.position - before)
        before = node.world.position
    return applied


def moved(user_id: str, seq: int, authors: Sequence[str]) -> cm.CursorsMoved:
    return cm.CursorsMoved(Advanced(NAME, user_id, None, seq, seq, True, tuple(authors), len(USERS)))


def receipts_heard(session: Session) -> list[str]:
    """Whose receipts a session was sent."""
    events: list[dict[str, Any]] = []
    while (frame := session.next_frame()) is not None:
        decoded = msgspec.json.decode(frame)
        events += decoded if isinstance(decoded, list) else [decoded]
    return [it["userId"] for it in events if it["event"] == "RECEIPT"]


async def test_another_task_gets_its_turn_while_many_frames_are_acted_on(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    monkeypatch.setattr(bridge, "DELIVERIES_PER_TURN", 30)
    last = 1 + 8 * PER_FRAME
    for start in range(2, last, PER_FRAME):
        node.hear(*(cm.EntryStored(entry(seq, "zed")) for seq in range(start, start + PER_FRAME)))
    async with node.running():
        applied = await turns_until(node, last)

    assert max(applied) == 3, "30 deliveries to ten sessions, also across frames"
    assert [heard(it) for it in node.sessions] == [list(range(2, last + 1))] * len(USERS)


async def test_messages_that_reach_nobody_take_turns_too(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    monkeypatch.setattr(bridge, "DELIVERIES_PER_TURN", 4)
    for _ in range(10):
        node.hear(*(cm.LogChanged("another") for _ in range(PER_FRAME)))
    node.hear(cm.EntryStored(entry(2, "zed")))
    async with node.running():
        assert len(await turns_until(node, 2)) >= 10 * PER_FRAME // 4


async def test_typing_counts_whom_it_reached(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    monkeypatch.setattr(bridge, "DELIVERIES_PER_TURN", 12)
    node.hear(*(cm.UserTyping(NAME, "zed") for _ in range(10)), cm.EntryStored(entry(2, "zed")))
    async with node.running():
        assert len(await turns_until(node, 2)) >= 5


async def test_a_receipt_that_fails_costs_no_other_one_and_is_no_fault_of_the_bus(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    found = node.world.hub.in_conversation

    def failing(name: str, users: Sequence[str], **options: Any) -> list[Session]:
        if "u-1" in users:
            raise LookupError("this receipt is broken")
        return found(name, users, **options)

    monkeypatch.setattr(node.world.hub, "in_conversation", failing)
    node.hear(*(moved(user, 1, ["u-9"]) for user in ("u-0", "u-1", "u-2")))
    node.hear(cm.EntryStored(entry(2, "zed")))
    async with node.running():
        with anyio.fail_after(0.5):
            await turns_until(node, 2)

    assert receipts_heard(node.sessions[9]) == ["u-0", "u-2"]
    assert "this receipt is broken" in caplog.text
    assert not [it for it in caplog.records if it.name == bridge.__name__ and it.levelno >= logging.WARNING]


async def test_receipts_of_one_frame_let_the_loop_run_and_none_is_left(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    monkeypatch.setattr(receipts, "DELIVERIES_PER_TURN", 1)
    node.hear(*(moved(user, 1, ["u-9"]) for user in USERS[:8]))
    at_once: list[int] = []
    users: list[str] = []
    async with node.running():
        while len(users) < 8:
            await checkpoint()
            new = receipts_heard(node.sessions[9])
            at_once.append(len(new))
            users += new

    assert (users, max(at_once)) == (USERS[:8], 1)


async def test_cancelled_half_way_the_stream_of_the_bus_is_closed(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    monkeypatch.setattr(bridge, "DELIVERIES_PER_TURN", 1)
    node.hear(*(cm.EntryStored(entry(seq, "zed")) for seq in range(2, 20)))
    async with node.running():
        await turns_until(node, 3)

    assert node.world.position < 19
    assert node.member.closed
