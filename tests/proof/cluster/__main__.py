"""`python -m tests.proof.cluster [--rolling] [--seconds 120] [--clients 60] [--rate 50]`: 0 if nothing was lost,
doubled or left.

Three nodes on one PostgreSQL, joined by NATS, with a balancer before them. Apps come and go, send and are cut off; a
node is killed or stands still, PostgreSQL crashes, its sessions are ended, NATS is killed, wiped or stands still, a
worker is killed. At the end every acknowledged message is in the log under its number, no log has a hole, every device
holds all of it, and every phone that sleeps was told of the newest message of each of its groups.

`--group 500` has a group of so many, all online, and `--reconnect 1000` cuts off so many clients at once (`crowd.py`).
With `--rolling` there is no fault: the nodes are drained and started again, one after the other.

With `--metrics-out DIR` a Prometheus (scripts/promtool gets one) scrapes all of them and evaluates the alerts, and what
it saw is left there as samples (JSON) and as a picture, with the faults and the alerts in it. `--mission NAME` plays
one fault, in the middle third: storage, node, queue, or away, and `chatkit explain` tells of a message that it caught.
The rules are hastened: with `--hasten 10` five minutes are 30 seconds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import anyio

from chatkit.storage.base import DeliveryLag, Entry
from chatkit.storage.postgres import PostgresStore
from chatkit.testing.rng import Rng
from tests.proof.soak.judge import lost, read_logs
from tests.proof.soak.load import Load
from tests.proof.soak.server import SECRET

from .crowd import run_group, run_reconnect
from .mission import Mission
from .nemesis import Nemesis, RollingRestart
from .nodes import Cluster
from .pictures import Mark, draw, samples_of
from .sleepers import SLEEPERS, register, sleeper_of, untold
from .watch import Prometheus, targets_of

PUSHED_WITHIN_S = 120.0


def run(
    folder: Path,
    *,
    seconds: float,
    clients: int,
    rate: float,
    seed: int,
    rolling: bool = False,
    mission: str | None = None,
    watched: Watched | None = None,
) -> list[str]:
    """What is wrong, in words; says what it does."""
    with (
        Cluster.serving(folder, "--set", "heartbeat_s=5", secret=SECRET) as cluster,
        nullcontext() if watched is None else watched.watching(folder, cluster),
    ):
        print(
            f"3 nodes and 2 workers on PostgreSQL and NATS; {clients} devices and {SLEEPERS} phones that sleep, "
            f"{rate:g} messages a second",
            flush=True,
        )
        load = Load(
            folder, cluster.port, clients=clients, rate=rate, seconds=seconds, seed=seed, sleeper=sleeper_of
        )
        load.create()
        register(cluster.port, SECRET)
        began_s = time.monotonic()
        played = None if mission is None else Mission(cluster, mission, seconds, SECRET)
        if played is not None:
            wrong, marks = _play(load, played)
        elif rolling:
            wrong, marks = _restart(cluster, load), []
        else:
            wrong, marks = _strike(cluster, load, seed)
        print(load.summary())
        print(
            f"everybody had everything {time.monotonic() - began_s - seconds:.0f} s after the last message was due"
        )
        lag = anyio.run(_when_pushed, cluster.address)
        if watched is not None:
            watched.draw(marks, mission or ("rolling" if rolling else "faults"))
        wrong += [f"left of the outbox: {lag}"] if lag.waiting or lag.dead else []
        wrong += [f"a node logged: {part[-300:]}" for part in cluster.tracebacks()]
        logs = anyio.run(_read_logs, cluster.address, list(load.groups))
        wrong += untold(cluster.receiver, list(load.groups), logs)
        if played is not None:
            print(played.explain(entry for log in logs.values() for entry in log))
        pushes = cluster.receiver.ids
    print(f"{sum(map(len, logs.values()))} entries in {len(logs)} logs")
    print(f"{len(pushes)} pushes, {pushes.total() - len(pushes)} of them again")
    return [*wrong, *lost(load.reports, logs)]


class Watched:
    """A Prometheus beside the cluster, and pictures of what it saw.

    Args:
        out: Where they go.
        hasten: How much closer everything is in time.
    """

    def __init__(self, out: Path, hasten: float) -> None:
        self._out = out
        self._hasten = hasten
        self._prometheus: Prometheus | None = None
        self._began_s = 0.0

    @contextmanager
    def watching(self, folder: Path, cluster: Cluster) -> Iterator[None]:
        """Until the end of the block."""
        workers = [it.metrics_port for it in cluster.workers]
        targets = targets_of(cluster.nodes.metrics_ports, "node") | targets_of(workers, "worker")
        self._prometheus = Prometheus(folder / "prometheus", targets, self._hasten)
        self._began_s = time.time()
        with self._prometheus.running():
            yield

    def draw(self, marks: Sequence[Mark], title: str) -> None:
        """Say which alerts fired, and draw."""
        assert self._prometheus is not None
        samples = samples_of(self._prometheus, self._began_s, time.time())
        fired = draw(samples, marks, title, self._out)
        print(f"alerts that fired: {', '.join(fired) or 'none'}; pictures and samples: {self._out}")


def _play(load: Load, mission: Mission) -> tuple[list[str], Sequence[Mark]]:
    load.run(beside=mission.playing())
    for line in mission.notes:
        print(line)
    return [], mission.marks


def _strike(cluster: Cluster, load: Load, seed: int) -> tuple[list[str], Sequence[Mark]]:
    nemesis = Nemesis(cluster, seed)
    load.run(beside=nemesis.striking())
    struck = ", ".join(f"{name} {count}" for name, count in sorted(nemesis.struck.items()))
    print(f"faults of servers: {struck}")
    return [], nemesis.marks


def _restart(cluster: Cluster, load: Load) -> list[str]:
    restart = RollingRestart(cluster)
    load.run(beside=restart.rolling())
    print(f"{len(restart.exit_codes)} nodes drained and started again")
    if restart.exit_codes != [0] * len(cluster.nodes.nodes):
        return [f"the nodes ended with {restart.exit_codes}"]
    return []


async def _when_pushed(address: str) -> DeliveryLag:
    """What the workers have left after a while: nothing."""
    store = PostgresStore(address, ids=Rng(0).ports("cluster").ids)
    await store.migrate()
    try:
        with anyio.move_on_after(PUSHED_WITHIN_S):
            while (await store.deliveries.lag()).waiting:
                await anyio.sleep(0.2)
        return await store.deliveries.lag()
    finally:
        await store.aclose()


async def _read_logs(address: str, names: Sequence[str]) -> dict[str, list[Entry]]:
    store = PostgresStore(address, ids=Rng(0).ports("cluster").ids)
    await store.migrate()
    try:
        return await read_logs(store, names)
    finally:
        await store.aclose()


def _run_chosen(folder: Path, options: argparse.Namespace) -> list[str]:
    if options.group:
        return run_group(folder, options.group, options.messages)
    if options.reconnect:
        return run_reconnect(folder, options.reconnect, options.messages)
    return run(
        folder,
        seconds=options.seconds,
        clients=options.clients,
        rate=options.rate,
        seed=options.seed,
        rolling=options.rolling,
        mission=options.mission,
        watched=options.metrics_out and Watched(options.metrics_out, options.hasten),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 if everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the load lasts (default 120)")
    parser.add_argument("--clients", type=int, default=60, help="devices that come and go (default 60)")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="draws who fails when (default 1)")
    crowd = parser.add_mutually_exclusive_group()
    crowd.add_argument("--group", type=int, metavar="N", help="a group of N instead, all of them online")
    crowd.add_argument(
        "--reconnect", type=int, metavar="N", help="N clients that are cut off at once instead"
    )
    parser.add_argument("--messages", type=int, default=200, help="of these two (default 200)")
    crowd.add_argument("--rolling", action="store_true", help="no faults: a rolling restart instead")
    crowd.add_argument("--mission", choices=["storage", "node", "queue", "away"], help="one fault instead")
    parser.add_argument("--metrics-out", type=Path, metavar="DIR", help="where samples and pictures go")
    parser.add_argument("--hasten", type=float, default=10.0, help="how much closer in time (default 10)")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="chatkit-cluster-"))
    wrong = _run_chosen(folder, options)
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    if wrong:
        print(f"files: {folder}")
    else:
        shutil.rmtree(folder)
        print(
            "every answer holds, every log is whole, every device holds it; who sleeps was told of what is newest"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
