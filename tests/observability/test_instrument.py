"""The Instrument port: who may be one, what it is told of a server, a worker and a client; it can break nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from msgspec import json

from chatkit import ChatClient, ChatServer, Connected, MemoryConnector, MessageReceived, Notice, PushText
from chatkit.bus.base import Message
from chatkit.bus.local import LocalMember
from chatkit.core.log.commands import AdvanceDelivered
from chatkit.errors import ClosedError, ConfigurationError, RefusedError, UnavailableError
from chatkit.observability.instrument import CommittedBatch, Instrument, Instruments
from chatkit.ports import Ports
from chatkit.push.base import Dead, Delivered, Push, Result, Retry
from chatkit.storage.base import Command, Outcome, Refused
from chatkit.testing.virtual_time import VirtualClock
from chatkit.types import Sent
from chatkit.wire.events import CloseCode

from ..server.delivery.world import World
from ..server.harness import GatedStore, Peer, by_name, group, login, serving, text
from ..server.nodes import cluster, never
from .recorder import Recorder


class Broken(Instrument):
    """Fails whenever it is told something."""

    def on_committed(self, batch: CommittedBatch) -> None:
        raise RuntimeError("the exporter is broken")

    def on_refused(self, error: RefusedError) -> None:
        raise RuntimeError("the exporter is broken")

    def on_login(self, *, resumed: bool) -> None:
        raise RuntimeError("the exporter is broken")


# --- who may be one ---


class OnlyLogins:
    """No subclass; one method is enough."""

    def on_login(self, *, resumed: bool) -> None:
        """Nothing."""


class Misspelt(Instrument):
    def on_commited(self, batch: CommittedBatch) -> None:
        """Never called."""


class Awaited(Instrument):
    async def on_login(self, *, resumed: bool) -> None:  # type: ignore[override]
        """Never awaited."""


class Silent(Instrument):
    """Overrides nothing."""


def test_what_nobody_listens_to_is_none() -> None:
    some = Instruments([OnlyLogins()])  # type: ignore[list-item]

    assert some.on_login is not None
    assert some.on_committed is None
    assert Instruments().on_login is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Misspelt()], "Misspelt has on_commited, which nothing calls"),
        ([Awaited()], "Awaited.on_login must be a plain method"),
        ([Silent()], "Silent is no instrument"),
        ([object()], "object is no instrument"),
        ([Recorder], "not the class Recorder"),
        (Recorder(), "must be a list"),
        ("metrics", "must be a list"),
    ],
)
def test_what_would_never_be_called_is_refused(given: Any, message: str) -> None:
    for take in (
        Instruments,
        lambda it: ChatServer(store=GatedStore(), authenticate=by_name, instruments=it),
        lambda it: ChatClient("ws://x", token="t", device_id="d", instruments=it),
    ):
        with pytest.raises(ConfigurationError, match=message):
            take(given)


# --- a server ---


async def test_a_batch_is_told_once_with_what_became_of_it() -> None:
    seen = Recorder()
    async with serving(instruments=[seen]) as server:
        name = await group(server, "ann", "ben", "cem")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text(name, "k1"), text(name, "k2"), text("nowhere", "k3"))
        (ack, _, refusal) = await ann.hear("MSG_ACK", "MSG_ACK", "ERROR")
        (message,) = await ben.hear("NEW_MSG")
        ben.say({"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": message["seq"]})
        await server._committer.flush()

    (first, outcome, offered), (second, _, _) = seen.appends()
    assert (first.client_msg_id, second.client_msg_id) == ("k1", "k2")
    assert outcome.entry.message_id == ack["messageId"]
    assert offered == 1  # ben; ann has her answer instead
    assert [error.code for error in seen.named("refused")] == [refusal["code"]] == ["NOT_FOUND"]
    (told,) = [it for it in seen.named("committed") if first in it.commands]
    assert len(told.commands) == len(told.outcomes) == len(told.received_s) == len(told.offered) == 3
    assert told.new_received_s == {told.received_s[0]: 2}  # they came in one frame
    assert [(it.client_msg_id, type(outcome)) for it, outcome in told.others] == [("k3", Refused)]
    confirmed = [it for batch in seen.named("committed") for it in batch.commands]
    assert [it.user_id for it in confirmed if isinstance(it, AdvanceDelivered)] == ["ben"]
    assert seen.named("login") == [False, False]
    assert seen.named("closed") == [None, None]


async def test_a_batch_says_when_it_was_received_stored_and_published() -> None:
    seen = Recorder()
    async with serving(store := GatedStore(), instruments=[seen]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(name, "k1"))
        await anyio.sleep(0.25)
        ann.say(text(name, "k2"))
        await anyio.sleep(0.5)
        store.release()
        await ann.hear("MSG_ACK", "MSG_ACK")
        await server._committer.flush()

    first, second = seen.named("committed")[-2:]
    assert first.durable_s - first.received_s[0] == pytest.approx(0.75)
    assert first.durable_s - first.began_s == pytest.approx(0.75)
    assert second.began_s - second.received_s[0] == pytest.approx(0.5)
    assert second.durable_s <= second.published_s


class Shares(GatedStore):
    """Takes all commands of a batch but those that are named so, which it refuses for now."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        refused = [getattr(it, "client_msg_id", "") == "not now" for it in commands]
        taken = iter(await super().commit([it for it, odd in zip(commands, refused, strict=True) if not odd]))
        return [Refused(UnavailableError("not now")) if odd else next(taken) for odd in refused]


