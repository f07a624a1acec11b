"""What services keep of a session goes when the session does, and leaving a conversation ends no order of sends."""

from __future__ import annotations

from collections import deque
from functools import partial
from types import MethodType
from typing import Any

import anyio
import msgspec
import pytest

from chatkit.core.rate_limit import Rate
from chatkit.server.limits import Limits
from chatkit.server.session import Session
from chatkit.storage.base import Page
from chatkit.types import Identity
from chatkit.wire.events import Head

from .harness import GatedStore, HarnessServer, Peer, by_name, group, login, serving, text

CONTAINERS = (dict, list, tuple, set, frozenset, deque, MethodType, partial)
SERVICES = {"Audience", "Engine", "Login", "Presence", "Sessions", "Sync"}


def keepers(server: HarnessServer) -> set[str]:
    """Which parts of a server, at whatever depth, hold a session."""
    found: set[str] = set()
    seen = {id(server.peers)}
    waiting: list[tuple[object, str]] = [(server, "ChatServer")]
    while waiting:
        thing, owner = waiting.pop()
        if id(thing) in seen:
            continue
        if isinstance(thing, Session):
            found.add(owner)
            continue
        seen.add(id(thing))
        ours = type(thing).__module__.startswith(("chatkit.", "tests."))
        if ours or isinstance(thing, CONTAINERS):
            owner = type(thing).__name__ if ours else owner
            waiting += [(part, owner) for part in parts(thing)]
    return found


def parts(thing: Any) -> list[object]:
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, MethodType):
        return [thing.__self__]
    if isinstance(thing, partial):
        return [*thing.args, *thing.keywords.values()]
    if isinstance(thing, CONTAINERS):
        return list(thing)
    if isinstance(thing, msgspec.Struct):
        return [getattr(thing, name) for name in thing.__struct_fields__]
    names = [*getattr(thing, "__dict__", ()), *(it for base in type(thing).__mro__ for it in slots(base))]
    return [getattr(thing, name) for name in names if hasattr(thing, name)]


def slots(kind: type) -> tuple[str, ...]:
    names = kind.__dict__.get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


