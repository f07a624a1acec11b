"""What the figures say of known traffic; that they name nobody; and that broken numbers are found."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter as Counted
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY, CollectorRegistry

from chatkit import ChatClient, MemoryConnector, MessageReceived, Metrics
from chatkit.errors import (
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from chatkit.observability.figures import LABEL_VALUES_MAX, Counter, Histogram
from chatkit.observability.instrument import FailedBatch, Instruments
from chatkit.ports import Ports
from chatkit.push.base import Dead, Delivered, Push, Result, Retry
from chatkit.server.live.audience import Audience
from chatkit.server.live.delivery_times import TIMED_PER_SECOND, DeliveryTimes
from chatkit.server.moderation.verdicts import Allow, Hold, Submission
from chatkit.server.seq_check import SeqCheck
from chatkit.storage import base
from chatkit.storage.base import Appended, Command, Entry, MembersChanged, Outcome
from chatkit.testing.virtual_time import VirtualClock

from ..server.delivery.world import World
from ..server.harness import GatedStore, Peer, group, login, serving, text
from ..server.nodes import cluster, never
from .recorder import Recorder
from .shown import risen, shown


def delivered(name: str, seq: int) -> dict[str, Any]:
    return {"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": seq}


async def test_messages_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    async with serving(store := GatedStore(), instruments=[metrics]) as server:
        name = await group(server, "ann", "ben", "cem")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text(name, "k1"), text(name, "k2"), text("nowhere", "k3"))
        await ann.hear("MSG_ACK", "MSG_ACK", "ERROR")
        ann.say(text(name, "k1"))
        await ann.hear("MSG_ACK")
        store.break_for(1)
        ann.say(text(name, "k4"))
        await ann.hear("ERROR")
        ann.say(text(name, "k4"))
        await ann.hear("MSG_ACK")
        ben.say(delivered(name, 4), {"event": "READ", "conversationId": name, "upToSeq": 3})
        await server._committer.flush()
        await anyio.sleep(2)

        found = risen(metrics)

    assert {it: found[it] for it in found if it.startswith("chatkit_sends")} == {
        'chatkit_sends_total{result="stored"}': 3,
        'chatkit_sends_total{result="repeat"}': 1,
        'chatkit_sends_total{result="refused"}': 1,
        'chatkit_sends_total{result="failed"}': 1,
    }
    assert found["chatkit_send_to_ack_seconds_count"] == 3
    assert found["chatkit_deliveries_total"] == 3
    assert found['chatkit_acks_total{kind="delivered"}'] == 1
    assert found['chatkit_acks_total{kind="read"}'] == 1
    assert found["chatkit_delivery_latency_seconds_count"] == 3
    assert found['chatkit_storage_refusals_total{kind="other"}'] == 1
    assert found['chatkit_refusals_total{code="NOT_FOUND"}'] == 1
    assert found['chatkit_refusals_total{code="UNAVAILABLE"}'] == 1
    assert found['chatkit_logins_total{by="token"}'] == 2
    assert found["chatkit_sessions"] == 2
    assert found["chatkit_conversations_online"] == 1
    assert found["chatkit_storage_healthy"] == 1


async def test_send_to_ack_is_from_the_frame_to_the_answer() -> None:
    metrics = Metrics()
    async with serving(store := GatedStore(), instruments=[metrics]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(name, "k1"))
        await anyio.sleep(0.3)
        ann.say(text(name, "k2"))
        await anyio.sleep(0.4)
        store.release()
        await ann.hear("MSG_ACK", "MSG_ACK")
        await server._committer.flush()

        found = shown(metrics)

    assert found["chatkit_send_to_ack_seconds_sum"] == pytest.approx(0.7 + 0.4)
    assert found['chatkit_send_to_ack_seconds_bucket{le="0.2"}'] == 0
    assert found['chatkit_send_to_ack_seconds_bucket{le="0.5"}'] == 1
    assert found['chatkit_send_to_ack_seconds_bucket{le="1.0"}'] == 2


async def test_messages_of_one_transaction_that_came_at_different_times_are_timed_each() -> None:
    metrics = Metrics()
    async with serving(store := GatedStore(), instruments=[metrics]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(name, "k0"))
        await anyio.sleep(0.1)  # its transaction has begun
        for key in ("k1", "k2", "k3"):
            ann.say(text(name, key))
            await anyio.sleep(0.2)
        store.release()
        await ann.hear(*["MSG_ACK"] * 4)
        await server._committer.flush()

        found = shown(metrics)

    assert found["chatkit_send_to_ack_seconds_sum"] == pytest.approx(0.7 + 0.6 + 0.4 + 0.2)


async def test_delivery_is_timed_for_each_message_and_device_that_was_online() -> None:
    seen = Recorder()
    async with serving(instruments=[seen]) as server:
        name = await group(server, "ann", "ben", "cem")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text(name, "k1"))
        await anyio.sleep(0.5)
        ann.say(text(name, "k2"))
        await anyio.sleep(0.25)
        cem = await login(server, "cem")  # for whom both are older than his session
        ben.say(delivered(name, 3))
        cem.say(delivered(name, 3))
        ann.say(delivered(name, 3))  # the sender's own
        await server._committer.flush()
        ben.say(delivered(name, 3), delivered(name, 2))  # again
        await server._committer.flush()
        ann.say(text(name, "k3"))
        await ben.hear("NEW_MSG", "NEW_MSG", "NEW_MSG")
        await anyio.sleep(1)
        cem.say(delivered(name, 4_000_000))  # refused: it is beyond the head
        ben.say(delivered(name, 4))
        await server._committer.flush()

    found = [took_s for batch in seen.named("committed") for took_s in Counted(batch.delivery_s).elements()]
    assert sorted(found[:2]) == pytest.approx([0.25, 0.75], abs=0.05)
    assert found[2:] == pytest.approx([1.0], abs=0.05)


async def test_a_clock_that_was_ahead_stops_no_timing() -> None:
    times, audience = DeliveryTimes({}), Audience("c", "GROUP", "e", 0, 2)
    for seq, server_ts in enumerate([3_600_000, *range(1_000, 300_000, 1_000)], 1):
        times.published(audience, [Entry("c", "e", f"e-{seq}", seq, "ann", server_ts, b"{}", f"k{seq}")])
    assert audience.timed[-1] == (300, 300, 299_000, "ann")


async def allow_all(submissions: Sequence[Submission]) -> Sequence[Allow]:
    """A moderator that has nothing against anything."""
    return [Allow() for _ in submissions]


async def test_repeats_are_counted_beside_a_moderator_too() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics], moderator=allow_all) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        for _ in range(3):
            ann.say(text(name, "k1"))
            await ann.hear("MSG_ACK")
        await server._committer.flush()
        found = risen(metrics)
    sends = {result: found[f'chatkit_sends_total{{result="{result}"}}'] for result in ("stored", "repeat")}
    assert sends == {"stored": 1, "repeat": 2}


async def hold_all(submissions: Sequence[Submission]) -> Sequence[Hold]:
    """A moderator that wants somebody to look at everything."""
    return [Hold("look") for _ in submissions]


async def test_what_is_kept_for_review_is_counted_as_held() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics], moderator=hold_all) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        for _ in range(2):
            ann.say(text(name, "k1"))
            await ann.hear("ERROR")
        await server._committer.flush()
        found = risen(metrics)
    assert {it: found[it] for it in found if it.startswith("chatkit_sends")} == {
        'chatkit_sends_total{result="held"}': 2
    }


async def test_changes_of_members_are_not_timed_as_messages() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics]) as server:
        name = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        await server.add_members(name, "ann", ["cem"])
        await ben.hear("NEW_MSG")
        ann.say(text(name, "k1"))
        await ben.hear("NEW_MSG")
        ben.say(delivered(name, 3))
        await server._committer.flush()

        assert shown(metrics)["chatkit_delivery_latency_seconds_count"] == 1


async def test_messages_of_one_frame_are_each_timed_for_each_device_once() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics]) as server:
        name = await group(server, "ann", "ben", "cem")
        ann, ben, cem = [await login(server, it) for it in ("ann", "ben", "cem")]
        ann.say(*(text(name, f"k{number}") for number in range(5)))
        await ann.hear(*["MSG_ACK"] * 5)
        await ben.hear(*["NEW_MSG"] * 5)
        ben.say(delivered(name, 3))  # two of them
        await anyio.sleep(1.5)
        ben.say(delivered(name, 6))
        cem.say(delivered(name, 6))
        await server._committer.flush()

        found = shown(metrics)

    assert found["chatkit_send_to_ack_seconds_count"] == 5
    assert found["chatkit_delivery_latency_seconds_count"] == 10
    assert found['chatkit_delivery_latency_seconds_bucket{le="1.0"}'] == 2
    assert found["chatkit_delivery_latency_seconds_sum"] == pytest.approx(8 * 1.5, abs=0.1)


async def test_in_a_busy_second_so_many_messages_are_timed_and_no_more() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics]) as server:
        name = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        for first in range(0, TIMED_PER_SECOND + 60, 20):
            ann.say(*(text(name, f"k{first + number}") for number in range(20)))
            await ann.hear(*["MSG_ACK"] * 20)
            await ben.hear(*["NEW_MSG"] * 20)
            ben.say(delivered(name, first + 21))
        await anyio.sleep(1.5)
        ann.say(text(name, "later"))
        await ben.hear("NEW_MSG")
        ben.say(delivered(name, TIMED_PER_SECOND + 62))
        await server._committer.flush()

        found = shown(metrics)

    assert found["chatkit_send_to_ack_seconds_count"] == TIMED_PER_SECOND + 61
    assert found["chatkit_delivery_latency_seconds_count"] == TIMED_PER_SECOND + 1


async def test_a_client_counts_with_the_same_figures() -> None:
    metrics = Metrics()
    async with serving() as server:
        name = await group(server, "ann", "ben")
        ben = await login(server, "ben")
        connector, ports = MemoryConnector(server), Ports(VirtualClock())
        chat = ChatClient(
            "ws://x", token="ann", device_id="p", connector=connector, ports=ports, instruments=[metrics]
        )
        async with chat:
            await chat.send(name, "hello")
            ben.say(text(name, "k2"))
            async for event in chat.events():
                if isinstance(event, MessageReceived) and event.message.seq == 3:
                    break
            with pytest.raises(NotFoundError):
                await chat.send("nowhere", "hello")

    found = risen(metrics)
    assert found['chatkit_client_sends_total{result="sent"}'] == 1
    assert found['chatkit_client_sends_total{result="refused"}'] == 1
    assert found["chatkit_client_received_total"] == 2  # the first entry of the group, and ben's message
    assert found["chatkit_client_send_seconds_count"] == 2
    assert found['chatkit_client_connects_total{by="token"}'] == 1


async def test_pushes_and_what_waits_are_counted() -> None:
    metrics = Metrics()
    store = GatedStore()
    await store.migrate()
    world = World(store, instruments=[metrics])
    for user in ("ann", "ben", "cem", "dan"):
        await world.device(user)
    await world.group("g", "ann", "ben", "cem", "dan")
    await world.work()

    async def answer(push: Push) -> Result:
        if push.token.startswith("ben"):
            return Retry(500.0, "too many")
        return Dead("gone") if push.token.startswith("cem") else Delivered("id")

    world.provider.answer = answer
    await world.send("g", "ann", "hello")
    await anyio.sleep(60)
    world.worker = world.another_worker()
    with anyio.move_on_after(0.5):
        await world.worker.run()
    late = risen(metrics)
    world.worker = world.another_worker()
    await world.work(8)
    await store.aclose()

    found = risen(metrics)
    assert late["chatkit_queue_lag_seconds"] == pytest.approx(60, abs=1)
    assert late["chatkit_offline_queue_depth"] == 1
    assert found["chatkit_worker_running"] == 1
    assert {it: found[it] for it in found if it.startswith("chatkit_pushes")} == {
        'chatkit_pushes_total{result="delivered"}': 1,
        'chatkit_pushes_total{result="retry"}': 1,
        'chatkit_pushes_total{result="dead"}': 1,
    }


async def test_a_server_without_a_worker_says_how_far_workers_are_and_that_it_has_none() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics]) as server:
        name = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(text(name, "k1"))
        await ann.hear("MSG_ACK")
        await anyio.sleep(30)

        found = shown(metrics)

    assert found["chatkit_offline_queue_depth"] == 1
    assert found["chatkit_queue_lag_seconds"] == pytest.approx(25, abs=6)
    assert found["chatkit_worker_running"] == 0


async def test_how_late_the_loop_is_is_measured_every_second() -> None:
    metrics = Metrics()
    async with serving(instruments=[metrics]):
        await anyio.sleep(3.5)
        found = shown(metrics)

    assert found["chatkit_loop_lag_seconds_count"] == 3
    assert found['chatkit_loop_lag_seconds_bucket{le="0.001"}'] == 3  # a virtual loop is never late


# --- broken numbers ---


class BrokenNumbers(GatedStore):
    """Planted: storage that gives numbers twice, or leaves some out, for the messages whose key says so."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().commit(commands)
        return [self._broken(command, outcome) for command, outcome in zip(commands, outcomes, strict=True)]

    def _broken(self, command: Command, outcome: Outcome) -> Outcome:
        key = getattr(command, "client_msg_id", "")
        shift = -1 if key.startswith("twice") else 1 if key.startswith("hole") else 0
        if not shift or not isinstance(outcome, Appended):
            return outcome
        return replace(outcome, entry=replace(outcome.entry, seq=outcome.entry.seq + shift))


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["k1", "k2", "k3"], {}),
        (["k1"], {}),
        (["k1", "twice"], {"repeated": 1}),
        (["k1", "hole"], {"hole": 1}),
    ],
)
async def test_a_number_that_is_given_twice_or_to_nobody_is_found(
    keys: list[str], found: dict[str, int]
) -> None:
    metrics, seen = Metrics(), Recorder()
    async with serving(BrokenNumbers(), instruments=[metrics, seen]) as server:
        name = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(*(text(name, key) for key in keys))
        await ann.hear(*["MSG_ACK"] * len(keys))
        await server._committer.flush()

    expected = {
        f'chatkit_seq_invariant_violations_total{{kind="{kind}"}}': count for kind, count in found.items()
    }
    assert {it: n for it, n in risen(metrics).items() if "violations" in it} == expected
    assert [it.kind for it in seen.named("seq violation")] == list(found)


