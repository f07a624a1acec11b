"""Several nodes on one log: what goes wrong costs what it belongs to, is healed soon, and loads nobody."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import msgspec
import pytest

from chatkit.bus.base import BusEvent
from chatkit.errors import UnavailableError
from chatkit.server.cluster.messages import NODES, VERSION, LogChanged, topic_of
from chatkit.server.receipts import Receipts
from chatkit.storage.base import Advanced, Recalled
from chatkit.storage.memory import MemoryStore

from ..observability.recorder import Recorder
from .harness import HarnessServer, Peer, group, login, text
from .live.test_hub import NAME, World, entry
from .nodes import Cluster, after, at_once, cluster, never, node, seqs
from .test_nodes import BreakingBus, HeldAnswers, sent

SOON_S = 0.2
POLL_S = 5.0


class LostAnswers:
    """A node's commits are stored, and storage seems to refuse them."""

    def __init__(self, made: Cluster, node: HarnessServer) -> None:
        self._store = made.store
        node._committer._store = self  # type: ignore[assignment]

    async def commit(self, commands: Sequence[Any]) -> Any:
        await self._store.commit(commands)
        raise UnavailableError("the answer is lost", retry_after_s=0.5)


class Reads:
    """Counts reads of heads, and refuses them if told to."""

    def __init__(self, made: Cluster, *, refused: bool = False) -> None:
        self.count = 0
        self.refused = refused
        self._read = made.store.inner.head_seqs
        made.store.head_seqs = self.head_seqs  # type: ignore[attr-defined]

    async def head_seqs(self, names: Sequence[str]) -> Any:
        self.count += 1
        if self.refused:
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        return await self._read(names)


# --- devices ---


@pytest.mark.parametrize("where", [0, 1])
async def test_a_login_that_ended_before_its_answer_still_ends_the_older_session(where: int) -> None:
    async with cluster("memory", heartbeat_s=1000.0) as two:
        live = await login(two.nodes[where], "ann")
        held = HeldAnswers(two, two.nodes[0])
        late = Peer(two.nodes[0])
        late.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        await held.stored.wait()
        late.leave()
        held.release.set()
        await anyio.sleep(SOON_S)

        assert live.session.close_code == 4201


# --- one fault ---


async def test_a_join_that_fails_holds_no_other_up_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster("memory") as two:
        a, b = two.nodes
        two.bus.fate = never
        ben = await login(b, "ben")
        known = await group(a, "ann", "cat", conversation_id="g-known")
        cat = await login(b, "cat")
        read = two.store.inner.conversation

        async def failing(conversation_id: str, user_id: str) -> Any:
            if conversation_id == "g-bad":
                raise LookupError("this one is broken")
            return await read(conversation_id, user_id)

        two.store.conversation = failing  # type: ignore[attr-defined]
        for name in ("g-bad", "g-good"):
            await group(a, "ann", "ben", conversation_id=name)
        await sent(a, known, "ann", "k1")
        heard = await after(POLL_S, ben)
        assert [it["conversationId"] for it in heard if it["event"] == "CONVERSATION"] == ["g-good"]
        assert seqs(cat.read(), known) == [2]
        assert "this one is broken" in caplog.text

        two.store.conversation = read  # type: ignore[attr-defined]
        heard = await after(2.0, ben)
        assert [it["conversationId"] for it in heard if it["event"] == "CONVERSATION"] == ["g-bad"]


@pytest.mark.parametrize("name", ["membership_changes", "head_seqs", "resume_hashes"])
async def test_a_read_that_fails_leaves_the_others_alone_and_is_tried_again(name: str) -> None:
    async with cluster("memory", heartbeat_s=3.0) as two:
        a, b = two.nodes
        two.bus.fate = never
        old, ben = await login(b, "ann"), await login(b, "ben")
        conversation = await group(a, "eve", "cat")
        cat = await login(b, "cat")
        read = getattr(two.store.inner, name)

        async def failing(*args: Any) -> Any:
            raise LookupError("this read is broken")

        setattr(two.store, name, failing)
        await login(a, "ann")
        await sent(a, conversation, "eve", "k1")
        await group(a, "eve", "ben", conversation_id="g-2")
        await anyio.sleep(POLL_S)
        found = {
            "membership_changes": any(it["event"] == "CONVERSATION" for it in ben.read()),
            "head_seqs": seqs(cat.read(), conversation) == [2],
            "resume_hashes": old.session.close_code == 4201,
        }
        assert found == {it: it != name for it in found}

        setattr(two.store, name, read)
        await anyio.sleep(1.5)
        found[name] = {
            "membership_changes": any(it["event"] == "CONVERSATION" for it in ben.read()),
            "head_seqs": seqs(cat.read(), conversation) == [2],
            "resume_hashes": old.session.close_code == 4201,
        }[name]
        assert all(found.values())