class SlowReads(GatedStore):
    """Reads wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = anyio.Event()
        self.reads.set()

    async def heads(self, user_id: str, device_id: str) -> list[Head]:
        await self.reads.wait()
        return await super().heads(user_id, device_id)

    async def page(self, *args: Any, **how: Any) -> Page:
        await self.reads.wait()
        return await super().page(*args, **how)


async def busy(server: HarnessServer, peer: Peer, conversation: str) -> None:
    """Have every service keep something of a session."""
    peer.say({"event": "TYPING", "conversationId": conversation})
    server._committer.close("for a moment")
    peer.say(text(conversation, "refused"))
    server._committer.open()
    await peer.hear("ERROR")
    peer.say(*({"event": "SYNC", "conversationId": conversation, "lastSeq": 0} for _ in range(5)))
    peer.say({"event": "AUTH_REFRESH", "token": peer.session.user_id})
    await anyio.wait_all_tasks_blocked()


async def test_nothing_of_a_server_keeps_a_session_that_has_ended() -> None:
    store = SlowReads()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        peers = [await login(server, name) for name in ("ann", "ben")]
        store.reads = anyio.Event()
        for peer in peers:
            await busy(server, peer, conversation)
        assert keepers(server) >= SERVICES
        store.reads.set()
        await anyio.wait_all_tasks_blocked()
        for peer in peers:
            peer.leave()
        await anyio.sleep(2)

        assert keepers(server) == set()
        assert server._hub.conversation_ids() == []
        assert server._committer.load == 0


async def test_a_session_that_is_owed_nothing_takes_no_memory_of_the_pages_it_had() -> None:
    async with serving(SlowReads()) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        assert "Sync" not in keepers(server)

        ann.say(*({"event": "SYNC", "conversationId": conversation, "lastSeq": 0} for _ in range(5)))
        assert "Sync" in keepers(server)
        for _ in range(5):
            await ann.hear("SYNC_PAGE")
        await anyio.wait_all_tasks_blocked()
        assert "Sync" not in keepers(server)


async def test_work_that_ends_after_its_session_leaves_nothing_behind() -> None:
    store, allowed = SlowReads(), anyio.Event()

    async def authenticate(token: str) -> Identity:
        if token == "slow":
            await allowed.wait()
        return await by_name("ann")

    async with serving(store, authenticate=authenticate) as server:
        conversation = await group(server, "ann", "ben")
        ann, listing, late = await login(server, "ann"), Peer(server), Peer(server)
        store.reads = anyio.Event()
        listing.say({"event": "HELLO", "token": "ann", "deviceId": "listing"})
        late.say({"event": "HELLO", "token": "slow", "deviceId": "late"})
        ann.say({"event": "AUTH_REFRESH", "token": "slow"})
        ann.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 0})
        await anyio.wait_all_tasks_blocked()
        for peer in (ann, listing, late):
            peer.leave()
        store.reads.set()
        allowed.set()
        await anyio.sleep(2)

        assert keepers(server) == set()


async def test_a_command_that_is_answered_after_its_session_leaves_nothing_behind() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        store.failures = 1
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text(conversation, "k2"))
        ann.leave()
        assert "PendingCommand" in keepers(server)
        store.release()
        await anyio.sleep(2)

        assert keepers(server) == set()
        assert server._committer.load == 0


async def test_what_waits_behind_a_refused_send_is_refused_though_the_session_has_ended() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.poisoned = {"k1"}
        store.hold()
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text(conversation, "k2"))
        ann.leave()
        store.release()
        await anyio.wait_all_tasks_blocked()
        store.poisoned = set()
        again = await login(server, "ann")
        again.say(text(conversation, "k1"), text(conversation, "k2"))
        acks = await again.hear("MSG_ACK", "MSG_ACK")

        assert [(it["clientMsgId"], it["seq"]) for it in acks] == [("k1", 2), ("k2", 3)]


@pytest.mark.parametrize("ended", [False, True], ids=["open", "closed meanwhile"])
async def test_who_left_and_came_back_still_sends_first_what_was_refused_first(ended: bool) -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ben = await login(server, "ben")
        await busy(server, ben, conversation)
        ben.say(text(conversation, "k1"))
        (held_back,) = await ben.hear("ERROR")
        await server.remove_member(conversation, "ann", "ben")
        await server.add_members(conversation, "ann", ["ben"])
        if ended:
            ben.leave()
            ben = await login(server, "ben")
        ben.read()
        ben.say({"event": "TYPING", "conversationId": conversation})
        after_typing = ben.read()
        ben.say(text(conversation, "refused"), text(conversation, "k1"))
        acks = await ben.hear("MSG_ACK", "MSG_ACK")

        assert held_back["code"] == "OVERLOADED"
        assert [it["clientMsgId"] for it in acks] == ["refused", "k1"]
        assert [event["code"] for event in after_typing] == ["RATE_LIMITED"]  # the limit is the user's


async def test_what_was_refused_for_now_gets_its_answer_after_leaving() -> None:
    """A rate refuses k1 and a later k3, with the leaving in between: k1 comes first again, and k3 does not stop it."""
    limits = msgspec.structs.replace(Limits(), sends_per_user=Rate(1, 1))
    async with serving(limits=limits) as server:
        conversation = await group(server, "ann", "ben")
        ben = await login(server, "ben")
        ben.say(text(conversation, "k0"), text(conversation, "k1"))
        first = await ben.hear("ERROR", "MSG_ACK")
        await server.remove_member(conversation, "ann", "ben")
        await anyio.wait_all_tasks_blocked()
        ben.read()
        ben.say(text(conversation, "k2"), text(conversation, "k3"))
        held_back = await ben.hear("ERROR", "ERROR")
        answered = []
        for key in ("k1", "k2", "k3"):
            await anyio.sleep(1.1)
            ben.say(text(conversation, key))
            answered += await ben.hear("ERROR")

    assert [it["clientMsgId"] for it in first] == ["k1", "k0"]
    assert {it["code"] for it in held_back} == {"OVERLOADED"}
    assert [(it["clientMsgId"], it["code"]) for it in answered] == [
        ("k1", "NOT_FOUND"),
        ("k2", "NOT_FOUND"),
        ("k3", "NOT_FOUND"),
    ]


class SlowAnswers(GatedStore):
    """Pages are read at once, and answered when they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = anyio.Event()

    async def page(self, *args: Any, **how: Any) -> Page:
        page = await super().page(*args, **how)
        await self.answers.wait()
        return page


async def test_who_was_removed_while_a_page_was_read_gets_no_page() -> None:
    store = SlowAnswers()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ben = await login(server, "ben")
        ben.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 0})
        await anyio.wait_all_tasks_blocked()
        await server.remove_member(conversation, "ann", "ben")
        store.answers.set()
        left, refused = await ben.hear("CONVERSATION", "ERROR")

        assert (left["change"], refused["code"]) == ("LEFT", "NOT_FOUND")
        assert ben.read() == []
