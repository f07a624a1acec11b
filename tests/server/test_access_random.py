"""Random logins and ends of logins on three nodes, whose bus loses, repeats and delays: what is open a second later.

The store says who may be here: a session that lasts holds its device's newest resume token. Who was not reached stays.
"""

from __future__ import annotations

from random import Random
from typing import Any

import anyio
import pytest

from .harness import HarnessServer, Peer
from .nodes import Cluster, cluster, wild

USERS = ("ann", "ben", "cat")
DEVICES = ("phone", "tablet")
QUIET_S = 1.2


class History:
    """What is done, and what must be so a second later."""

    def __init__(self, made: Cluster, seed: int) -> None:
        self._made = made
        self._rng = Random(seed)
        self._peers: list[Peer] = []
        self.ended = 0

    async def round(self) -> None:
        """Some logins and ends at the same moment, on any nodes; then quiet."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._rng.randrange(1, 6)):
                tasks.start_soon(self._rng.choice([self._enter, self._enter, self._end]))
                if self._rng.random() < 0.5:
                    await anyio.sleep(self._rng.random() * 0.01)
        await anyio.sleep(QUIET_S)
        await self._check()

    async def alone(self) -> None:
        """The logins of one user end while nothing else happens: everybody else stays."""
        user = self._rng.choice(USERS)
        others = [peer for peer in self._open() if peer.session.user_id != user]
        await self._node().revoke(user_id=user)
        await anyio.sleep(QUIET_S)

        assert all(peer.session.close_code is None for peer in others)
        assert not [peer for peer in self._open() if peer.session.user_id == user]
        self.ended += 1

    def _node(self) -> HarnessServer:
        return self._rng.choice(self._made.nodes)

    def _open(self) -> list[Peer]:
        return [it for it in self._peers if it.session.identity is not None and it.session.close_code is None]

    async def _enter(self) -> None:
        peer = Peer(self._node())
        self._peers.append(peer)
        user, device = self._rng.choice(USERS), self._rng.choice(DEVICES)
        peer.say({"event": "HELLO", "token": f"{user}/", "deviceId": device})
        await anyio.sleep(0)

    async def _end(self) -> None:
        node, user = self._node(), self._rng.choice(USERS)
        ends: list[Any] = [
            lambda: node.revoke(user_id=user),
            lambda: node.revoke(user_id=user, device_id=self._rng.choice(DEVICES)),
            lambda: node.disconnect(user),
            lambda: node.ban(user),
            lambda: node.unban(user),
        ]
        await self._rng.choice(ends)()

    async def _check(self) -> None:
        """Every session that lasts is of a login that holds."""
        sessions = [peer.session for peer in self._open()]
        newest = await self._made.store.resume_hashes([(it.user_id, it.device_id) for it in sessions])
        banned = {
            it.user_id
            for it in await self._made.store.revocations(0, 100)
            if it.kind == "BANNED" and it.holds
        }
        for session in sessions:
            kept = newest.get((session.user_id, session.device_id))
            assert kept is not None, "its login was revoked"
            assert session.user_id not in banned
        for peer in self._peers:
            peer.read()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(15))
async def test_only_logins_that_hold_last(kind: str, seed: int) -> None:
    async with cluster(kind, 3, heartbeat_s=1_000.0, heads_check_s=1_000.0) as made:
        made.bus.fate = wild(seed, lost=0.6, doubled=0.3, delay_s=0.4)
        history = History(made, seed)
        for _ in range(12):
            await history.round()
            await history.alone()
        assert history.ended == 12
