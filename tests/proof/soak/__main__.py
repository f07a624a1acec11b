"""`python -m tests.proof.soak [--hours 1] [--clients 200] [--rate 100]`: a steady load; 0 if nothing grew or was lost.

Prints what the server held, from its start to after the last client has left, and how much of it grew in an hour.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import msgspec

from chatkit import sign_token
from chatkit.storage.base import Entry
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.rng import Rng
from tests.blackbox.server_process import free_port

from .clients import Plan, Report, digests_of_entries
from .figures import Sample, findings, growth, table
from .server import SECRET

PROCESSES = 4
DEVICES_OF_A_USER = 2
MEMBERS = 5
_READY_S = 20.0
LEFT_S = 40.0  # a line that was frozen is found after two heartbeats, and closed after another wait
_STOPPED_EVERY_S = (20.0, 60.0)
_STOPPED_S = (3.0, 15.0)


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
        self._rate = rate
        self._seconds = seconds
        self._every_s = every_s
        self._rng = random.Random(seed)
        self._port = free_port()
        users = [f"u-{number}" for number in range(clients // DEVICES_OF_A_USER)]
        self._devices = [(user, f"d-{number}") for user in users for number in range(DEVICES_OF_A_USER)]
        self._groups = {f"g-{number}": self._rng.sample(users, MEMBERS) for number in range(len(users))}
        self._began_s = time.monotonic()
        self.samples: list[Sample] = []
        self.before: dict[str, float] = {}
        self.reports: list[Report] = []
        self.stops = 0

    def run(self) -> None:
        """Serve, load, and leave. Raises AssertionError if a process ended that should not."""
        with self._server():
            self._until(lambda: len(self.samples) >= 2, _READY_S, "the server says nothing")
            self._create()
            time.sleep(2 * self._every_s)
            self.before = self.samples[-1].held
            self._load()
            self.left_from = len(self.samples)
            time.sleep(LEFT_S + 2 * self._every_s)

    @property
    def steady(self) -> list[Sample]:
        """Samples under load, without the first fifth of the time."""
        warm_s = self._loaded_s + self._seconds / 5
        return [it for it in self.samples if warm_s <= it.at_s <= self._loaded_s + self._seconds]

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

    def _create(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False) as client:
            for name, users in self._groups.items():
                body = {"conversationId": name, "type": "GROUP", "memberIds": users}
                login = {"Authorization": f"Bearer {sign_token(SECRET, user_id=users[0])}"}
                client.post("/v1/conversations", json=body, headers=login).raise_for_status()

    # --- the load ---

    def _load(self) -> None:
        self._loaded_s = time.monotonic() - self._began_s
        processes = [self._start(number) for number in range(PROCESSES)]
        stopping = threading.Thread(target=self._stop_some, args=(processes,))
        stopping.start()
        said = [_line_of(process) for process in processes]
        stopping.join()
        assert said == ["sent\n"] * PROCESSES, f"clients ended early: {self._folder}"
        outputs = [process.communicate(b"\n") for process in processes]
        for process, (output, _) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, f"clients ended with {process.returncode}: {self._folder}"
            self.reports.append(msgspec.json.decode(output, type=Report))

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        devices = self._devices[number::PROCESSES]
        conversations = {
            user: [name for name, users in self._groups.items() if user in users] for user, _ in devices
        }
        plan = Plan(
            port=self._port,
            seed=self._rng.randrange(2**32),
            devices=[it for it in devices if conversations[it[0]]],
            conversations=conversations,
            rate=self._rate / PROCESSES,
            seconds=self._seconds,
        )
        path = self._folder / f"clients-{number}.json"
        path.write_bytes(msgspec.json.encode(plan))
        with (self._folder / f"clients-{number}.log").open("wb") as log:
            command = [sys.executable, "-m", "tests.proof.soak.clients", str(path)]
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )

    def _stop_some(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """All clients of a process stand still for a while, longer than two heartbeats at times."""
        ends_s = time.monotonic() + self._seconds - _STOPPED_S[1]
        while time.monotonic() + _STOPPED_EVERY_S[1] < ends_s:
            time.sleep(self._rng.uniform(*_STOPPED_EVERY_S))
            process = self._rng.choice(processes)
            if process.poll() is None:
                self.stops += 1
                process.send_signal(signal.SIGSTOP)
                time.sleep(self._rng.uniform(*_STOPPED_S))
                process.send_signal(signal.SIGCONT)

    # --- the log ---

    def lost(self) -> list[str]:
        """What is wrong with the log, or with what a device holds of it."""
        path = self._folder / "chat.db"
        report = full_report(str(path))
        wrong = [] if report.whole else [f"the file: {report.findings}"]
        logs = anyio.run(_read_logs, path, list(self._groups))
        for it in self.reports:
            wrong += [*it.wrong, *_not_stored(it, logs), *_held_otherwise(it, logs)]
        return wrong


def _line_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode()


def _not_stored(report: Report, logs: dict[str, list[Entry]]) -> list[str]:
    keys = {name: {(it.client_msg_id, it.seq) for it in log} for name, log in logs.items()}
    lost = [it for it in report.acked if it[1:] not in keys[it[0]]]
    return [f"{key} is not seq {seq} of {name}" for name, key, seq in lost]


def _held_otherwise(report: Report, logs: dict[str, list[Entry]]) -> list[str]:
    wrong = []
    for held in report.held:
        log = logs[held.conversation_id]
        place = (
            f"{held.device} holds {held.conversation_id} after {held.floor} up to {held.prefix} of {len(log)}"
        )
        wanted = digests_of_entries(it for it in log if held.floor < it.seq <= held.prefix)
        parts = sorted(
            first for first in {*wanted, *held.digests} if wanted.get(first) != held.digests.get(first)
        )
        if parts:
            at = parts[0]
            wrong.append(f"{place}; from {at} on {held.digests.get(at)}, in the log {wanted.get(at)}")
        elif held.prefix != len(log):
            wrong.append(place)
    return wrong


async def _read_logs(path: Path, names: Sequence[str]) -> dict[str, list[Entry]]:
    store = SqliteStore(str(path), ids=Rng(0).ports("soak").ids)
    await store.migrate()
    logs: dict[str, list[Entry]] = {}
    for name in names:
        entries = logs[name] = []
        while page := await store.entries(name, len(entries), 1_000):
            entries += page
    await store.aclose()
    return logs


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
    faults = sum((Counter(it.faults) for it in soak.reports), Counter())
    acked = sum(len(it.acked) for it in soak.reports)
    print(
        f"{sum(it.attempted for it in soak.reports)} messages sent, {acked} acknowledged in time, "
        f"{sum(it.unanswered for it in soak.reports)} later; {sum(it.starts for it in soak.reports)} starts of apps; "
        f"faults: {', '.join(f'{name} {count}' for name, count in sorted(faults.items()))}, stopped {soak.stops}"
    )
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    print(f"files: {folder}" if wrong else "everything came back, every log is whole, every device holds it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
