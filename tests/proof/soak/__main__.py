"""`python -m tests.proof.soak [--hours 1] [--clients 200] [--rate 100]`: a steady load; 0 if nothing grew or was lost.

Prints what the server held, from its start to after the last client has left, and how much of it grew in an hour.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from chatkit.storage.base import Entry
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.rng import Rng
from tests.blackbox.server_process import free_port

from .figures import Sample, findings, growth, table
from .judge import lost, read_logs
from .load import Load

_READY_S = 20.0
LEFT_S = 40.0  # a line that was frozen is found after two heartbeats, and closed after another wait


class Soak:
    """A soak from the server's start to its end.

    Args:
        folder: An empty one, for the log.
        every_s: Between two samples.
    """

    def __init__(
        self, folder: Path, *, clients: int, rate: float, seconds: float, every_s: float, seed: int
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._every_s = every_s
        self._port = free_port()
        self.load = Load(folder, self._port, clients=clients, rate=rate, seconds=seconds, seed=seed)
        self._began_s = time.monotonic()
        self.samples: list[Sample] = []
        self.before: dict[str, float] = {}

    def run(self) -> None:
        """Serve, load, and leave. Raises AssertionError if a process ended that should not."""
        with self._server():
            self._until(lambda: len(self.samples) >= 2, _READY_S, "the server says nothing")
            self.load.create()
            time.sleep(2 * self._every_s)
            self.before = self.samples[-1].held
            self.load.run()
            time.sleep(LEFT_S + 2 * self._every_s)

    @property
    def steady(self) -> list[Sample]:
        """Samples under load, without the first fifth of the time."""
        loaded_s = self.load.began_s - self._began_s
        warm_s = loaded_s + self._seconds / 5
        return [it for it in self.samples if warm_s <= it.at_s <= loaded_s + self._seconds]

    @contextmanager
    def _server(self) -> Iterator[None]:
        command = [sys.executable, "-m", "tests.proof.soak.server"]
        command += [str(self._folder), str(self._port), str(self._every_s)]
        with (self._folder / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(process.stdout,))
        reader.start()
        try:
            yield
            assert process.poll() is None, (
                f"the server ended with {process.returncode}: {self._folder}/server.log"
            )
        finally:
            process.terminate()
            process.wait(30)
            reader.join()
            process.stdout.close()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.samples.append(Sample(time.monotonic() - self._began_s, json.loads(line)))

    def _until(self, done: object, within_s: float, otherwise: str) -> None:
        deadline_s = time.monotonic() + within_s
        while not done():  # type: ignore[operator]
            assert time.monotonic() < deadline_s, f"{otherwise}: {self._folder}/server.log"
            time.sleep(0.1)

    # --- the log ---

    def lost(self) -> list[str]:
        """What is wrong with the log, or with what a device holds of it."""
        path = self._folder / "chat.db"
        report = full_report(str(path))
        wrong = [] if report.whole else [f"the file: {report.findings}"]
        logs = anyio.run(_read_logs, path, list(self.load.groups))
        return [*wrong, *lost(self.load.reports, logs)]


async def _read_logs(path: Path, names: Sequence[str]) -> dict[str, list[Entry]]:
    store = SqliteStore(str(path), ids=Rng(0).ports("soak").ids)
    await store.migrate()
    try:
        return await read_logs(store, names)
    finally:
        await store.aclose()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 if everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="how long the load lasts (default 1)")
    parser.add_argument("--clients", type=int, default=200, help="devices that come and go (default 200)")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second (default 100)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples (default 10)")
    parser.add_argument(
        "--seed", type=int, default=1, help="draws who comes, goes and fails when (default 1)"
    )
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="chatkit-soak-"))
    soak = Soak(
        folder,
        clients=options.clients,
        rate=options.rate,
        seconds=options.hours * 3600,
        every_s=options.every,
        seed=options.seed,
    )
    soak.run()
    return _tell(soak, folder)


def _tell(soak: Soak, folder: Path) -> int:
    after = soak.samples[-1].held
    wrong = [*findings(soak.before, soak.steady, after), *soak.lost()]
    print(table(soak.samples))
    slopes = ", ".join(f"{name} {percent:+.1f} %" for name, percent in growth(soak.steady).items())
    print(f"growth an hour over {len(soak.steady)} samples after the warm-up: {slopes}")
    print(soak.load.summary())
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    print(f"files: {folder}" if wrong else "everything came back, every log is whole, every device holds it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