async def test_a_number_of_an_earlier_transaction_that_is_given_again_is_found() -> None:
    seen = Recorder()
    async with serving(BrokenNumbers(), instruments=[seen]) as server:
        name = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        for key in ("k1", "twice"):
            ann.say(text(name, key))
            await ann.hear("MSG_ACK")
        await server._committer.flush()

    (violation,) = seen.named("seq violation")
    assert (violation.kind, violation.expected_seq, violation.seq) == ("repeated", 3, 2)


class BrokenMemberNumbers(GatedStore):
    """Planted: storage that gives what says who joins a number that was given before."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        return [self._broken(outcome) for outcome in await super().commit(commands)]

    def _broken(self, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, MembersChanged) or outcome.entry is None:
            return outcome
        return replace(outcome, entry=replace(outcome.entry, seq=outcome.entry.seq - 1))


async def test_a_number_of_an_entry_that_is_no_message_is_looked_at_too() -> None:
    seen = Recorder()
    async with serving(BrokenMemberNumbers(), instruments=[seen]) as server:
        name = await group(server, "ann", "ben")
        await login(server, "ann")
        await server.add_members(name, None, ["cem"])
        await server._committer.flush()

    (violation,) = seen.named("seq violation")
    assert (violation.kind, violation.expected_seq, violation.seq) == ("repeated", 2, 1)


class NoEntries(GatedStore):
    """Planted: a store of a host's own, which does not say what it stored if the key says so."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().commit(commands)
        broken = [getattr(it, "client_msg_id", "") == "broken" for it in commands]
        return [replace(it, entry=None) if odd else it for it, odd in zip(outcomes, broken, strict=True)]


