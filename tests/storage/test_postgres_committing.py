"""A server's batches side by side on a real PostgreSQL: rows that somebody holds, connections that are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import anyio
import asyncpg
import pytest

from chatkit.drivers.postgres import Deadlines
from chatkit.errors import UnavailableError
from chatkit.server import committer
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore
from tests.server.harness import HarnessServer, Peer, by_name, group, login, text
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids
from .test_postgres_nodes import hold, name_of


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


class NotingStore(PostgresStore):
    """Notes how many batches were under way at the same time."""

    under_way = most = 0

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().commit(commands)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def chatting(address: str, lock_s: float) -> AsyncIterator[tuple[HarnessServer, NotingStore]]:
    """A server on this database."""
    store = NotingStore(address, ids=seeded_ids(), deadlines=Deadlines(lock_s=lock_s))
    config = ServerConfig(limits=Limits.unlimited())
    async with HarnessServer(store=store, authenticate=by_name, config=config) as chat:
        yield chat, store


async def test_a_held_conversation_stops_nobody_else(server: PostgresServer) -> None:
    address = server.new_database()
    async with chatting(address, lock_s=1.0) as (chat, _):
        for name in "gh":
            await group(chat, "ann", "ben", conversation_id=name)
        ann, ben = await login(chat, "ann"), await login(chat, "ben")
        other = await hold(address, "g")
        ann.say(text("g", "a1"))
        while not chat._committer._in_flight:
            await anyio.sleep(0.001)
        for turn in range(3):
            ben.say(text("h", f"b{turn}"))
            await ben.hear("MSG_ACK")
        assert [it.commands[0].command.client_msg_id for it in chat._committer._in_flight] == ["a1"]  # type: ignore[union-attr]
        ann.say(text("g", "a2"))
        refused = await ann.hear("ERROR", "ERROR")
        assert [(it["clientMsgId"], it["retryable"]) for it in refused] == [("a1", True), ("a2", True)]
        assert {it["code"] for it in refused} == {"UNAVAILABLE", "OVERLOADED"}  # the second one is held back
        assert all(it["retryAfterMs"] > 0 for it in refused)

        await other.close()
        ann.say(text("g", "a1"), text("g", "a2"))
        assert [it["seq"] for it in await ann.hear("MSG_ACK", "MSG_ACK")] == [2, 3]


async def test_a_failover_loses_nothing_that_was_acknowledged(server: PostgresServer) -> None:
    """A synchronous standby, the first server killed in the middle of work, and an address with both of them."""
    with serving() as first, serving(first) as standby:
        first.query("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
        first.query("postgres", "SELECT pg_reload_conf()")
        while first.query("postgres", "SELECT sync_state FROM pg_stat_replication") != "sync":
            await anyio.sleep(0.01)
        name = name_of(first.new_database())
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{standby.port}"
        address = f"postgresql://chatkit@{hosts}/{name}?sslmode=disable"
        with pytest.raises(UnavailableError):  # a standby alone takes nothing
            await PostgresStore(standby.address("postgres"), ids=seeded_ids()).migrate()
        names = ["g", "h"]
        async with chatting(address, lock_s=1.0) as (chat, store):
            for conversation in names:
                await group(chat, "ann", "ben", "cat", conversation_id=conversation)
            writers = {it: Writer(await login(chat, it), names, Random(it)) for it in ("ann", "ben", "cat")}
            async with anyio.create_task_group() as tasks:
                for writer in writers.values():
                    tasks.start_soon(writer.write, 150)
                while sum(len(it.acked) for it in writers.values()) < 100:
                    await anyio.sleep(0.005)
                first.kill()
                while store.healthy:
                    await anyio.sleep(0.005)
                await anyio.sleep(0.1)  # answers that had arrived
                before = {user_id: dict(it.acked) for user_id, it in writers.items()}
                await anyio.sleep(0.2)
                assert {user_id: dict(it.acked) for user_id, it in writers.items()} == before
                await anyio.to_thread.run_sync(standby.promote)
            assert store.healthy
            logs = {conversation: await store.entries(conversation, 1, 10_000) for conversation in names}

    assert 100 <= sum(map(len, before.values())) < 450
    check_logs(logs, writers)


class Writer:
    """A client that has a few numbered sends under way in each conversation, and sends again what is refused."""

    def __init__(self, peer: Peer, conversations: Sequence[str], rng: Random) -> None:
        self._peer = peer
        self._rng = rng
        self.written = dict.fromkeys(conversations, 0)
        self.acked: dict[str, int] = {}
        self._unanswered: set[str] = set()

    async def write(self, count: int) -> None:
        """Until everything is answered."""
        while count or self._unanswered:
            if count and len(self._unanswered) < 8:
                count -= 1
                name = self._rng.choice(list(self.written))
                self.written[name] += 1
                self._send(f"{name}/{self.written[name]}")
            await anyio.sleep(0.002)
            self._react()

    def _react(self) -> None:
        refused = []
        for event in self._peer.read():
            if event["event"] not in ("MSG_ACK", "ERROR"):
                continue
            key = event["clientMsgId"]
            self._unanswered.discard(key)
            if event["event"] == "MSG_ACK":
                assert self.acked.setdefault(key, event["seq"]) == event["seq"]
            else:
                assert event["retryable"], event
                refused.append(key)
        for key in sorted(refused, key=lambda it: int(it.partition("/")[2])):
            self._send(key)

    def _send(self, key: str) -> None:
        self._unanswered.add(key)
        self._peer.say(text(key.partition("/")[0], key))


async def trouble(address: str, names: Sequence[str], rng: Random, over: anyio.Event) -> None:
    """Hold rows for a while, and end sessions of the server, again and again."""
    watcher = await asyncpg.connect(address)
    while not over.is_set():
        holder = await hold(address, *rng.sample(list(names), 2))
        await anyio.sleep(rng.choice((0.01, 0.05, 0.3)))
        await watcher.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> ALL ($1) ORDER BY random() LIMIT 1",
            [watcher.get_server_pid(), holder.get_server_pid()],
        )
        await holder.close()
        await anyio.sleep(rng.random() * 0.05)
    await watcher.close()


@pytest.mark.parametrize("seed", range(2))
async def test_order_and_one_row_each_survive_held_rows_and_cut_connections(
    server: PostgresServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "SLOW_S", 0.005)
    rng, address, names = Random(seed), server.new_database(), [f"g{n}" for n in range(5)]
    async with chatting(address, lock_s=0.1) as (chat, store):
        for name in names:
            await group(chat, "ann", "ben", "cat", conversation_id=name)
        writers = {it: Writer(await login(chat, it), names, Random(it)) for it in ("ann", "ben", "cat")}
        over = anyio.Event()
        async with anyio.create_task_group() as troubling:
            troubling.start_soon(trouble, address, names, rng, over)
            async with anyio.create_task_group() as tasks:
                for writer in writers.values():
                    tasks.start_soon(writer.write, 150)
            over.set()
        logs = {name: await store.entries(name, 1, 10_000) for name in names}

    assert store.most > 1
    check_logs(logs, writers)


def check_logs(logs: dict[str, list[base.Entry]], writers: dict[str, Writer]) -> None:
    """Each log is whole; of everybody it has each message once, in order, under the seq that was acknowledged."""
    for name, log in logs.items():
        assert all(later.seq == earlier.seq + 1 for earlier, later in pairwise(log))
        for user_id, writer in writers.items():
            theirs = {it.client_msg_id: it.seq for it in log if it.sender_id == user_id}
            assert list(theirs) == [f"{name}/{number}" for number in range(1, writer.written[name] + 1)]
            assert theirs == {key: seq for key, seq in writer.acked.items() if key in theirs}
    assert sum(map(len, logs.values())) == sum(sum(it.written.values()) for it in writers.values())