# --- receipts that wait ---


async def test_a_receipt_that_waits_does_not_ask_a_store_that_refuses_again_and_again() -> None:
    async with cluster("memory") as two:
        a, b = two.nodes
        conversation = await group(a, "ann", "ben")
        ben = await login(b, "ben")
        ben.say(text(conversation, "k1"))
        await ben.hear("MSG_ACK")
        two.bus.fate = never
        last = await sent(a, conversation, "ann", "k2")
        reads = Reads(two, refused=True)
        two.bus.fate = at_once
        await a.engine.execute(a.engine.advance_read(conversation, "ann", last), Advanced)
        await anyio.sleep(10.0)
        asked = reads.count
        reads.refused = False
        heard = await after(2.0, ben)

        assert asked < 20, "about once a second"
        assert [it["readSeq"] for it in heard if it["event"] == "RECEIPT"] == [last]


class Waiting:
    """A receipt of ann's about entry 5, where ben's node has applied up to 3."""

    def __init__(self) -> None:
        self.world = World()
        self.ben = self.world.join("ben", 3)
        self.receipts = Receipts(self.world.hub, self.world.asked, MemoryStore(ids=None))  # type: ignore[arg-type]
        self.receipts.note(Advanced(NAME, "ann", None, 5, 5, True, ("ben",), 3), None)
        self.receipts.flush()

    def notified(self) -> list[int]:
        """Read seqs that ben was notified of."""
        self.receipts.flush()
        frames = []
        while (frame := self.ben.next_frame()) is not None:
            decoded = msgspec.json.decode(frame)
            frames += decoded if isinstance(decoded, list) else [decoded]
        return [it["readSeq"] for it in frames if it["event"] == "RECEIPT"]


def test_a_receipt_that_waits_asks_the_log_once() -> None:
    waiting = Waiting()
    assert waiting.world.asks()
    assert waiting.notified() == []
    assert not waiting.world.asks()
    waiting.world.log(4, 5)
    assert waiting.notified() == [5]


def test_a_receipt_that_waits_is_dropped_with_the_epoch_it_came_under() -> None:
    waiting = Waiting()
    waiting.world.compare("e2", 3)
    for seq in (4, 5):
        waiting.world.hub.publish(entry(seq, "ann", epoch="e2"), None)
    assert waiting.notified() == []


def test_a_receipt_that_waits_is_dropped_when_nobody_is_online_any_more() -> None:
    waiting = Waiting()
    waiting.world.hub.leave(waiting.ben)
    waiting.receipts.flush()
    waiting.ben = waiting.world.join("ben", 6)
    assert waiting.notified() == []


class Counts:
    """Counts of large groups; one of them cannot be read for now."""

    def __init__(self) -> None:
        self.failing: str | None = "g-1"
        self.read: list[str] = []

    async def read_counts(self, name: str, after_seq: int, seq: int, authors: Sequence[str]) -> list[Any]:
        if name == self.failing:
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        self.read.append(name)
        return []


async def test_counts_that_could_not_be_read_are_read_later_after_the_others() -> None:
    world, counts = World(), Counts()
    receipts = Receipts(world.hub, world.asked, counts)  # type: ignore[arg-type]
    receipts._large = {"g-0": 4, "g-1": 5, "g-2": 6}
    with pytest.raises(UnavailableError):
        await receipts.flush_counts()
    assert receipts._large == {"g-2": 6, "g-1": 5}

    with pytest.raises(UnavailableError):
        await receipts.flush_counts()
    counts.failing = None
    await receipts.flush_counts()

    assert counts.read == ["g-0", "g-2", "g-1"]
    assert receipts._large == {}


