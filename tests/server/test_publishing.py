"""Publishing lets the event loop run, and keeps every order while it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from chatkit.server import committer, receipts
from chatkit.server.cluster import bridge, reconcile
from chatkit.server.live import hub
from chatkit.server.live.fanout import DELIVERIES_PER_TURN
from chatkit.storage.base import Append, Command, Outcome

from .harness import GatedStore, HarnessServer, Peer, group, keys, login, serving, text

GROUP = 500
SENDS = 120
GROWING = "g-1"


class WatchedStore(GatedStore):
    """Notes how far everybody was pushed when a commit began."""

    def __init__(self) -> None:
        super().__init__()
        self.server: HarnessServer | None = None
        self.pushed_at_commit: list[set[int]] = []

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        if self.server is not None and any(isinstance(it, Append) for it in commands):
            self.pushed_at_commit.append({it.session.last_pushed_seq[GROWING] for it in self.server.peers})
        return await super().commit(commands)


@asynccontextmanager
async def large_group(store: WatchedStore) -> AsyncIterator[tuple[HarnessServer, list[Peer]]]:
    """A group of 500 who are all online; the first of them, its creator, has sends that wait for the store."""
    async with serving(store, send_buffer_bytes=16 * 1024 * 1024) as server:
        names = [f"u-{number:03}" for number in range(GROUP)]
        await group(server, *names)
        peers = [await login(server, name) for name in names]
        store.server = server
        store.hold()
        peers[0].say(text(GROWING, "first"))
        await anyio.wait_all_tasks_blocked()
        peers[0].say(*(text(GROWING, f"k{number}") for number in range(SENDS)))
        yield server, peers


class Turns:
    """Another task of the loop: how much was pushed between its turns."""

    def __init__(self, peers: list[Peer]) -> None:
        self._peers = peers
        self.pushed: list[int] = []

    @property
    def total(self) -> int:
        return sum(peer.session.last_pushed_seq[GROWING] for peer in self._peers)

    async def count(self) -> None:
        before = self.total
        while True:
            await checkpoint()
            self.pushed.append(self.total - before)
            before = self.total


def check_order(peers: list[Peer], last_seq: int) -> None:
    """Everybody has every message once, in order: the sender by its acks, the others by pushes."""
    whole = list(range(2, last_seq + 1))
    for peer, kind in [(peers[0], "MSG_ACK"), *((it, "NEW_MSG") for it in peers[1:])]:
        events = peer.read()
        assert [it["seq"] for it in events if it["event"] == kind] == whole
        assert not [it for it in events if it["event"] not in (kind, "GOAWAY")]


async def test_another_task_gets_its_turn_while_a_large_group_is_published_to() -> None:
    store = WatchedStore()
    async with large_group(store) as (_, peers):
        turns = Turns(peers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turns.count)
            await checkpoint()
            store.release()
            while turns.total < GROUP * (SENDS + 2):
                await checkpoint()
            tasks.cancel_scope.cancel()

        assert max(turns.pushed) <= DELIVERIES_PER_TURN + GROUP
        assert sum(it > 0 for it in turns.pushed) > SENDS * GROUP // (DELIVERIES_PER_TURN + GROUP)
        check_order(peers, SENDS + 2)


@pytest.mark.parametrize("bad", [{SENDS}, {0}, {0, SENDS}, {SENDS // 2, SENDS}])
async def test_it_gets_its_turn_too_where_a_send_is_refused(bad: set[int]) -> None:
    store = WatchedStore()
    async with serving(store, send_buffer_bytes=16 * 1024 * 1024) as server:
        names = [f"u-{number:03}" for number in range(GROUP)]
        await group(server, *names)
        peers = [await login(server, name) for name in names]
        store.poisoned = {f"bad-{index}" for index in bad}
        store.hold()
        peers[0].say(text(GROWING, "first"))
        await anyio.wait_all_tasks_blocked()
        for index in range(SENDS + 1):
            if index in bad:
                peers[1].say(text(GROWING, f"bad-{index}"))
            peers[0].say(text(GROWING, f"k{index}"))
        peers[1].say(text(GROWING, "behind"))
        store.poisoned.add("behind")
        turns = Turns(peers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turns.count)
            await checkpoint()
            store.release()
            while turns.total < GROUP * (SENDS + 3):
                await checkpoint()
            for _ in range(3):  # the last turn is counted too
                await checkpoint()
            tasks.cancel_scope.cancel()
        errors = [it["clientMsgId"] for it in peers[1].read() if it["event"] == "ERROR"]

        assert max(turns.pushed) <= DELIVERIES_PER_TURN + GROUP
        assert errors == [*(f"bad-{index}" for index in sorted(bad)), "behind"]
        assert [it["seq"] for it in peers[2].read() if it["event"] == "NEW_MSG"] == list(range(2, SENDS + 4))


async def test_the_next_transaction_begins_when_everything_is_published() -> None:
    store = WatchedStore()
    async with large_group(store) as (_, peers):
        turns = Turns(peers)
        store.release()
        while turns.total <= GROUP * 2:
            await checkpoint()
        assert turns.total < GROUP * (SENDS + 2), "publishing is under way"
        peers[0].say(text(GROWING, "later"))
        await anyio.wait_all_tasks_blocked()

        assert store.pushed_at_commit == [{1}, {2}, {SENDS + 2}]
        check_order(peers, SENDS + 3)


async def test_a_drain_waits_until_everything_is_published() -> None:
    store = WatchedStore()
    async with large_group(store) as (server, peers):
        turns = Turns(peers)
        store.release()
        while turns.total <= GROUP * 2:
            await checkpoint()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            for peer in peers:
                assert await peer.closed() == 1001
            check_order(peers, SENDS + 2)
            for peer in peers:
                peer.leave()


async def test_cancelled_half_way_everything_is_published_all_the_same() -> None:
    store = WatchedStore()
    async with large_group(store) as (server, peers):
        turns = Turns(peers)
        store.release()
        while turns.total <= GROUP * 2:
            await checkpoint()
        server._background.cancel()
        await anyio.wait_all_tasks_blocked()

        check_order(peers, SENDS + 2)


async def test_many_receipts_let_the_loop_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "DELIVERIES_PER_TURN", 3)
    store = GatedStore()
    async with serving(store) as server:
        names = [f"u-{number}" for number in range(20)]
        conversation = await group(server, *names)
        ann, *others = [await login(server, name) for name in names]
        ann.say(text(conversation, "k1"))
        for peer in others:
            await peer.hear("NEW_MSG")
        ann.read()
        store.hold()
        others[0].say({"event": "PING"})
        for peer in others:
            peer.say({"event": "READ", "conversationId": conversation, "upToSeq": 2})
        await anyio.sleep(1)
        store.release()
        heard: list[int] = []
        while sum(heard) < len(others):
            await checkpoint()
            heard.append(sum(it["event"] == "RECEIPT" for it in ann.read()))

        assert max(heard) == 3


class Impatient:
    """A client that sends a numbered stream, and everything again that is refused, as soon as it has read so."""

    def __init__(self, peer: Peer, rng: Random) -> None:
        self._peer = peer
        self._rng = rng
        self.written = 0
        self.unanswered: set[int] = set()
        self.refused: set[int] = set()

    def write(self) -> None:
        for _ in range(self._rng.randrange(4)):
            self.written += 1
            self._send(self.written)

    def react(self) -> None:
        for event in self._peer.read():
            if event["event"] in ("MSG_ACK", "ERROR"):
                number = int(event["clientMsgId"].partition("-")[2])
                self.unanswered.discard(number)
                if event["event"] == "ERROR":
                    assert event["retryable"]
                    self.refused.add(number)
        if self.refused:
            again, self.refused = sorted(self.refused), set()
            for number in again:
                self._send(number)

    def _send(self, number: int) -> None:
        self.unanswered.add(number)
        self._peer.say(text(GROWING, f"{self._peer.session.user_id}-{number}"))


@pytest.mark.parametrize("seed", range(20))
async def test_every_senders_order_survives_whatever_is_refused(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = Random(seed)
    monkeypatch.setattr(committer, "DELIVERIES_PER_TURN", rng.choice((1, 2, 5)))
    monkeypatch.setattr(reconcile, "DELIVERIES_PER_TURN", 1)
    store = RefusingStore(rng)
    async with serving(store, commit_queue_max=rng.choice((3, 8, 1000))) as server:
        conversation = await group(server, "ann", "ben", "cat")
        watcher = await login(server, "cat")
        clients = [Impatient(await login(server, name), rng) for name in ("ann", "ben")]
        store.wild = True
        for _ in range(60):
            for client in clients:
                client.write()
                for _ in range(rng.randrange(4)):
                    await checkpoint()
                client.react()
        store.wild = False
        with anyio.fail_after(60):
            while any(client.unanswered or client.refused for client in clients):
                await anyio.sleep(0.01)
                for client in clients:
                    client.react()
        log = await store.entries(conversation, 1, 1000)
        pushed = [it["seq"] for it in watcher.read() if it["event"] == "NEW_MSG"]

    assert pushed == [entry.seq for entry in log]
    for name, client in zip(("ann", "ben"), clients, strict=True):
        theirs = [it.client_msg_id for it in log if it.sender_id == name]
        assert theirs == [f"{name}-{number}" for number in range(1, client.written + 1)]


class RefusingStore(GatedStore):
    """Takes its time, and refuses single sends and whole batches."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self.wild = False

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        for _ in range(self._rng.randrange(3)):
            await checkpoint()
        self.poisoned = set()
        if self.wild and self._rng.random() < 0.2:
            self.failures = 1
        elif self.wild and self._rng.random() < 0.5:
            batch = keys(commands)
            self.poisoned = poison(batch, self._rng) | poison(batch, self._rng)
        return await super().commit(commands)


def poison(batch: list[str], rng: Random) -> set[str]:
    """One send of a batch, and with it every later one of the same sender, as the store's contract has it."""
    if not batch:
        return set()
    index = rng.randrange(len(batch))
    sender = batch[index].partition("-")[0]
    return {key for key in batch[index:] if key.partition("-")[0] == sender}


def test_nothing_here_is_left_out() -> None:
    everywhere: list[Any] = [bridge, committer, hub, reconcile, receipts]
    assert {module.DELIVERIES_PER_TURN for module in everywhere} == {DELIVERIES_PER_TURN}
