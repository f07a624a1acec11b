"""Batches side by side, where the store takes several: a slow one stops nobody else, and every order is kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import get_args

import anyio
import pytest
from anyio.lowlevel import checkpoint

from chatkit.errors import InternalError, UnavailableError
from chatkit.server import committer
from chatkit.server.commit_queue import CommitQueue
from chatkit.server.committer import SLOW_S
from chatkit.server.overlap import keys_of
from chatkit.server.pending import PendingCommand
from chatkit.storage.base import (
    AddMembers,
    AdvanceDelivered,
    Append,
    AppendPart,
    BlockUser,
    Command,
    ConfirmMessage,
    EndStream,
    ImportEntries,
    OpenSession,
    Outcome,
    Recall,
    Refused,
    ReportMessage,
    ResolveReports,
    Review,
    Revoke,
    SeeDevices,
)

from .harness import GatedStore, Peer, group, keys, login, serving, text


class SideBySide(GatedStore):
    """Takes several commits at once; those that touch a stuck conversation wait, as for the lock of its row."""

    def __init__(self, commits: int = 4) -> None:
        super().__init__()
        self._most_commits = commits
        self.stuck: dict[str, anyio.Event] = {}
        self.under_way: list[Sequence[Command]] = []
        self.most = 0

    @property
    def commits_in_flight_max(self) -> int:
        return self._most_commits

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        self.under_way.append(commands)
        self.most = max(self.most, len(self.under_way))
        try:
            for name in {getattr(it, "conversation_id", None) for it in commands} & set(self.stuck):
                await self.stuck[str(name)].wait()
            return await self.carry_out(commands)
        finally:
            self.under_way.remove(commands)

    async def carry_out(self, commands: Sequence[Command]) -> list[Outcome]:
        return await super().commit(commands)


def send(user_id: str, conversation_id: str, key: str) -> PendingCommand:
    return PendingCommand(Append(conversation_id, user_id, key, b"{}", b"", 1), user_id=user_id)


# --- what overlaps ---


def test_every_command_has_a_key_by_which_others_are_kept_from_it() -> None:
    delivered = AdvanceDelivered("g", "ann", "phone", 1, 1)
    append = Append("g", "ben", "k", b"{}", b"", 1)
    recall = Recall("m", "ann", 1, 1)
    opening = OpenSession("ann", "phone", b"", 1, None, "", 1)
    adding = AddMembers("g", None, ("cat",), 9, 1)

    def overlap(one: Command, other: Command) -> bool:
        return not set(keys_of(one)).isdisjoint(keys_of(other))

    assert overlap(append, delivered)
    assert overlap(append, adding)
    assert overlap(adding, opening)
    assert overlap(opening, BlockUser("ben", "cat", 1))
    assert overlap(delivered, AdvanceDelivered("h", "ann", "tablet", 1, 1))
    assert overlap(delivered, SeeDevices((("ben", "phone"), ("ann", "phone")), 1))
    assert overlap(recall, ConfirmMessage("n", "ben", "phone", 1))
    assert overlap(append, ConfirmMessage("n", "cat", "phone", 1, "g"))
    assert not overlap(append, Append("h", "ben", "k", b"{}", b"", 1))
    assert not overlap(append, opening)
    assert not overlap(delivered, AdvanceDelivered("h", "ben", "phone", 1, 1))
    assert not overlap(recall, append)
    review = Review(1, "g", "ann", None, True, 1)
    assert overlap(review, append)
    assert overlap(review, Revoke("BANNED", "ann", "", b"", None, 1))
    assert overlap(ReportMessage("m", "ben", "", "", True, 1), ResolveReports("m", None, "", 1))
    assert overlap(append, ImportEntries("g", (), None, 1))
    part = AppendPart("g", "m", "ann", 1, "to be", 5, 1)
    assert overlap(part, append)
    assert overlap(part, EndStream("g", "m", "ann", 1, 0, "k", b"{}", b"", 1))
    assert not overlap(part, Append("h", "ann", "k", b"{}", b"", 1))
    assert len(get_args(Command)) == 42, "a new command: does it stand in `overlap`?"


def test_a_batch_leaves_out_what_overlaps_and_what_would_overtake_it() -> None:
    queue = CommitQueue(turn_rows=10)
    delivered = PendingCommand(AdvanceDelivered("g", "ann", "phone", 1, 1), user_id="ann")
    for pending in (send("ann", "g", "1"), delivered, send("ann", "h", "2"), send("ben", "h", "3")):
        queue.append(pending)
    other = PendingCommand(AdvanceDelivered("h", "ann", "phone", 1, 1), user_id="ann")
    queue.append(other)  # shares its user with one that is left out
    cost = queue.cost

    free = queue.take(10, frozenset(keys_of(send("cat", "g", "").command)))
    assert keys([it.command for it in free]) == ["2", "3"]
    assert (len(queue), queue.cost) == (3, cost - 2)

    assert [it.command for it in queue.take(10)] == [
        send("ann", "g", "1").command,
        delivered.command,
        other.command,
    ]
    assert (len(queue), queue.cost, queue.payload_bytes) == (0, 0, 0)


def test_everything_may_be_left_out() -> None:
    queue = CommitQueue(turn_rows=10)
    queue.append(send("ann", "g", "1"))

    assert queue.take(10, frozenset(keys_of(send("cat", "g", "").command))) == []
    assert len(queue) == 1
    assert len(queue.take(10)) == 1


# --- in a server ---


async def test_a_slow_batch_stops_its_own_conversation_alone() -> None:
    store = SideBySide()
    async with serving(store) as server:
        for name in ("g-1", "g-2"):
            await group(server, "ann", "ben", conversation_id=name)
        ann, ben = await login(server, "ann"), await login(server, "ben")
        stuck = store.stuck["g-1"] = anyio.Event()
        ann.say(text("g-1", "a1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text("g-1", "a2"), text("g-2", "a3"))
        ben.say(text("g-1", "b1"), text("g-2", "b2"))
        began_s = anyio.current_time()
        (ack,) = await ann.hear("MSG_ACK")
        assert ack["clientMsgId"] == "a3"
        assert anyio.current_time() - began_s == pytest.approx(SLOW_S)
        (ack,) = await ben.hear("MSG_ACK")
        assert ack["clientMsgId"] == "b2"

        await anyio.sleep(1.5 * SLOW_S)
        ann.say(text("g-2", "a4"))  # what is known to be slow keeps nobody waiting a second time
        began_s = anyio.current_time()
        (ack,) = await ann.hear("MSG_ACK")
        assert ack["clientMsgId"] == "a4"
        assert anyio.current_time() == began_s

        del store.stuck["g-1"]
        stuck.set()
        acks = await ann.hear("MSG_ACK", "MSG_ACK") + await ben.hear("MSG_ACK")
        assert [ack["clientMsgId"] for ack in acks] == ["a1", "a2", "b1"]
        assert [ack["seq"] for ack in acks] == [2, 4, 3]  # whoever was served last comes after others


async def test_receipts_go_on_beside_a_slow_batch() -> None:
    store = SideBySide()
    async with serving(store) as server:
        for name in ("g-1", "g-2"):
            await group(server, "ann", "ben", conversation_id=name)
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text("g-2", "a"))
        await ben.hear("NEW_MSG")
        ann.read()
        stuck = store.stuck["g-1"] = anyio.Event()
        ann.say(text("g-1", "b"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text("g-1", "c"))  # what must wait wakes nobody who might go on
        await anyio.sleep(2 * SLOW_S)
        ben.say({"event": "READ", "conversationId": "g-2", "upToSeq": 2})
        await ann.hear("RECEIPT")
        stuck.set()


async def test_a_fast_store_has_one_batch_at_a_time() -> None:
    store = SideBySide()
    async with serving(store) as server:
        conversations = [await group(server, "ann", "ben", conversation_id=f"g-{n}") for n in range(8)]
        ann = await login(server, "ann")
        for turn in range(10):
            ann.say(*(text(name, f"{name}-{turn}") for name in conversations))
            await checkpoint()
        await ann.hear(*["MSG_ACK"] * 80)

    assert store.most == 1


async def test_no_more_batches_are_under_way_than_the_store_takes() -> None:
    store = SideBySide(commits=3)
    async with serving(store) as server:
        conversations = [await group(server, "ann", "ben", conversation_id=f"g-{n}") for n in range(6)]
        ann = await login(server, "ann")
        stuck = anyio.Event()
        store.stuck.update(dict.fromkeys(conversations, stuck))
        for name in conversations:
            ann.say(text(name, name))
            await anyio.sleep(2 * SLOW_S)
        assert [keys(it) for it in store.under_way] == [["g-0"], ["g-1"], ["g-2"]]
        stuck.set()
        acks = await ann.hear(*["MSG_ACK"] * 6)

    assert [ack["clientMsgId"] for ack in acks] == conversations
    assert store.most == 3


async def test_a_drain_waits_for_every_batch_under_way() -> None:
    store = SideBySide()
    async with serving(store) as server:
        for name in ("g-1", "g-2"):
            await group(server, "ann", "ben", conversation_id=name)
        ann = await login(server, "ann")
        store.stuck = {"g-1": anyio.Event(), "g-2": anyio.Event()}
        for name in ("g-1", "g-2"):
            ann.say(text(name, name))
            await anyio.sleep(2 * SLOW_S)
        assert len(store.under_way) == 2
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            await anyio.sleep(1)
            store.stuck["g-2"].set()
            await anyio.sleep(1)
            store.stuck["g-1"].set()
            acks = await ann.hear("MSG_ACK", "MSG_ACK")

    assert [ack["clientMsgId"] for ack in acks] == ["g-2", "g-1"]


async def test_a_server_that_is_left_answers_every_batch_under_way() -> None:
    store = SideBySide()
    async with anyio.create_task_group() as tasks, serving(store, drain_timeout_s=1.0) as server:
        for name in ("g-1", "g-2"):
            await group(server, "ann", "ben", conversation_id=name)
        ann = await login(server, "ann")
        stuck = anyio.Event()
        store.stuck = {"g-1": stuck, "g-2": stuck}
        for name in ("g-1", "g-2"):
            ann.say(text(name, name))
            await anyio.sleep(2 * SLOW_S)

        async def later() -> None:
            await anyio.sleep(10)  # the drain is over by then
            stuck.set()

        tasks.start_soon(later)
    assert server._committer._submitted == server._committer._answered
    assert server._committer._in_flight == []


class Unsteady(SideBySide):
    """Takes very different times, and refuses sends and batches; so that batches end in any order."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self.wild = False

    async def carry_out(self, commands: Sequence[Command]) -> list[Outcome]:
        await anyio.sleep(self._rng.random() * self._rng.choice((0.01, 0.5)))
        if self.wild and self._rng.random() < 0.1:
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        refused = {
            (it.sender_id, it.conversation_id)
            for it in commands
            if isinstance(it, Append) and self.wild and self._rng.random() < 0.05
        }
        sound = [it for it in commands if _place(it) not in refused]
        outcomes = iter(await super().carry_out(sound))
        fault = Refused(InternalError("the server failed to do this"))
        answers = [fault if _place(it) in refused else next(outcomes) for it in commands]
        await anyio.sleep(self._rng.random() * self._rng.choice((0.01, 0.5)))
        return answers


