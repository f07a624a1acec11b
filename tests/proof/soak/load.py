"""The clients of a soak: some processes of apps that come and go, send, and stand still at times.

Called by `python -m tests.proof.soak` and by `python -m tests.proof.cluster`, which serve them.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import httpx
import msgspec

from chatkit import sign_token

from .clients import Plan, Report
from .server import SECRET

PROCESSES = 4
DEVICES_OF_A_USER = 2
MEMBERS = 5
_STOPPED_EVERY_S = (20.0, 60.0)
_STOPPED_S = (3.0, 15.0)


class Load:
    """All clients, in groups of five users.

    Args:
        folder: For their plans and what they log.
        port: Where they connect.
        clients: How many devices.
        rate: Messages a second.
        seconds: How long they send.
        seed: Draws who comes, goes and fails when.
        sleeper: Who else is in the group of a number, and never comes; None: nobody.

    Attributes:
        groups: Users by conversation.
        reports: What each process says at its end.
        stops: How often a process stood still.
        began_s: When they began to send, by the monotonic clock.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        clients: int,
        rate: float,
        seconds: float,
        seed: int,
        sleeper: Callable[[int], str] | None = None,
    ) -> None:
        self._folder = folder
        self._port = port
        self._rate = rate
        self._seconds = seconds
        self._sleeper = sleeper
        self._rng = random.Random(seed)
        least = MEMBERS * DEVICES_OF_A_USER
        if clients < least:
            raise SystemExit(f"a group has {MEMBERS} members: at least {least} clients are needed")
        users = [f"u-{number}" for number in range(clients // DEVICES_OF_A_USER)]
        self._devices = [(user, f"d-{number}") for user in users for number in range(DEVICES_OF_A_USER)]
        self.groups = {f"g-{number}": self._rng.sample(users, MEMBERS) for number in range(len(users))}
        self.reports: list[Report] = []
        self.stops = 0
        self.began_s = 0.0

    @property
    def acked(self) -> int:
        """Messages that were acknowledged in time."""
        return sum(len(it.acked) for it in self.reports)

    def summary(self) -> str:
        """What was done, in a line."""
        faults = sum((Counter(it.faults) for it in self.reports), Counter())
        return (
            f"{sum(it.attempted for it in self.reports)} messages sent, {self.acked} acknowledged in time, "
            f"{sum(it.unanswered for it in self.reports)} later; {sum(it.starts for it in self.reports)} starts of "
            f"apps; faults: {', '.join(f'{name} {count}' for name, count in sorted(faults.items()))}, "
            f"stopped {self.stops}"
        )

    def create(self) -> None:
        """Make the groups."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False) as client:
            for number, (name, users) in enumerate(self.groups.items()):
                members = users if self._sleeper is None else [*users, self._sleeper(number)]
                body = {"conversationId": name, "type": "GROUP", "memberIds": members}
                login = {"Authorization": f"Bearer {sign_token(SECRET, user_id=users[0])}"}
                client.post("/v1/conversations", json=body, headers=login).raise_for_status()

    def run(self, beside: AbstractContextManager[None] = nullcontext()) -> None:  # noqa: B008 -- nothing in it
        """Return when all have sent and hold everything. Raises AssertionError if a process ended that should not."""
        self.began_s = time.monotonic()
        processes = [self._start(number) for number in range(PROCESSES)]
        stopping = threading.Thread(target=self._stop_some, args=(processes,))
        stopping.start()
        with beside:
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
            user: [name for name, users in self.groups.items() if user in users] for user, _ in devices
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


def _line_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode()
