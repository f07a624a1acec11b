"""`python -m benchmarks.postgres [--peer FOLDER]`: what a durable 1:1 message costs on PostgreSQL, with the database.

100 pairs talk with a window of 16; the receiver of chatkit confirms that it has read. With `--peer`, a folder with a
`bench_sio.py` that runs socket.io with pg (insert, then ack; its receivers confirm nothing), each round measures both,
one right after the other. CPU is user and system of the server and of every process of the database, which have one
core; the load has the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.postgres import PostgresServer, binaries, serving

from .node import Node, cores, node
from .peer import measure_peer
from .workloads import Pairs

PAIRS, WINDOW = 100, 16
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def database_cpu_s(first: int) -> float:
    """User and system seconds of all processes of PostgreSQL, those that have ended too; `first` started the others."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended; its parent counts it
            continue
        if int(fields[1]) == first or stat.parent.name == str(first):
            ticks += sum(map(int, fields[11:13]))
        if stat.parent.name == str(first):
            ticks += sum(map(int, fields[13:15]))
    return ticks / _TICKS_PER_S


class NodeWithDatabase:
    """A node whose costs are those of its database too.

    Args:
        inner: The node.
        database: The first process of PostgreSQL.
    """

    def __init__(self, inner: Node, database: int) -> None:
        self._inner = inner
        self._database = database
        self.port, self.token, self.create = inner.port, inner.token, inner.create

    def cpu_s(self) -> float:
        """Of both."""
        return self._inner.cpu_s() + database_cpu_s(self._database)


@contextmanager
def chatkit_on_postgres() -> Iterator[NodeWithDatabase]:
    """A node and its database on the first core."""
    with serving(shared_buffers="128MB", max_connections="100") as server:
        pin(server)
        with node(storage=server.new_database()) as inner:
            yield NodeWithDatabase(inner, server.pid)


def pin(server: PostgresServer) -> None:
    """The first process and all that it starts from now on; those that it has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if int(stat.read_text().rpartition(")")[2].split()[1]) == server.pid:
            os.sched_setaffinity(int(stat.parent.name), {cores()[0]})


def measure_chatkit(seconds: float) -> dict[str, Any]:
    """One round of it."""
    with chatkit_on_postgres() as measured:
        found: dict[str, Any] = asyncio.run(Pairs(measured, PAIRS, WINDOW, "p").run(2, seconds))  # type: ignore[arg-type]
    return found


def measure_socketio(folder: Path, python: str, node_modules: Path | None, seconds: float) -> dict[str, Any]:
    """One round of socket.io with pg."""
    more = {"PATH": f"{binaries()}:{os.environ['PATH']}", "WARM": "2", "SECS": str(seconds)}
    return measure_peer(folder, python, node_modules, "node-pg", "w1", more=more)


def main() -> int:
    """Print each round, and the ratio of the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description=__doc__)
    parser.add_argument("--peer", type=Path, help="folder with bench_sio.py")
    parser.add_argument("--python", default=sys.executable, help="interpreter for that script")
    parser.add_argument("--node-modules", type=Path, help="folder with socket.io and pg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    ours, theirs = [], []
    for turn in range(options.rounds):
        found = measure_chatkit(options.seconds)
        print(json.dumps({"round": turn, "server": "chatkit", **found}), flush=True)
        ours.append(found["server_cpu_us_per_message"])
        if options.peer is not None:
            other = measure_socketio(options.peer, options.python, options.node_modules, options.seconds)
            print(json.dumps({"round": turn, "server": "socket.io pg", **other}), flush=True)
            theirs.append(float(other["tot_us"]))
    print(f"chatkit: {statistics.median(ours):.1f} us a message, database included")
    if theirs:
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"socket.io pg: {statistics.median(theirs):.1f} us; chatkit takes {ratio:.2f} of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