def _place(command: Command) -> tuple[str, str] | None:
    return (command.sender_id, command.conversation_id) if isinstance(command, Append) else None


class Writer:
    """A client that sends numbered streams to conversations, and again what is refused, as soon as it reads so."""

    def __init__(self, peer: Peer, conversations: Sequence[str], rng: Random) -> None:
        self._peer = peer
        self._rng = rng
        self.written = dict.fromkeys(conversations, 0)
        self.unanswered: set[str] = set()

    def write(self) -> None:
        for _ in range(self._rng.randrange(4)):
            name = self._rng.choice(list(self.written))
            self.written[name] += 1
            self._send(name, self.written[name])
        if self._rng.random() < 0.3:
            name = self._rng.choice(list(self.written))
            self._peer.say({"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": 1})

    def react(self) -> None:
        refused: list[tuple[str, int]] = []
        for event in self._peer.read():
            if "clientMsgId" in event and event["event"] in ("MSG_ACK", "ERROR"):
                name, _, number = event["clientMsgId"].partition("/")
                self.unanswered.discard(event["clientMsgId"])
                if event["event"] == "ERROR":
                    assert event["retryable"]
                    refused.append((name, int(number)))
        for name, number in sorted(refused):
            self._send(name, number)

    def _send(self, name: str, number: int) -> None:
        key = f"{name}/{number}"
        self.unanswered.add(key)
        self._peer.say(text(name, key))