# --- storage that loses its answer ---


async def test_a_recall_whose_answer_was_lost_is_told_soon() -> None:
    async with cluster("memory", heads_check_s=1000.0) as two:
        a, _ = two.nodes
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(a, "ben")
        ann.say(text(conversation, "k1"))
        (ack,) = await ann.hear("MSG_ACK")
        LostAnswers(two, a)
        with pytest.raises(UnavailableError):
            await a.engine.execute(a.engine.withdraw(ack["messageId"], "ann"), Recalled)

        assert seqs(await after(SOON_S, ben), conversation) == [2, 3]


async def test_a_renewal_whose_answer_was_lost_is_told_soon() -> None:
    async with cluster("memory", heads_check_s=1000.0) as two:
        a, _ = two.nodes
        await group(a, "ann", "ben")
        ben = await login(a, "ben")
        LostAnswers(two, a)
        with pytest.raises(UnavailableError):
            await a.renew_epoch("g-1")

        assert [it["headSeq"] for it in await after(SOON_S, ben) if it["event"] == "BEHIND"] == [1]


# --- epochs ---


async def test_a_renewal_is_answered_and_told_though_reads_are_refused() -> None:
    async with cluster("memory", heads_check_s=1000.0) as two:
        a, b = two.nodes
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        await anyio.sleep(SOON_S)
        reads = Reads(two, refused=True)
        epoch = await a.renew_epoch(conversation)
        await anyio.sleep(SOON_S)
        reads.refused = False

        for peer in (ann, ben):
            assert [it["epoch"] for it in await after(2.0, peer) if it["event"] == "BEHIND"] == [epoch]


async def test_a_renewal_is_told_though_its_caller_was_cancelled() -> None:
    async with cluster("memory", heads_check_s=1000.0) as two:
        a, b = two.nodes
        conversation = await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        await anyio.sleep(SOON_S)
        held = HeldAnswers(two, a)
        async with anyio.create_task_group() as callers:
            callers.start_soon(a.renew_epoch, conversation)
            await held.stored.wait()
            callers.cancel_scope.cancel()
        held.release.set()
        heads = await two.store.head_seqs([conversation])

        for peer in (ann, ben):
            heard = [it["epoch"] for it in await after(SOON_S, peer) if it["event"] == "BEHIND"]
            assert heard == [heads[conversation][0]]


async def test_a_look_from_before_a_renewal_does_not_undo_it() -> None:
    async with cluster("memory", heads_check_s=3.0) as two:
        a, b = two.nodes
        conversation = await group(a, "ann", "ben")
        ben = await login(b, "ben")
        reads = Reads(two)
        begun, release = anyio.Event(), anyio.Event()

        async def slow(names: Sequence[str]) -> Any:
            found = await Reads.head_seqs(reads, names)
            if not begun.is_set():
                begun.set()
                await release.wait()
            return found

        two.store.head_seqs = slow  # type: ignore[attr-defined]
        await begun.wait()
        epoch = await b.renew_epoch(conversation)
        release.set()
        heard = await after(SOON_S, ben)

        assert [it["epoch"] for it in heard if it["event"] == "BEHIND"] == [epoch]


# --- the bus ---


class DeadBus(BreakingBus):
    """A bus that is down while told to."""

    async def events(self) -> AsyncIterator[BusEvent]:
        if self.broken:
            raise OSError("the bus is gone")
        async for event in super().events():
            yield event


