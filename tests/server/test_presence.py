"""Presence: who is told that somebody came, went away or left, on one node and on several, and who is not."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit.errors import ConfigurationError, ForbiddenError, UnavailableError
from chatkit.server.config import ServerConfig
from chatkit.server.live.availability import EACH_S, OFFLINE_AFTER_S
from chatkit.server.presence import LEASE_S, RENEW_S, TICK_S
from chatkit.wire.codec import MSGPACK

from .harness import GatedStore, HarnessServer, Peer, by_name, group, login, serving
from .nodes import FatefulBus, SharedStore, cluster, make_store, never, node

SOON_S = 2.5 * TICK_S  # one tick here, one at another node
ON: dict[str, Any] = {"presence": True, "heartbeat_s": 1_000.0}
"""Peers of these tests send nothing, and are not closed for it."""

GONE_S = OFFLINE_AFTER_S + SOON_S


async def told(peer: Peer, seconds: float = SOON_S) -> list[tuple[str, str]]:
    """Of whom a peer is told what, a while later."""
    await anyio.sleep(seconds)
    return [(it["userId"], it["state"]) for it in peer.read() if it["event"] == "PRESENCE"]


def away(state: str = "AWAY") -> dict[str, Any]:
    return {"event": "PRESENCE", "state": state}


async def states(server: HarnessServer, user_id: str, *others: str) -> dict[str, str]:
    return {it.user_id: it.state for it in await server.presence.of(user_id, others)}


# --- one node ---


async def test_a_contact_is_told_of_coming_going_away_and_leaving() -> None:
    async with serving(**ON) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann", codec=MSGPACK)
        ben = await login(server, "ben")
        assert await told(ann) == [("ben", "ONLINE")]
        await anyio.sleep(EACH_S)
        ben.say(away())
        assert await told(ann) == [("ben", "AWAY")]
        await anyio.sleep(EACH_S)
        ben.say(away("ONLINE"))
        assert await told(ann) == [("ben", "ONLINE")]
        left_ms = server.ports.clock.now_ms()
        ben.leave()
        assert await told(ann, OFFLINE_AFTER_S - TICK_S) == [], "he may come back"
        await anyio.sleep(SOON_S)
        (push,) = [it for it in ann.read() if it["event"] == "PRESENCE"]

        assert (push["userId"], push["state"]) == ("ben", "OFFLINE")
        assert left_ms <= push["lastSeenTs"] <= left_ms + 1_000 * SOON_S


async def test_who_reconnects_is_not_told_of() -> None:
    async with serving(**ON) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        await told(ann)
        for _ in range(3):
            ben.leave()
            await anyio.sleep(OFFLINE_AFTER_S / 2)
            ben = await login(server, "ben")
            assert await told(ann) == []
        assert await told(ann, GONE_S) == []


async def test_of_several_devices_one_is_enough() -> None:
    async with serving(**ON) as server:
        await group(server, "ann", "ben")
        ann, phone = await login(server, "ann"), await login(server, "ben")
        tablet = await login(server, "ben", "tablet")
        assert await told(ann) == [("ben", "ONLINE")]
        phone.say(away())
        assert await told(ann, EACH_S + SOON_S) == [], "he is at the tablet"
        tablet.leave()
        assert await told(ann) == [("ben", "AWAY")]
        phone.leave()
        assert await told(ann, GONE_S) == [("ben", "OFFLINE")]


async def test_a_state_that_changes_quickly_is_told_seldom_and_the_last_one_in_the_end() -> None:
    async with serving(**ON) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        await told(ann)
        heard = []
        for turn in range(41):
            ben.say(away("AWAY" if turn % 2 == 0 else "ONLINE"))
            heard += await told(ann, 0.5)
        heard += await told(ann, EACH_S)

        assert 1 <= len(heard) <= 1 + 25 / EACH_S
        assert heard[-1] == ("ben", "AWAY")


async def test_only_contacts_are_told_and_may_ask() -> None:
    """Who shares no conversation, or a large one only, or was blocked, learns nothing; nor does one who left."""
    async with serving(**ON, presence_members_max=3) as server:
        await group(server, "ben", "ann", "bad", conversation_id="small")
        await group(server, "ben", "big", "b1", "b2", conversation_id="large")
        await group(server, "ben", "gone", conversation_id="left")
        await server.remove_member("left", None, "gone")
        await server.block("ben", "bad")
        names = ("ann", "bad", "big", "gone", "eve")
        peers = {name: await login(server, name) for name in names}
        await anyio.sleep(SOON_S)
        for peer in peers.values():
            peer.read()
        ben = await login(server, "ben")
        await anyio.sleep(SOON_S)
        heard = {name: await told(peer, 0) for name, peer in peers.items()}

        assert heard == {"ann": [("ben", "ONLINE")], "bad": [], "big": [], "gone": [], "eve": []}
        asked = {name: await states(server, name, "ben", "nobody") for name in names}
        assert asked == {"ann": {"ben": "ONLINE"}, "bad": {}, "big": {}, "gone": {}, "eve": {}}
        assert sorted(await told(ben)) == []
        assert await states(server, "ben", *names) == {"ann": "ONLINE", "bad": "ONLINE"}


async def test_who_asks_hears_when_somebody_was_last_seen() -> None:
    async with serving(**ON) as server:
        await group(server, "ann", "ben", "cat", "dan")
        ben, dan = await login(server, "ben"), await login(server, "dan")
        await anyio.sleep(100)
        left_ms = server.ports.clock.now_ms()
        ben.leave()
        await anyio.sleep(SOON_S)
        found = await server.presence.of("ann", ["dan", "ben", "cat", "ben"])

        assert [(it.user_id, it.state) for it in found] == [
            ("dan", "ONLINE"),
            ("ben", "OFFLINE"),
            ("cat", "OFFLINE"),
        ]
        seen = {it.user_id: it.last_seen_ts for it in found}
        assert seen["dan"] is seen["cat"] is None
        assert seen["ben"] is not None and left_ms <= seen["ben"] <= left_ms + 1_000 * SOON_S
        assert dan.session.close_code is None


async def test_what_storage_refuses_to_say_is_told_later() -> None:
    store = GatedStore()
    async with serving(store, **ON) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        contacts, refusals = store.contacts, [1, 1, 1]

        async def refuse_first(*args: Any) -> Any:
            if refusals:
                refusals.pop()
                raise UnavailableError("the disk refuses", retry_after_s=0.5)
            return await contacts(*args)

        store.contacts = refuse_first  # type: ignore[method-assign]
        await login(server, "ben")
        assert await told(ann, 2 * SOON_S + TICK_S) == [("ben", "ONLINE")]
        assert refusals == []


async def test_a_full_buffer_drops_what_may_be_asked_for() -> None:
    async with serving(**ON, send_buffer_bytes=1_000) as server:
        names = [f"friend-{number}" for number in range(40)]
        await group(server, "ann", *names)
        ann = await login(server, "ann")
        for name in names:
            await login(server, name)
        await anyio.sleep(SOON_S)

        assert 0 < len(await told(ann, 0)) < len(names)
        assert ann.session.close_code is None
        asked = await states(server, "ann", *names)
        assert set(asked.values()) == {"ONLINE"}


async def test_it_is_off_unless_the_host_says_so() -> None:
    async with serving() as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ben.say({**away(), "ref": "p"})
        (refused,) = await ben.hear("ERROR")

        assert (refused["code"], refused["ref"], refused["retryable"]) == ("FORBIDDEN", "p", False)
        assert await told(ann, GONE_S) == []
        with pytest.raises(ForbiddenError):
            await server.presence.of("ann", ["ben"])


def test_a_store_that_knows_nobodys_contacts_is_refused_at_once() -> None:
    class Plain:
        def commit(self) -> None: ...

    with pytest.raises(ConfigurationError, match="ContactReader"):
        HarnessServer(store=Plain(), authenticate=by_name, config=ServerConfig(presence=True))


# --- several nodes ---


async def test_contacts_on_other_nodes_are_told_and_any_node_may_be_asked() -> None:
    async with cluster("memory", 3, **ON) as made:
        a, b, c = made.nodes
        await group(a, "ann", "ben")
        ann, ben = await login(a, "ann"), await login(b, "ben")
        assert await told(ann) == [("ben", "ONLINE")]
        assert await told(ben, 0) == [("ann", "ONLINE")]
        assert await states(c, "ann", "ben") == {"ben": "ONLINE"}
        await anyio.sleep(EACH_S)
        ben.say(away())
        assert await told(ann) == [("ben", "AWAY")]
        tablet = await login(c, "ben", "tablet")
        assert await told(ann, EACH_S) == [("ben", "ONLINE")]
        tablet.leave()
        assert await told(ann, EACH_S + SOON_S) == [("ben", "AWAY")]
        ben.leave()
        assert await told(ann, GONE_S) == [("ben", "OFFLINE")]


async def test_who_moves_to_another_node_was_never_away() -> None:
    async with cluster("memory", 3, **ON) as made:
        await group(made.nodes[0], "ann", "ben")
        ann = await login(made.nodes[0], "ann")
        heard = []
        for turn in range(4):
            ben = await login(made.nodes[1 + turn % 2], "ben")
            heard += await told(ann, EACH_S)
            ben.leave()
            await anyio.sleep(1.0)
        assert heard == [("ben", "ONLINE")]


async def test_a_change_whose_message_was_lost_is_told_with_the_next_renewal() -> None:
    async with cluster("memory", 2, **ON) as made:
        a, b = made.nodes
        await group(a, "ann", "ben")
        ann = await login(a, "ann")
        await anyio.sleep(LEASE_S)
        made.bus.fate = never
        ben = await login(b, "ben")
        assert await told(ann) == []
        made.bus.fate = lambda member, message: (0.0,)
        assert await told(ann, RENEW_S + SOON_S) == [("ben", "ONLINE")]
        made.bus.fate = never
        ben.leave()
        assert await told(ann, LEASE_S) == []
        assert await told(ann, RENEW_S + GONE_S) == [("ben", "OFFLINE")], "his lease has ended"


async def test_the_users_of_a_node_that_dies_go_offline_when_its_lease_ends() -> None:
    store = SharedStore(make_store("memory"))
    async with anyio.create_task_group() as tasks:
        bus = FatefulBus(tasks)
        async with node(store, bus.join(), **ON) as alive:
            dying = bus.join()
            async with node(store, dying, **ON) as dead:
                await group(alive, "ann", "ben", "cat")
                ann = await login(alive, "ann")
                await login(dead, "ben")
                await login(dead, "cat")
                assert sorted(await told(ann)) == [("ben", "ONLINE"), ("cat", "ONLINE")]
                dying.leave()  # from here on nobody hears of it
                await anyio.sleep(EACH_S)
                moved = await login(alive, "cat")
                heard = await told(ann, LEASE_S + RENEW_S + GONE_S)

        assert heard == [("ben", "OFFLINE")]
        assert await states(alive, "ann", "ben", "cat") == {"ben": "OFFLINE", "cat": "ONLINE"}
        assert moved.session.user_id == "cat"
        tasks.cancel_scope.cancel()
    await store.inner.aclose()


async def test_a_node_that_starts_tells_nobody_what_the_others_have_told() -> None:
    store = SharedStore(make_store("memory"))
    async with anyio.create_task_group() as tasks:
        bus = FatefulBus(tasks)
        async with node(store, bus.join(), **ON) as old:
            await group(old, "ann", "ben")
            await login(old, "ben")
            await anyio.sleep(LEASE_S)
            async with node(store, bus.join(), **ON) as new:
                ann = await login(new, "ann")
                assert await states(new, "ann", "ben") == {"ben": "OFFLINE"}, "it has not heard yet"
                assert await told(ann, RENEW_S + SOON_S) == []
                assert await states(new, "ann", "ben") == {"ben": "ONLINE"}
        tasks.cancel_scope.cancel()
    await store.inner.aclose()


async def test_what_is_said_of_many_users_fits_the_bus() -> None:
    async with cluster("memory", 2, **ON) as made:
        a, b = made.nodes
        names = [f"user-{number:03}-{'x' * 100}" for number in range(300)]
        for name in names:
            await login(a, name)
        sizes: list[int] = []

        def fate(member: object, message: Any) -> tuple[float, ...]:
            sizes.append(len(message.data))
            return (0.0,)

        made.bus.fate = fate
        await anyio.sleep(RENEW_S + SOON_S)

        assert max(sizes) < 1_000_000
        await group(b, "ann", *names[:3])
        assert set((await states(b, "ann", *names[:3])).values()) == {"ONLINE"}