@pytest.mark.parametrize("seed", range(12))
async def test_every_senders_order_survives_in_each_conversation(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = Random(seed)
    monkeypatch.setattr(committer, "SLOW_S", rng.choice((0.001, 0.01, 0.1)))
    monkeypatch.setattr(committer, "DELIVERIES_PER_TURN", rng.choice((1, 5)))
    store = Unsteady(rng)
    async with serving(store, commit_queue_max=rng.choice((8, 1000))) as server:
        names = [
            await group(server, "ann", "ben", "cat", conversation_id=f"g-{number}") for number in range(3)
        ]
        watcher = await login(server, "cat")
        writers = {name: Writer(await login(server, name), names, rng) for name in ("ann", "ben")}
        store.wild = True
        for _ in range(60):
            for writer in writers.values():
                writer.write()
                await anyio.sleep(rng.random() * 0.05)
                writer.react()
        store.wild = False
        with anyio.fail_after(120):
            while any(writer.unanswered for writer in writers.values()):
                await anyio.sleep(0.01)
                for writer in writers.values():
                    writer.react()
        logs = {name: await store.entries(name, 1, 1000) for name in names}
        await anyio.sleep(1)  # what a batch of unknown outcome left is read from the log
        pushed = [(it["conversationId"], it["seq"]) for it in watcher.read() if it["event"] == "NEW_MSG"]

    assert store.most > 1
    for name, log in logs.items():
        assert [seq for it, seq in pushed if it == name] == [entry.seq for entry in log]
        assert all(later.seq == earlier.seq + 1 for earlier, later in pairwise(log))
        for user_id, writer in writers.items():
            theirs = [it.client_msg_id for it in log if it.sender_id == user_id]
            assert theirs == [f"{name}/{number}" for number in range(1, writer.written[name] + 1)]
