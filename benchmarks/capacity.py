"""`python -m benchmarks.capacity [--out FILE]`: what `chatkit capacity --from FILE` reckons with, measured here.

Everything that is measured shares the first core (nodes, PostgreSQL, NATS), the load has the last one. What a command
and a transaction cost is found from two loads, one with large batches and one with the smallest, by the CPU, the
commands and the transactions of each. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.nats import nats_process
from tests.servers.postgres import PostgresServer
from tests.servers.process import running

from chatkit.ports import SystemIds
from chatkit.storage.base import Append, Command, CreateConversation, OpenSession, Store
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.sqlite import SqliteStore

from .measured import database_cpu_s, process_cpu_s
from .node import Node, node
from .pinned import cores
from .postgres import postgres
from .wire_client import connect
from .workloads import Pairs, idle

_NOW = 1_700_000_000_000
_BODY = json.dumps({"type": "TEXT", "text": "x" * 120}, separators=(",", ":")).encode()
STORED, CONVERSATIONS, BATCH = 200_000, 2_000, 250
LOOKS = 200
PINGING, PINGS = 200, 50

Figures = dict[str, float]


@dataclass
class Spent:
    """What ran up in some time: CPU in microseconds by server, and what was done."""

    node_us: float
    database_us: float
    transactions: int
    commands: int
    messages: int


class Measured:
    """PostgreSQL, a database in it, and the nodes on it."""

    def __init__(self, server: PostgresServer, address: str, nodes: list[Node]) -> None:
        self._server = server
        self._nodes = nodes
        self._name = address.partition("?")[0].rpartition("/")[2]

    def so_far(self, pairs: Pairs) -> Spent:
        """All of it since the start."""
        transactions = self._server.query(
            "postgres", f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{self._name}'"
        )
        return Spent(
            1e6 * sum(each.cpu_s() for each in self._nodes),
            1e6 * database_cpu_s(self._server.pid),
            int(transactions),
            pairs.acked + pairs.reads,
            pairs.acked,
        )


async def spent(measured: Measured, pairs: Pairs, seconds: float) -> Spent:
    """What a load costs in some seconds, once it is under way."""
    running_load = asyncio.create_task(pairs.run(1, seconds + 3))
    await asyncio.sleep(3)
    before = measured.so_far(pairs)
    await asyncio.sleep(seconds)
    after = measured.so_far(pairs)
    await running_load
    return Spent(*(getattr(after, name) - getattr(before, name) for name in Spent.__dataclass_fields__))


def prices(large: Spent, small: Spent, of: Callable[[Spent], float]) -> tuple[float, float]:
    """Microseconds of a command and of a transaction: each load is commands at one price, transactions at another."""
    both = large.commands * small.transactions - small.commands * large.transactions
    command = (of(large) * small.transactions - of(small) * large.transactions) / both
    transaction = (large.commands * of(small) - small.commands * of(large)) / both
    return round(command, 1), round(transaction, 1)


def messages(seconds: float) -> Figures:
    """Of a message and its confirmation, at one node and across two."""
    with postgres(shared_buffers="256MB", max_wal_size="4GB") as server, ExitStack() as stack:
        address = server.new_database()
        with node(storage=address) as one:
            measured = Measured(server, address, [one])
            large = asyncio.run(spent(measured, Pairs(one, 100, 16, "l"), seconds))
            small = asyncio.run(spent(measured, Pairs(one, 1, 1, "s"), seconds))
        server_command, server_transaction = prices(large, small, lambda it: it.node_us)
        database_command, database_transaction = prices(large, small, lambda it: it.database_us)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        bus = stack.enter_context(running(nats_process(Path(folder))))
        os.sched_setaffinity(bus.pid, {cores()[0]})
        address, bus_address = server.new_database(), f"nats://127.0.0.1:{bus.port}"
        with node(storage=address, bus=bus_address) as here, node(storage=address, bus=bus_address) as there:
            measured, bus_us = Measured(server, address, [here, there]), 1e6 * process_cpu_s(bus.pid)
            pairs = Pairs(here, 100, 16, "x", there)
            crossing = asyncio.run(spent(measured, pairs, seconds))
            bus_us = 1e6 * process_cpu_s(bus.pid) - bus_us
    alone_us = crossing.commands * server_command + crossing.transactions * server_transaction
    return {
        "server_us_per_command": server_command,
        "server_us_per_transaction": server_transaction,
        "database_us_per_command": database_command,
        "database_us_per_transaction": database_transaction,
        "server_us_per_crossing": round(max(0.0, crossing.node_us - alone_us) / crossing.messages, 1),
        "bus_us_per_message": round(bus_us / pairs.acked, 1),
    }


def connections() -> Figures:
    """Of a connection that does nothing but say that it is there."""
    with node() as server:
        base_kib = server.pss_kib()
        kib = asyncio.run(idle(server, 2_000))["kib_per_idle_connection"]
    with node() as server:
        ping_us = asyncio.run(_pings(server))
    return {"node_mib": round(base_kib / 1024), "connection_kib": kib, "server_us_per_ping": ping_us}


async def _pings(server: Node) -> float:
    answers = 0

    def count(_client: object, events: list[dict[str, Any]]) -> None:
        nonlocal answers
        answers += sum(event["event"] == "PONG" for event in events)

    clients = [await connect(server.port, server.token(f"p{n}"), "d", count) for n in range(PINGING)]
    await asyncio.sleep(1)
    cpu_s = server.cpu_s()
    for done in range(1, PINGS + 1):
        for client in clients:
            client.send([{"event": "PING"}])
            await asyncio.sleep(0.0005)  # each is a read of its own, as it is with real ones
        while answers < done * PINGING:
            await asyncio.sleep(0.001)
    cpu_s = server.cpu_s() - cpu_s
    for client in clients:
        client.transport.close()
    return round(1e6 * cpu_s / answers, 1)


async def fill(store: Store) -> None:
    """Many messages in many conversations of two."""
    setting: list[Command] = []
    for number in range(CONVERSATIONS):
        members = (f"user-a-{number:029}", f"user-b-{number:029}")
        setting += [OpenSession(user, "phone", user.encode(), _NOW + 9, None, "", _NOW) for user in members]
        setting.append(
            CreateConversation(_name(number), "SINGLE", members[0], members, "", "e123456789", 1000, _NOW)
        )
    for start in range(0, len(setting), BATCH):
        await store.commit(setting[start : start + BATCH])
    for start in range(0, STORED, BATCH):
        await store.commit([_message(number) for number in range(start, start + BATCH)])


def _name(number: int) -> str:
    return f"conversation-{number:023}"


def _message(number: int) -> Append:
    conversation = number % CONVERSATIONS
    key = f"client-message-{number:021}"
    return Append(_name(conversation), f"user-a-{conversation:029}", key, _BODY, bytes(32), _NOW + number)


async def in_postgres(server: PostgresServer) -> Figures:
    """Of stored messages, and of a look at them."""
    address = server.new_database()
    name = address.partition("?")[0].rpartition("/")[2]
    store = PostgresStore(address, ids=SystemIds())
    await store.migrate()
    wal_bytes = int(server.query(name, "SELECT pg_current_wal_lsn() - '0/0'"))
    await fill(store)
    wal_bytes = int(server.query(name, "SELECT pg_current_wal_lsn() - '0/0'")) - wal_bytes
    stored_bytes = int(server.query(name, "SELECT pg_total_relation_size('message')"))
    names = [_name(number) for number in range(500)]
    devices = [(f"user-a-{number:029}", "phone") for number in range(500)]
    head = await _look(server, lambda: store.head_seqs(names))
    device = await _look(server, lambda: store.resume_hashes(devices))
    await store.aclose()
    return {
        "postgres_bytes_per_message": round(stored_bytes / STORED - len(_BODY)),
        "wal_bytes_per_message": round(wal_bytes / STORED - len(_BODY)),
        "server_us_per_look": max(head[0], device[0]),
        "database_us_per_look": max(head[1], device[1]),
    }


async def _look(server: PostgresServer, ask: Callable[[], Any]) -> tuple[float, float]:
    """Microseconds of the node and of the database for each of 500 rows."""
    await ask()
    own_s, database_s = time.process_time(), database_cpu_s(server.pid)
    for _ in range(LOOKS):
        await ask()
    rows = 500 * LOOKS
    own_s, database_s = time.process_time() - own_s, database_cpu_s(server.pid) - database_s
    return round(1e6 * own_s / rows, 2), round(1e6 * database_s / rows, 2)


async def in_sqlite(folder: Path) -> Figures:
    """Of stored messages, with their part of the other tables."""
    path = folder / "chat.db"
    store = SqliteStore(str(path), ids=SystemIds(), threads=False)
    await store.migrate()
    await fill(store)
    await store.aclose()
    return {"sqlite_bytes_per_message": round(path.stat().st_size / STORED - len(_BODY))}


def on_sqlite(seconds: float) -> Figures:
    """Of a message and its confirmation at one node on one file."""
    with node() as server:
        found = asyncio.run(Pairs(server, 100, 16, "f").run(2, seconds))
    return {"sqlite_us_per_message": found["server_cpu_us_per_message"]}


def main() -> None:
    """Print the figures as they come, and write all of them to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--out", type=Path, help="a file for `chatkit capacity --from`")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each load lasts (default 8)")
    options = parser.parse_args()
    figures: Figures = {}
    for measure in _measures(options.seconds):
        found = measure()
        print(json.dumps({"workload": "capacity", **found}), flush=True)
        figures |= found
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


def _measures(seconds: float) -> Iterator[Callable[[], Figures]]:
    yield lambda: on_sqlite(seconds)
    yield connections
    yield lambda: messages(seconds)
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres(shared_buffers="256MB", max_wal_size="4GB") as server,
    ):
        yield lambda: asyncio.run(in_sqlite(Path(folder)))
        yield lambda: asyncio.run(in_postgres(server))


if __name__ == "__main__":
    main()
