"""Three nodes on one log: what one of them does to a session or a membership holds on all of them, and how soon.

Within `SOON_S` while the bus works. When it loses everything: revocations all the same, for they are read twice a
second; replaced sessions and removals within `LOOK_S`, the interval of the looks at the store and a margin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from chatkit.errors import NotFoundError

from .harness import HarnessServer, Peer, group, login
from .nodes import Cluster, Fate, at_once, cluster, never, seqs

SOON_S = 1.0
LOOK_S = 3.5

FATES = {"bus works": (at_once, SOON_S), "bus loses all": (never, LOOK_S)}
FATED = pytest.mark.parametrize(("fate", "within_s"), FATES.values(), ids=FATES)

End = Callable[[HarnessServer], Awaitable[None]]
ENDS: dict[str, tuple[End, int, set[str]]] = {
    "user": (lambda it: it.revoke(user_id="ann"), 4101, {"phone", "tablet"}),
    "device": (lambda it: it.revoke(user_id="ann", device_id="phone"), 4101, {"phone"}),
    "token": (lambda it: it.revoke(token="ann/phone"), 4101, {"phone"}),
    "ban": (lambda it: it.ban("ann"), 4202, {"phone", "tablet"}),
}


async def enter(server: HarnessServer, user_id: str, device_id: str) -> Peer:
    peer = Peer(server)
    peer.say({"event": "HELLO", "token": f"{user_id}/{device_id}", "deviceId": device_id})
    await peer.hear("WELCOME", "HEADS")
    return peer


def codes(peers: list[Peer]) -> list[int | None]:
    return [peer.session.close_code for peer in peers]


@FATED
async def test_of_one_device_the_newest_session_is_left_whichever_nodes_they_are_on(
    fate: Fate, within_s: float
) -> None:
    """It goes round twice, so that a node has an older and a newer one of it in turn."""
    async with cluster("memory", 3) as three:
        three.bus.fate = fate
        bystander = await login(three.nodes[0], "ben")
        newest = await login(three.nodes[0], "ann")
        for turn in range(1, 7):
            older, newest = newest, await login(three.nodes[turn % 3], "ann")
            await anyio.sleep(within_s)
            assert codes([older, newest, bystander]) == [4201, None, None]


@pytest.mark.parametrize("delay_s", [0.5, 2.9, 10.0])
async def test_which_session_is_newer_is_said_by_the_store_and_not_by_late_messages(delay_s: float) -> None:
    async with cluster("memory", 3) as three:
        three.bus.fate = lambda member, message: (delay_s, 2 * delay_s)
        three.nodes[1].ports.clock.ahead_ms = -3_600_000  # type: ignore[attr-defined]
        peers = [await login(three.nodes[turn % 3], "ann") for turn in range(5)]
        await anyio.sleep(2 * delay_s + LOOK_S)

        assert codes(peers) == [4201, 4201, 4201, 4201, None]


@FATED
@pytest.mark.parametrize("name", ENDS)
async def test_a_login_that_ends_on_one_node_ends_on_all(name: str, fate: Fate, within_s: float) -> None:
    end, code, reached = ENDS[name]
    async with cluster("memory", 3) as three:
        three.bus.fate = fate
        peers = [
            (device, await enter(node, "ann", device))
            for device, node in zip(("phone", "tablet"), three.nodes[1:], strict=True)
        ]
        ben = await login(three.nodes[2], "ben")
        await end(three.nodes[0])
        await anyio.sleep(SOON_S)

        assert [peer.session.close_code for _, peer in peers] == [
            code if device in reached else None for device, _ in peers
        ]
        assert ben.session.close_code is None


class Membership:
    """A group of three users, each online on a node of their own; ben is to be removed."""

    def __init__(self, three: Cluster, peers: dict[str, Peer]) -> None:
        self.nodes = three.nodes
        self.bus = three.bus
        self.peers = peers

    @classmethod
    async def made(cls, three: Cluster) -> Membership:
        await group(three.nodes[0], "ann", "ben", "cat")
        names = zip(("ann", "ben", "cat"), three.nodes, strict=True)
        peers = {name: await login(node, name) for name, node in names}
        await anyio.sleep(SOON_S)
        for peer in peers.values():
            peer.read()
        return cls(three, peers)

    async def heard(self, seconds: float) -> list[dict[str, Any]]:
        """What ben is sent meanwhile."""
        await anyio.sleep(seconds)
        return self.peers["ben"].read()


@FATED
async def test_who_is_removed_is_out_on_every_node(fate: Fate, within_s: float) -> None:
    async with cluster("memory", 3) as three:
        it = await Membership.made(three)
        it.bus.fate = fate
        await it.nodes[0].remove_member("g-1", "ann", "ben")
        await it.nodes[2].send("g-1", "cat", "after", client_msg_id="k1")
        it.peers["cat"].say({"event": "TYPING", "conversationId": "g-1"})
        heard = await it.heard(within_s)

        assert [event["change"] for event in heard if event["event"] == "CONVERSATION"] == ["LEFT"]
        assert seqs(heard, "g-1") == []
        it.peers["cat"].say({"event": "TYPING", "conversationId": "g-1"})
        await it.nodes[0].send("g-1", "ann", "later", client_msg_id="k2")
        assert await it.heard(within_s) == []
        assert seqs(it.peers["cat"].read(), "g-1") == [2, 3, 4], "the others miss nothing"


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_whichever_messages_come_nothing_from_after_a_removal_does(lost: int) -> None:
    """Some nodes hear all, ben's hears what is sent and not the removal, or the other way round."""
    async with cluster("memory", 3) as three:
        it = await Membership.made(three)
        turn = 0

        def fate(member: object, message: object) -> tuple[float, ...]:
            nonlocal turn
            turn += 1
            return () if turn % 3 == lost else (0.1 * (turn % 4),)

        it.bus.fate = fate
        await it.nodes[0].send("g-1", "ann", "before", client_msg_id="k0")
        await it.nodes[0].remove_member("g-1", "ann", "ben")
        for number in range(1, 7):
            await it.nodes[number % 3].send("g-1", "cat", "after", client_msg_id=f"k{number}")
        heard = await it.heard(LOOK_S)

        assert seqs(heard, "g-1") == [2]
        assert [event["change"] for event in heard if event["event"] == "CONVERSATION"] == ["LEFT"]


async def test_a_removed_member_is_refused_by_every_node_at_once() -> None:
    """Whatever a node believes: the store judges each command and each read."""
    async with cluster("memory", 3) as three:
        it = await Membership.made(three)
        it.bus.fate = never
        await it.nodes[0].remove_member("g-1", "ann", "ben")
        for number, node in enumerate(it.nodes):
            with pytest.raises(NotFoundError):
                await node.send("g-1", "ben", "still here?", client_msg_id=f"b{number}")
        it.peers["ben"].say({"event": "SYNC", "conversationId": "g-1", "lastSeq": 0, "ref": "s"})
        (error,) = await it.peers["ben"].hear("ERROR")
        assert (error["code"], error["ref"]) == ("NOT_FOUND", "s")