async def test_what_cannot_be_checked_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(NoEntries(), instruments=[Recorder()]) as server:
        name = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text(name, "broken"))
        await ann.closed()
        ben.say(text(name, "k1"))
        await ben.hear("MSG_ACK")
    assert "the numbers of a batch cannot be checked" in caplog.text


def test_what_another_node_writes_between_two_batches_is_no_hole_and_within_one_is() -> None:
    seen = Recorder()
    check = SeqCheck(Instruments([seen]))

    def batch(name: str, *seqs: int) -> list[Entry]:
        return [Entry(name, "e", f"{name}{seq}", seq, "ann", 1, b"{}", None) for seq in seqs]

    check.committed([batch("g", 1, 2)])
    check.committed([batch("h", 1)])
    check.committed([batch("g", 5, 6), batch("h", 4), batch("g", 7)])  # another node wrote between
    assert seen.named("seq violation") == []
    check.committed([batch("h", 5), batch("g", 9, 11)])
    assert [(it.kind, it.expected_seq, it.seq) for it in seen.named("seq violation")] == [("hole", 10, 11)]


def test_a_batch_that_ends_late_repeats_nothing() -> None:
    """Where the store takes several at once: a recall shares no key with the message before it."""
    seen = Recorder()
    check = SeqCheck(Instruments([seen]))

    def batch(*seqs: int, epoch: str = "e") -> list[Entry]:
        return [Entry("g", epoch, f"g{seq}", seq, "ann", 1, b"{}", None) for seq in seqs]

    def found() -> list[tuple[str, int, int]]:
        return [(it.kind, it.expected_seq, it.seq) for it in seen.named("seq violation")]

    for seqs in ((1, 2, 3), (6,), (4, 5), (7,)):
        check.committed([batch(*seqs)])
    assert found() == []
    check.committed([batch(7)])
    assert found() == [("repeated", 8, 7)]
    check.committed([batch(11)])
    check.committed([batch(8), batch(10)])  # what two sessions sent, of which one number went to nothing
    assert found()[1:] == [("hole", 9, 10)]
    check.committed([batch(12, 14, 13)])  # none is missing, and yet two are not where they belong
    assert found()[2:] == [("hole", 13, 14), ("repeated", 15, 13)]
    del seen.calls[1:]
    check.committed([batch(3, 4, epoch="another")])  # the log was replaced
    check.committed([batch(5, epoch="another")])
    assert len(found()) == 1
    check.committed([batch(4, epoch="another")])
    assert found()[1:] == [("repeated", 6, 4)]