async def test_each_command_of_a_batch_keeps_its_place_when_one_before_it_is_refused() -> None:
    seen = Recorder()
    async with serving(store := Shares(), instruments=[seen]) as server:
        name = await group(server, "ann", "ben", "cem")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        store.hold()
        ann.say(text(name, "before"))
        await anyio.sleep(0.1)  # in a transaction; those that follow go into the next one together
        ben.say(text(name, "not now"))
        ann.say(text(name, "k1"), text(name, "k2"))
        store.release()
        await ann.hear("MSG_ACK", "MSG_ACK", "MSG_ACK")
        await server._committer.flush()

    (told,) = [it for it in seen.named("committed") if len(it.commands) == 3]
    offered = {it.client_msg_id: count for it, count in zip(told.commands, told.offered, strict=True)}
    assert offered == {"not now": 0, "k1": 1, "k2": 1}
    assert sum(told.new_received_s.values()) == 2
    assert [it.client_msg_id for it, _ in told.others] == ["not now"]


async def test_what_storage_refuses_is_told_with_the_reason() -> None:
    seen = Recorder()
    async with serving(store := GatedStore(), instruments=[seen]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        store.break_for(1)
        ann.say(text(name, "k1"))
        await ann.hear("ERROR")

    (failed,) = seen.named("failed")
    assert [it.client_msg_id for it in failed.commands] == ["k1"]
    assert str(failed.error) == "the disk refuses"
    assert [error.code for error in seen.named("refused")] == ["UNAVAILABLE"]


async def test_a_session_that_does_not_read_is_told_as_dropped_and_behind() -> None:
    seen = Recorder()
    async with serving(instruments=[seen], send_buffer_bytes=1_000) as server:
        name = await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        for number in range(20):
            ann.say(text(name, f"k{number}"))
        await ann.hear(*["MSG_ACK"] * 20)
        await ben.hear("BEHIND")

    kept = sum(offered for _, _, offered in seen.appends()) - len(seen.named("dropped"))
    assert 0 < kept < 20
    assert seen.named("behind") == [1]


async def test_logins_are_told_by_their_kind_and_refused_ones_too() -> None:
    seen = Recorder()
    async with serving(instruments=[seen]) as server:
        ann = Peer(server)
        ann.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        (welcome,) = await ann.hear("WELCOME")
        again, spent = Peer(server), Peer(server)
        resume = {"event": "HELLO", "resumeToken": welcome["resumeToken"], "deviceId": "phone"}
        again.say(resume)
        await again.hear("WELCOME")
        spent.say(resume)
        await spent.closed()
        nobody = Peer(server)
        nobody.say({"event": "HELLO", "token": "nobody", "deviceId": "phone"})
        await nobody.closed()
        nobody.leave()

    assert seen.named("login") == [False, True]
    assert seen.named("login refused") == [("TOKEN_REVOKED", True), ("UNAUTHENTICATED", False)]
    assert seen.named("closed")[0] == 4101


async def test_what_a_bus_loses_is_told_as_a_gap_and_as_reconciled() -> None:
    first, second = Recorder(), Recorder()
    async with cluster("memory", instruments=[[first], [second]]) as it:
        name = await group(it.nodes[0], "ann", "ben")
        ann, ben = await login(it.nodes[0], "ann"), await login(it.nodes[1], "ben")
        await anyio.sleep(10)  # what the logins had the log asked about is over
        second.calls.clear()
        it.bus.fate = never
        ann.say(text(name, "lost 1"), text(name, "lost 2"))
        await ann.hear("MSG_ACK", "MSG_ACK")
        await anyio.sleep(0.01)
        it.bus.fate = twice
        ann.say(text(name, "heard"))
        heard = await ben.hear("NEW_MSG", "NEW_MSG", "NEW_MSG")
        await anyio.sleep(1)

    assert [message["seq"] for message in heard] == [2, 3, 4]
    assert second.named("gap")[0] == 2
    assert sum(found.entries for found in second.named("reconciled")) == 3
    assert first.named("gap") == []
    assert len(first.named("duplicate")) == 0


async def test_what_a_bus_doubles_is_told_as_a_duplicate() -> None:
    second = Recorder()
    async with cluster("memory", instruments=[[], [second]]) as it:
        name = await group(it.nodes[0], "ann", "ben")
        ann, ben = await login(it.nodes[0], "ann"), await login(it.nodes[1], "ben")
        it.bus.fate = twice
        ann.say(text(name, "k1"))
        await ben.hear("NEW_MSG")
        await anyio.sleep(1)

    assert len(second.named("duplicate")) == 1


def twice(member: LocalMember, message: Message) -> tuple[float, ...]:
    return (0.0, 0.0)


# --- what breaks ---


async def test_an_instrument_that_raises_costs_nobody_anything(caplog: pytest.LogCaptureFixture) -> None:
    seen = Recorder()
    with caplog.at_level(logging.CRITICAL, "chatkit.observability"):
        async with serving(instruments=[Broken(), seen]) as server:
            name = await group(server, "ann", "ben")
            ann, ben = await login(server, "ann"), await login(server, "ben")
            ann.say(*(text(name, f"k{number}") for number in range(5)), text("nowhere", "k"))
            await ann.hear(*["MSG_ACK"] * 5, "ERROR")
            assert len(await ben.hear(*["NEW_MSG"] * 5)) == 5

    assert len(seen.appends()) == 5


def test_what_it_raises_is_logged_less_and_less_often(caplog: pytest.LogCaptureFixture) -> None:
    on_login = Instruments([Broken()]).on_login
    assert on_login is not None

    for _ in range(100):
        on_login(resumed=False)

    assert [record.args for record in caplog.records] == [
        ("Broken.on_login", number) for number in (1, 2, 4, 8, 16, 32, 64)
    ]
    assert all(record.exc_info for record in caplog.records)


# --- a worker ---


async def test_pushes_are_told_by_what_became_of_them() -> None:
    seen = Recorder()
    store = GatedStore()
    await store.migrate()
    world = World(store, instruments=[seen])
    for user in ("ann", "ben", "cem", "dan"):
        await world.device(user)
    await world.group("g", "ann", "ben", "cem", "dan")
    await world.work()

    async def answer(push: Push) -> Result:
        if push.token.startswith("ben"):
            return Retry(5.0, "too many")
        return Dead("gone") if push.token.startswith("cem") else Delivered("id")

    world.provider.answer = answer
    message_id = await world.send("g", "ann", "hello")
    world.worker = world.another_worker()
    await world.work(8)
    await store.aclose()

    first = seen.named("pushed")[0]
    assert first.provider == "scripted"
    assert {(it.user_id, it.kind, it.reason) for it in first.outcomes} == {
        ("ben", "retry", "too many"),
        ("cem", "dead", "gone"),
        ("dan", "delivered", ""),
    }
    assert {(it.conversation_id, it.message_id, it.device_id) for it in first.outcomes} == {
        ("g", message_id, "phone")
    }
    assert first.began_s <= first.ended_s


async def test_a_push_that_is_not_wanted_any_more_is_told_as_cancelled() -> None:
    seen = Recorder()
    store = GatedStore()
    await store.migrate()
    world = World(store, instruments=[seen])
    await world.device("ben")
    await world.group("g", "ann", "ben")
    await world.work()
    await world.send("g", "ann", "hello")

    async def compose(notice: Notice) -> PushText:  # ben reads it elsewhere while words are found
        await world.read("g", "ben", 2)
        return PushText("Team", "hello")

    world.worker = world.another_worker(compose=compose)
    await world.work()
    await store.aclose()

    assert [it.kind for batch in seen.named("pushed") for it in batch.outcomes] == ["cancelled"]
    assert world.provider.sent == []


# --- a client ---


async def test_a_client_tells_of_its_connections_and_of_what_it_has_stored() -> None:
    seen = Recorder()
    async with serving() as server:
        name = await group(server, "ann", "ben")
        ben = await login(server, "ben")
        chat = ChatClient(
            "ws://x",
            token="ann",
            device_id="phone",
            connector=MemoryConnector(server),
            ports=Ports(VirtualClock()),
            instruments=[seen],
        )
        async with chat:
            await chat.wait_connected()
            sent = await chat.send(name, "hello", client_msg_id="k1")
            ben.say(text(name, "k2"))
            async for event in chat.events():
                if isinstance(event, MessageReceived) and event.message.seq == 3:
                    break
            for session in list(server._sessions):
                if session.user_id == "ann":
                    session.close(CloseCode.SLOW_CONSUMER, "for the test")
            async for event in chat.events():
                if isinstance(event, Connected):
                    break

    assert seen.named("client connected") == [False, True]
    assert seen.named("client disconnected") == [4000]
    (answer,) = [it for batch in seen.named("client batch") for it in batch.answered]
    assert (answer.client_msg_id, answer.outcome) == ("k1", sent)
    assert isinstance(answer.outcome, Sent)
    assert answer.queued_s is not None
    received = [it.seq for batch in seen.named("client batch") for it in batch.received]
    assert received[-1] == 3


async def test_a_client_tells_of_what_came_twice_and_of_what_is_missing() -> None:
    seen = Recorder()
    async with serving() as server:
        name = await group(server, "ann", "ben")
        ben = await login(server, "ben")
        chat = ChatClient(
            "ws://x",
            token="ann",
            device_id="phone",
            connector=MemoryConnector(server),
            ports=Ports(VirtualClock()),
            instruments=[seen],
        )
        async with chat:
            await chat.wait_connected()
            (session,) = [it for it in server._sessions if it.user_id == "ann"]
            ben.say(text(name, "k2"))
            async for event in chat.events():
                if isinstance(event, MessageReceived) and event.message.seq == 2:
                    message = event.message
                    break
            push = {
                "event": "NEW_MSG",
                "conversationId": name,
                "epoch": server._hub.audience(name).epoch,  # type: ignore[union-attr]
                "messageId": message.message_id,
                "senderId": "ben",
                "serverTs": message.server_ts,
                "payload": dict(message.payload),
            }
            session.offer(json.encode({**push, "seq": 2}))
            session.offer(json.encode({**push, "seq": 4, "messageId": "1-x-4"}))
            await anyio.sleep(5)

    batches = seen.named("client batch")
    assert sum(batch.duplicates for batch in batches) == 1
    assert sum(batch.gaps for batch in batches) == 1


async def test_a_client_tells_of_tries_that_fail() -> None:
    seen = Recorder()
    async with serving() as server:
        chat = ChatClient(
            "ws://x",
            token="nobody",
            device_id="phone",
            connector=MemoryConnector(server),
            ports=Ports(VirtualClock()),
            instruments=[seen],
        )
        with pytest.raises(ClosedError):
            async with chat:
                await anyio.sleep(1)

    assert len(seen.named("client connect failed")) == 1
    assert seen.named("client connected") == []
