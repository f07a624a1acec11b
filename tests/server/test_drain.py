"""A drain: clients are sent away a few at a time, those who still stay are served, and nobody new is taken in."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from chatkit.errors import ConfigurationError
from chatkit.server.config import ServerConfig

from .harness import GatedStore, HarnessServer, Peer, group, login, serving, text

MANY = 400
LONGEST_S = 60.0


class Clients:
    """Peers that hang up when they are closed.

    Attributes:
        told_s: When each was told to leave, from the beginning of the drain.
        codes: How each was closed.
    """

    def __init__(self, server: HarnessServer, peers: list[Peer]) -> None:
        self.server = server
        self.peers = peers
        self.told_s: list[float] = []
        self.codes: Counter[int | None] = Counter()
        self.began_s = anyio.current_time()

    async def follow(self) -> None:
        staying = list(self.peers)
        while staying:
            await anyio.sleep(0.05)
            self.told_s += [self._now_s()] * sum(
                event["event"] == "GOAWAY" for peer in staying for event in peer.read()
            )
            for peer in [it for it in staying if it.session.close_code is not None]:
                staying.remove(peer)
                self.codes[peer.session.close_code] += 1
                peer.leave()

    def _now_s(self) -> float:
        return anyio.current_time() - self.began_s


@asynccontextmanager
async def draining(server: HarnessServer, peers: list[Peer]) -> AsyncIterator[Clients]:
    """A drain that has begun; at the end of the block it has ended."""
    clients = Clients(server, peers)
    with anyio.fail_after(LONGEST_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clients.follow)
            tasks.start_soon(server.drain)
            await anyio.sleep(0.01)
            yield clients


async def crowd(server: HarnessServer, count: int) -> list[Peer]:
    return [await login(server, f"u-{number}") for number in range(count)]


async def test_clients_are_sent_away_over_the_spread_and_each_is_told_once() -> None:
    async with serving(drain_spread_s=5.0) as server:
        async with draining(server, await crowd(server, MANY)) as clients:
            pass

        assert len(clients.told_s) == MANY
        assert clients.codes == {1001: MANY}
        in_second = Counter(int(told_s) for told_s in clients.told_s)
        assert max(in_second.values()) <= 200 + 20, "at least twenty in a tenth of a second"
        assert max(clients.told_s) < 5.5


async def test_a_larger_crowd_takes_the_whole_spread_and_no_second_gets_more_than_its_part() -> None:
    async with serving(drain_spread_s=10.0, drain_timeout_s=20.0) as server:
        async with draining(server, await crowd(server, 4_000)) as clients:
            pass

        in_second = Counter(int(told_s) for told_s in clients.told_s)
        assert sorted(in_second) == list(range(10))
        assert max(in_second.values()) <= 1.2 * 400


@pytest.mark.parametrize(("count", "spread_s"), [(20, 5.0), (MANY, 0.0)])
async def test_a_few_and_all_if_wanted_leave_at_once(count: int, spread_s: float) -> None:
    async with serving(drain_spread_s=spread_s) as server:
        async with draining(server, await crowd(server, count)) as clients:
            pass
        assert max(clients.told_s) < 0.2


async def test_who_has_not_been_told_to_leave_is_served() -> None:
    async with serving(drain_spread_s=5.0) as server:
        conversation = await group(server, "ann", "ben")
        peers = await crowd(server, MANY)
        ann, ben = await login(server, "ann"), await login(server, "ben")
        async with draining(server, peers) as clients:
            ann.say(text(conversation, "k1"))
            await ann.hear("MSG_ACK")
            await ben.hear("NEW_MSG")
            assert not server.ready
            await server.send(conversation, "ben", "by HTTP", client_msg_id="k2")
            await ann.hear("NEW_MSG", "GOAWAY")
            assert clients.codes[1001] > 0.8 * MANY, "the newest go last"
            await ann.closed()
            for peer in (ann, ben):
                peer.leave()


async def test_what_was_accepted_is_answered_and_nothing_more_is_taken() -> None:
    """Also where others go on to write: the wait is for those who leave, not for an empty queue."""
    store = GatedStore()
    async with serving(store, drain_spread_s=5.0) as server:
        conversation = await group(server, "ann", "ben")
        ann, peers = await login(server, "ann"), await crowd(server, MANY)
        store.hold()
        ann.say(text(conversation, "k1"))
        async with draining(server, peers):
            await ann.hear("GOAWAY")
            ann.say(text(conversation, "k2"))
            (refused,) = await ann.hear("ERROR")
            assert ann.session.close_code is None, "its answer is not out"
            store.release()
            (ack,) = await ann.hear("MSG_ACK")
            assert await ann.closed() == 1001
            ann.leave()

        assert (refused["code"], refused["retryable"], refused["clientMsgId"]) == ("UNAVAILABLE", True, "k2")
        assert ack["clientMsgId"] == "k1"


async def test_nobody_new_is_taken_in_and_each_hears_when_to_come_back() -> None:
    async with serving(drain_spread_s=5.0, reconnect_after_s=2.5) as server:
        peers, connected = await crowd(server, MANY), Peer(server)
        async with draining(server, peers) as clients:
            for stranger in (connected, Peer(server)):
                (goaway,) = await stranger.hear("GOAWAY")
                assert goaway == {"event": "GOAWAY", "reason": "drain", "reconnectAfterMs": 2_500}
                assert await stranger.closed() == 1001
                stranger.leave()
            assert clients.codes[1001] < 0.2 * MANY


async def test_who_logs_in_while_the_drain_begins_is_sent_away_like_the_others() -> None:
    store = GatedStore()
    async with serving(store, drain_spread_s=1.0) as server:
        late = Peer(server)
        store.hold()
        late.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        await anyio.wait_all_tasks_blocked()
        async with draining(server, [late]) as clients:
            await anyio.sleep(0.1)
            store.release()
        assert clients.codes == {1001: 1}


async def test_a_store_that_hangs_holds_a_drain_for_a_bounded_time() -> None:
    store = GatedStore()
    async with serving(store, drain_spread_s=2.0, drain_timeout_s=3.0) as server:
        conversation = await group(server, "u-0", "u-1")
        peers = await crowd(server, MANY)
        store.hold()
        peers[0].say(text(conversation, "k1"))
        async with draining(server, peers) as clients:
            pass
        assert clients.codes == {1001: MANY}
        assert 5.0 <= clients._now_s() < 5.5
        store.release()


async def test_a_spread_is_never_longer_than_the_deadline() -> None:
    async with serving(drain_spread_s=60.0, drain_timeout_s=1.0) as server:
        async with draining(server, await crowd(server, MANY)) as clients:
            pass
        assert max(clients.told_s) < 1.2


def test_a_spread_below_zero_is_no_setting() -> None:
    with pytest.raises(ConfigurationError, match="drain_spread_s"):
        ServerConfig(drain_spread_s=-1.0)
