"""`python -m tests.proof.drain [--entries 100000] [--workers 2]`: a backlog is worked off on a real PostgreSQL.

So many conversations wait, each with a message that nobody confirmed; workers, each a process of its own, push them
to a provider that writes down what it is given. 0 if every device was pushed to once, nothing is left, and no worker's
memory grew after its first 2,000 pushes, with the store's bounded memory of unread counts full from the start.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio

from chatkit.push.base import Delivered, Push, Result
from chatkit.server.delivery.config import DeliveryConfig
from chatkit.server.delivery.worker import DeliveryWorker
from chatkit.storage import base
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.unread import COUNTS_MAX
from chatkit.testing.contracts.storage_commands import text
from chatkit.testing.rng import Rng
from tests.servers.postgres import serving

BATCH = 500
GROWTH_MAX = 1.1
"""A worker may end with a tenth more memory than it had then."""


class WritingProvider:
    """Appends the token of every push to a file, in one write for a batch."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        await anyio.lowlevel.checkpoint()
        self._file.write("".join(f"{push.token}\n" for push in batch))
        return [Delivered() for _ in batch]

    async def aclose(self) -> None:
        self._file.close()


def store_of(address: str) -> PostgresStore:
    return PostgresStore(address, ids=Rng(0).ports("drain").ids)


async def fill(address: str, count: int) -> None:
    """`count` SINGLEs, in each a message to somebody with a phone."""
    store = store_of(address)
    await store.migrate()
    now_ms = int(time.time() * 1000)
    for start in range(0, count, BATCH):
        commands: list[base.Command] = []
        for number in range(start, min(start + BATCH, count)):
            users = (f"from {number}", f"to {number}")
            payload = text(f"message {number}")
            commands += [
                base.CreateConversation(f"s{number}", "SINGLE", users[0], users, "", "e1", 2, now_ms),
                base.RegisterPush(users[1], "phone", "file", users[1], False, now_ms),
                base.Append(f"s{number}", users[0], "k", payload, payload, now_ms),
            ]
        refused = [it for it in await store.commit(commands) if isinstance(it, base.Refused)]
        assert not refused, refused[0]
    await store.aclose()


async def work(address: str, path: Path) -> None:
    """A worker, until nothing is left; says how much it did, and its memory early and at the end."""
    store = store_of(address)
    await store.migrate()
    provider = WritingProvider(path)
    for number in range(COUNTS_MAX):
        store._unread.keep((-number, f"somebody {number}", 0, 1), (1, 0))
    worker = DeliveryWorker(store, {"file": provider}, config=DeliveryConfig(push_after_s=0.0))
    early = 0
    while await worker.run_once() or (await store.deliveries.lag()).waiting:
        if not early and worker.counts["pushed"] >= 2_000:
            early = resident()
    print(f"{worker.counts['pushed']} {early or resident()} {resident()}")
    await provider.aclose()
    await store.aclose()


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(folder: Path, *, entries: int, workers: int) -> list[str]:
    """What is wrong, in words; says what it does."""
    with serving() as server:
        address = server.new_database()
        anyio.run(fill, address, entries)
        print(f"{entries} conversations wait; {workers} workers on PostgreSQL", flush=True)
        began_s = time.monotonic()
        command = [sys.executable, "-m", "tests.proof.drain", "--work", address]
        processes = [
            subprocess.Popen([*command, str(folder / f"{number}.txt")], stdout=subprocess.PIPE, text=True)
            for number in range(workers)
        ]
        said = [process.communicate()[0] for process in processes]
        took_s = time.monotonic() - began_s
        lag = anyio.run(_lag, address)
    wrong = [f"worker {it} ended with {p.returncode}" for it, p in enumerate(processes) if p.returncode]
    if wrong:
        return wrong
    for number, line in enumerate(said):
        pushed, early, late = map(int, line.split())
        print(f"worker {number}: {pushed} pushes, {early / 1e6:.0f} MB early, {late / 1e6:.0f} MB at the end")
        if late > early * GROWTH_MAX:
            wrong.append(f"the memory of worker {number} grew from {early} to {late} bytes")
    pushed_to = Counter(line for path in folder.glob("*.txt") for line in path.read_text().splitlines())
    print(f"{pushed_to.total()} pushes in {took_s:.0f} s, {pushed_to.total() / took_s:.0f} a second")
    doubled = [name for name, count in pushed_to.items() if count > 1]
    missed = entries - len(pushed_to)
    if doubled or missed or lag != base.DeliveryLag(0, None, 0):
        wrong.append(f"{len(doubled)} doubled, {missed} missed, left: {lag}")
    return wrong


async def _lag(address: str) -> base.DeliveryLag:
    store = store_of(address)
    await store.migrate()
    try:
        return await store.deliveries.lag()
    finally:
        await store.aclose()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", nargs=2, metavar=("ADDRESS", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        anyio.run(work, options.work[0], Path(options.work[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(Path(folder), entries=options.entries, workers=options.workers)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
