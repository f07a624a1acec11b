"""`python -m benchmarks.workers`: durable 1:1 messages with one server process and with two, on PostgreSQL and NATS.

What two cores give cannot be seen on a machine that has no more than two, for the database, the bus and the load need
them too. So each server process is given a small part of a core (`--share`, by a cgroup's quota, which root may set),
and everything else as much as it wants: the server is what is scarce, as it is with cores to spare. Each round measures
in turn one process without a bus, one with a bus, and two with a bus; 100 pairs a process, window 16, receivers
confirm. Users are dealt to the processes by the kernel, so that half of the messages cross the bus.

The figures: messages a second in the given time; CPU a message of the server processes, of the database, the bus, the
load; how evenly the processes worked. What they do not say: how PostgreSQL fares with twice the load, and what
processes on two real cores take from each other's caches and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.servers.nats import nats_process
from tests.servers.postgres import PostgresServer, serving
from tests.servers.process import ServerProcess, running

from .measured import database_cpu_s, process_cpu_s
from .node import SECRET, SERVE, Node
from .pinned import START_TIMEOUT_S, end, said_by
from .tree import HERE, CannotMeasureError, Tree
from .workloads import Pairs

PAIRS, WINDOW = 100, 16
_PERIOD_US = 10_000
_CGROUPS = Path("/sys/fs/cgroup")

WAYS: dict[str, tuple[int, bool]] = {
    "1 process": (1, False),
    "1 process, bus": (1, True),
    "2 processes, bus": (2, True),
}
"""How many processes, and whether there is a bus."""


class Quota:
    """A cgroup that one process is put into, with a part of a core.

    Args:
        share: Of a core.

    Raises:
        CannotMeasureError: No such group can be made here.
    """

    def __init__(self, name: str, share: float) -> None:
        quota_us = round(share * _PERIOD_US)
        version_1 = _CGROUPS / "cpu"
        self._folder = (version_1 if version_1.is_dir() else _CGROUPS) / f"chatkit-bench-{os.getpid()}-{name}"
        try:
            self._folder.mkdir()
            if version_1.is_dir():
                (self._folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                (self._folder / "cpu.cfs_quota_us").write_text(str(quota_us))
            else:
                (self._folder / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        except OSError as error:
            self.close()
            raise CannotMeasureError(
                f"a cgroup with a quota cannot be made: {error}; --share 0 does without"
            ) from None

    def take(self, pid: int) -> None:
        """Put a process and all its threads into it."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Remove it; nobody is in it any more."""
        if self._folder.is_dir():
            self._folder.rmdir()


class Processes(Node):
    """A running `chatkit serve --workers`, or without workers the one process.

    Attributes:
        pids: The processes that serve.
    """

    def __init__(self, process: subprocess.Popen[bytes], workers: int, port: int) -> None:
        super().__init__(process, port)
        self.pids = [process.pid] if workers == 1 else _children(process.pid)

    def cpu_s(self) -> float:
        """Of all of them; the parent does nothing."""
        return sum(map(process_cpu_s, self.pids))


def _children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def processes(workers: int, storage: str, bus: str) -> Iterator[Processes]:
    """Server processes that share a port."""
    tree = Tree(HERE)
    command = [tree.python, "-P", str(SERVE), "serve", "--port", "0", "--json", "--workers", str(workers)]
    process = subprocess.Popen(
        [*command, "--storage", storage, "--bus", bus],
        env={**tree.environment, "CHATKIT_JWT_SECRET": SECRET},
        stdout=subprocess.PIPE,
    )
    try:
        with closing(Processes(process, workers, said_by(process, START_TIMEOUT_S)["port"])) as node:
            yield node
    finally:
        end(process)


def measure(
    way: str, database: PostgresServer, bus: ServerProcess, share: float, seconds: float
) -> dict[str, Any]:
    """One round of one way, on a log of its own."""
    workers, has_bus = WAYS[way]
    storage = database.new_database()
    name = storage.partition("?")[0].rpartition("/")[2]
    address = f"nats://127.0.0.1:{bus.port}?prefix={name}" if has_bus else "local://"
    with ExitStack() as quotas, processes(workers, storage, address) as node:

        def bound() -> None:
            for pid in node.pids if share else ():
                quota = Quota(str(pid), share)
                quotas.callback(quota.close)
                quota.take(pid)

        return asyncio.run(_measured(node, workers, database, bus, bound, seconds))


async def _measured(
    node: Processes,
    workers: int,
    database: PostgresServer,
    bus: ServerProcess,
    bound: Callable[[], None],
    seconds: float,
) -> dict[str, Any]:
    def so_far() -> list[float]:
        others = [database_cpu_s(database.pid), process_cpu_s(bus.pid), time.process_time()]
        return [*others, *map(process_cpu_s, node.pids)]

    pairs = Pairs(node, PAIRS * workers, WINDOW, "p")
    await pairs.open()
    bound()
    await asyncio.sleep(seconds / 3)
    before, acked, began_s = so_far(), pairs.acked, time.monotonic()
    await asyncio.sleep(seconds)
    took_s, acked = time.monotonic() - began_s, pairs.acked - acked
    spent = [after - then for after, then in zip(so_far(), before, strict=True)]
    pairs.close()
    each = [round(1e6 * cpu_s / acked, 1) for cpu_s in spent]
    return {
        "messages_per_s": round(acked / took_s),
        "server_us": round(sum(each[3:]), 1),
        "busiest_us": max(each[3:]),
        "cores": [round(cpu_s / took_s, 3) for cpu_s in spent[3:]],
        "database_us": each[0],
        "bus_us": each[1],
        "load_us": each[2],
    }


def report(found: dict[str, list[dict[str, Any]]], share: float) -> Iterator[str]:
    """What the rounds come to: medians of the ratios of each round, with the least and the most."""

    def ratio(way: str, key: str, to: str, to_key: str) -> str:
        pairs = zip(found[way], found[to], strict=True)
        each = sorted(one[key] / other[to_key] for one, other in pairs)
        return f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"

    alone, one, two = WAYS
    yield f"a bus makes a message {ratio(one, 'server_us', alone, 'server_us')} times as dear for one process"
    yield f"two processes: {ratio(two, 'server_us', one, 'server_us')} times the CPU of one with a bus, in sum"
    for base in (alone, one):
        reckoned = ratio(base, "server_us", two, "busiest_us")
        yield f"two cores do {reckoned} times what {base} does on one, by the CPU of the busier process"
        if share:
            rate = ratio(two, "messages_per_s", base, "messages_per_s")
            yield f"  and were seen to do {rate} times the messages a second, with {share:g} of a core each"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each round, and what all of them come to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument(
        "--share", type=float, default=0.15, help="of a core for each process; 0 for no bound"
    )
    options = parser.parse_args(arguments)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with (
        serving(shared_buffers="128MB", max_connections="100") as database,
        tempfile.TemporaryDirectory() as folder,
        running(nats_process(Path(folder))) as bus,
    ):
        for turn in range(options.rounds):
            for way in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
                result = measure(way, database, bus, options.share, options.seconds)
                found[way].append(result)
                print(json.dumps({"round": turn, "way": way, **result}), flush=True)
    for line in report(found, options.share):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