async def test_a_hole_in_the_log_itself_is_found_by_whoever_reads_it(monkeypatch: Any) -> None:
    seen = Recorder()
    async with cluster("memory", instruments=[[], [seen]]) as it:
        name = await group(it.nodes[0], "ann", "ben")
        ann, _ = await login(it.nodes[0], "ann"), await login(it.nodes[1], "ben")
        await anyio.sleep(10)
        whole = it.store.inner.entries

        async def holed(conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
            return [entry for entry in await whole(conversation_id, after_seq, limit) if entry.seq != 3]

        monkeypatch.setattr(it.store.inner, "entries", holed)
        it.bus.fate = never
        ann.say(text(name, "k1"), text(name, "k2"), text(name, "k3"))
        await ann.hear("MSG_ACK", "MSG_ACK", "MSG_ACK")
        await anyio.sleep(10)

    first = seen.named("seq violation")[0]
    assert (first.conversation_id, first.kind, first.expected_seq, first.seq) == (name, "hole", 3, 4)


# --- nobody is named ---

CANARY = "canary"


async def test_no_id_and_no_word_of_anybody_is_ever_shown() -> None:
    metrics = Metrics()
    store = GatedStore()
    async with serving(store, instruments=[metrics], send_buffer_bytes=2_000) as server:
        name = await group(server, f"{CANARY}-ann", f"{CANARY}-ben", conversation_id=f"{CANARY}-group")
        ann = await login(server, f"{CANARY}-ann", f"{CANARY}-phone")
        ben = await login(server, f"{CANARY}-ben")
        for number in range(30):  # some of them find ben's buffer full
            ann.say(text(name, f"{CANARY}-{number}", f"{CANARY} words"))
        ann.say(text(f"{CANARY}-nowhere", f"{CANARY}-x"), {"event": f"{CANARY}", "x": 1})
        await anyio.sleep(5)
        ben.say(delivered(name, 5), delivered(f"{CANARY}-nowhere", 1))
        store.break_for(1)
        ann.say(text(name, f"{CANARY}-y", f"{CANARY} words"))
        stranger = Peer(server)
        stranger.say({"event": "HELLO", "token": "nobody", "deviceId": f"{CANARY}-device"})
        resumed = Peer(server)
        resumed.say({"event": "HELLO", "resumeToken": f"{CANARY}-token", "deviceId": f"{CANARY}-device"})
        await anyio.sleep(30)
        metrics.on_failed(FailedBatch([], [], UnavailableError(f"{CANARY} refuses"), 0, 0, 0))
        await push_to_strange_providers(metrics)

        text_ = metrics.exposition().decode()

    assert sum(risen(metrics).values()) > 100
    assert CANARY not in text_
    assert "nowhere" not in text_
    assert "words" not in text_


async def push_to_strange_providers(metrics: Metrics) -> None:
    """Devices may say that they are reached by any provider."""
    store = GatedStore()
    await store.migrate()
    world = World(store, instruments=[metrics])
    await world.group(f"{CANARY}-g", f"{CANARY}-ann", f"{CANARY}-ben")
    await world.do(base.RegisterPush(f"{CANARY}-ben", "phone", CANARY, f"{CANARY}-token", False, 1))
    await world.work()
    await world.send(f"{CANARY}-g", f"{CANARY}-ann", f"{CANARY} words")
    await world.work(20)
    await store.aclose()


def test_values_are_counted_in_the_first_bucket_that_holds_them() -> None:
    histogram = Histogram("chatkit_x_seconds", "Anything", (0.1, 0.2, 0.5))

    for value in (0.2, 0.7, 0.05, 0.1, 0.3, 9.0):
        histogram.observe(value)
    histogram.observe(0.2, 3)

    samples = histogram.family().samples
    assert [it.value for it in samples if it.name.endswith("_bucket")] == [2.0, 6.0, 7.0, 9.0]
    assert [it.value for it in samples if it.name.endswith("_sum")] == [pytest.approx(10.95)]


def test_no_peer_makes_figures_without_end() -> None:
    counter = Counter("chatkit_x_total", "Anything", "code")

    for number in range(10_000):
        counter.add(1, f"made up {number}")

    samples = counter.family().samples
    assert len(samples) == LABEL_VALUES_MAX + 1
    assert sum(sample.value for sample in samples) == 10_000
    assert {sample.labels["code"]: sample.value for sample in samples}["other"] == 10_000 - LABEL_VALUES_MAX


# --- registries ---


def test_each_has_a_registry_of_its_own_and_never_the_global_one() -> None:
    before = list(REGISTRY.collect())
    one, other = Metrics(), Metrics()

    one.on_refused(OverloadedError("full"))

    assert risen(one)['chatkit_refusals_total{code="OVERLOADED"}'] == 1
    assert 'chatkit_refusals_total{code="OVERLOADED"}' not in risen(other)
    assert len(list(REGISTRY.collect())) == len(before)


def test_a_registry_of_the_host_is_taken_and_only_once() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.on_refused(BadRequestError("no"))

    assert registry.get_sample_value("chatkit_refusals_total", {"code": "BAD_REQUEST"}) == 1
    with pytest.raises(ConfigurationError, match="give each Metrics its own"):
        Metrics(registry)


async def test_two_servers_of_a_process_are_counted_apart() -> None:
    one, other = Metrics(), Metrics()
    async with serving(instruments=[one]) as here, serving(instruments=[other]):
        name = await group(here, "ann")
        ann = await login(here, "ann")
        ann.say(text(name, "k1"))
        await ann.hear("MSG_ACK")
        await anyio.sleep(2)

        assert risen(one)["chatkit_sessions"] == 1
        assert "chatkit_sessions" not in risen(other)
        assert 'chatkit_sends_total{result="stored"}' not in risen(other)


def test_what_is_missing_is_named() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = sys.modules['prometheus_client.core'] = None\n"
        "import chatkit, chatkit.cli.serve\n"
        "try:\n    chatkit.Metrics\nexcept chatkit.ConfigurationError as error:\n    print(error)\n"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout == 'metrics need prometheus-client: pip install "chatkit-engine[metrics]"\n'