async def test_a_bus_that_is_down_for_long_adds_no_load(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster("memory", 1, heads_check_s=1000.0) as made:
        (a,) = made.nodes
        bus = DeadBus(made.bus.join())
        bus.broken = True
        async with node(made.store, bus, heads_check_s=1000.0) as c:  # type: ignore[arg-type]
            conversation = await group(a, "ann", "ben")
            await login(c, "ben")
            await anyio.sleep(1.0)
            looks = Reads(made)
            await anyio.sleep(300.0)
            records = [it for it in caplog.records if it.name == "chatkit.server.cluster.bridge"]

            assert looks.count == 0, "it looked when the bus failed; from then on, its checks by time do"
            assert [it.levelno for it in records[:2]] == [logging.ERROR, logging.WARNING]
            assert len([it for it in records if it.exc_info]) == 1
            assert len(records) < 60

            ben = await login(c, "ben")
            bus.broken = False
            await anyio.sleep(31.0)
            await sent(a, conversation, "ann", "k1")
            assert seqs(await after(SOON_S, ben), conversation) == [2]


async def test_a_bus_message_that_cannot_be_read_costs_no_other_one() -> None:
    async with cluster("memory", heads_check_s=1000.0) as two:
        a, b = two.nodes
        conversation = await group(a, "ann", "ben")
        ben = await login(b, "ben")
        two.bus.fate = never
        await sent(a, conversation, "ann", "k1")
        two.bus.fate = at_once
        frame = [VERSION, ["other", 1], LogChanged(conversation)]
        two.bus.join().publish(topic_of(conversation), msgspec.msgpack.encode(frame))

        assert seqs(await after(SOON_S, ben), conversation) == [2]


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1 nonsense",
        msgspec.msgpack.encode([VERSION, ["other", 1]]),
        msgspec.msgpack.encode([VERSION + 1, LogChanged("g-1")]),
        msgspec.msgpack.encode([LogChanged("g-1")]),
    ],
    ids=["nonsense", "an unknown kind", "a newer version", "no version"],
)
async def test_what_cannot_be_read_counts_as_lost(data: bytes) -> None:
    async with cluster("memory", heads_check_s=1000.0) as two:
        a, b = two.nodes
        conversation = await group(a, "ann", "ben")
        ben = await login(b, "ben")
        two.bus.fate = never
        await sent(a, conversation, "ann", "k1")
        two.bus.fate = at_once
        reads, stranger = Reads(two), two.bus.join()
        for topic in (NODES, topic_of(conversation), "nobody") * 50:
            stranger.publish(topic, data)

        assert seqs(await after(1.5, ben), conversation) == [2]
        assert reads.count <= 2, "one look, however many there are"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_node_goes_on_behind_what_was_deleted_before_it_was_told(kind: str) -> None:
    seen = Recorder()
    async with cluster(kind, instruments=[[], [seen]]) as it:
        here, there = it.nodes
        name = await group(here, "ann", "ben", "cem")
        ann, ben, cem = await login(here, "ann"), await login(there, "ben"), await login(there, "cem")
        it.bus.fate = never
        ann.say(text(name, "k1"))
        await ann.hear("MSG_ACK")
        await here.remove_member(name, None, "cem")
        ann.say(text(name, "k2"))
        await ann.hear("MSG_ACK")
        await here.delete_history(name, 3)
        it.bus.fate = at_once
        ann.say(text(name, "k3"))
        assert [event["headSeq"] for event in await after(5, ben)] == [5]
        assert [event["change"] for event in await after(0, cem)] == ["LEFT"]
        ann.say(text(name, "k4"))
        assert seqs(await after(5, ben), name) == [6]
        assert await after(0, cem) == []
    assert seen.named("seq violation") == []


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_node_where_nobody_is_left_lets_go_of_what_was_deleted(kind: str) -> None:
    async with cluster(kind) as it:
        here, there = it.nodes
        name = await group(here, "ann", "ben")
        ann, ben = await login(here, "ann"), await login(there, "ben")
        it.bus.fate = never
        await here.remove_member(name, None, "ben")
        ann.say(text(name, "k1"))
        await ann.hear("MSG_ACK")
        await here.delete_history(name, 2)
        it.bus.fate = at_once
        ann.say(text(name, "k2"))
        assert [event["change"] for event in await after(5, ben)] == ["LEFT"]
        await here.add_members(name, None, ["ben"])
        assert {"JOINED"} == {it["change"] for it in await after(5, ben) if it["event"] == "CONVERSATION"}
        ann.say(text(name, "k3"))
        assert seqs(await after(5, ben), name) == [6]
