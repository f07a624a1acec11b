"""A server that is measured: what it has cost so far, by the part of it that worked; and what a load asks of it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Protocol

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Talker(Protocol):
    """A client that is logged in.

    Attributes:
        failure: Why it does not do what it should, such as a refusal or a connection that was lost; None: it does.
    """

    @property
    def failure(self) -> str | None: ...

    def send(self, conversation_id: str, count: int) -> None:
        """So many messages of 100 bytes."""

    def close(self) -> None:
        """Leave."""


class Listener(Protocol):
    """A load, as its clients see it."""

    def on_acked(self, talker: Talker, conversation_id: str, waits_ms: list[float]) -> None:
        """Messages of this talker to one conversation are stored, each so long after it was sent."""

    def on_delivered(self, talker: Talker, count: int) -> None:
        """Messages have come to this talker in one read; where there are confirmations, one for all of them is sent."""


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU, by who used them.

    Attributes:
        total: All of it.
        loop_user: The first thread, which runs the event loop: its own code.
        loop_kernel: What the kernel did for it: sockets, for the most part.
        threads_user: Every other thread that lives, such as those of a store.
        threads_kernel: What the kernel did for them: files, for the most part.
        database: All processes of a database beside.
    """

    total: float
    loop_user: float
    loop_kernel: float
    threads_user: float
    threads_kernel: float
    database: float

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def layers_us(self, count: int) -> dict[str, float]:
        """Microseconds for each of so many, by part."""
        parts = {name: seconds for name, seconds in asdict(self).items() if name != "total"}
        return {name: round(1e6 * seconds / count, 2) for name, seconds in parts.items()}


class MeasuredServer:
    """A server process that listens on a port of loopback.

    Args:
        process: It.
        port: Where.
        database: The first process of its database, if that has processes.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, database: int | None = None) -> None:
        self.process = process
        self.port = port
        self._database = database

    def create(self, conversation_id: str, kind: str, user_ids: list[str]) -> None:
        """A conversation of these users, before they connect: SINGLE, which the first of them writes to, or GROUP."""
        raise NotImplementedError

    async def connect(self, user_id: str, listener: Listener, source: str = "127.0.0.1") -> Talker:
        """A user who is logged in, from an address of this machine."""
        raise NotImplementedError

    def cpu(self) -> Cpu:
        """So far."""
        process = Path(f"/proc/{self.process.pid}")
        database = 0.0 if self._database is None else database_cpu_s(self._database)
        threads = {it.name: _user_and_kernel_s(it) for it in (process / "task").iterdir()}
        loop = threads.pop(process.name)
        others = [sum(parts) for parts in zip((0.0, 0.0), *threads.values(), strict=True)]
        return Cpu(sum(_user_and_kernel_s(process)) + database, *loop, *others, database)

    def cpu_s(self) -> float:
        """User and system seconds so far, of all threads and of the database."""
        return self.cpu().total

    def exact_cpu_s(self) -> float:
        """The same of the threads that are alive, to the nanosecond, for short times."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((it / "schedstat").read_text().split()[0]) for it in threads) / 1e9

    def pss_kib(self) -> int:
        """Its proportional share of memory, in KiB."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise RuntimeError("no Pss line")


def _user_and_kernel_s(task: Path) -> tuple[float, float]:
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS_PER_S, int(fields[12]) / _TICKS_PER_S


def process_cpu_s(pid: int) -> float:
    """User and system seconds of all threads of a process so far."""
    return sum(_user_and_kernel_s(Path(f"/proc/{pid}")))


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
