"""A real server process for a benchmark, pinned to the first core; and what it has cost so far."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from chatkit import sign_token

from .tree import HERE, CannotMeasureError, Tree

SECRET = "benchmark-secret-of-32-characters"
SERVE = Path(__file__).parent / "unlimited_serve.py"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Node:
    """A running `chatkit serve`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, metrics_url: str | None = None) -> None:
        self.process = process
        self.port = port
        self.metrics_url = metrics_url

    def cpu_s(self) -> float:
        """User and system seconds of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

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

    def token(self, user_id: str) -> str:
        """A token for any device of a user."""
        return sign_token(SECRET, user_id=user_id, ttl_s=86_400)

    def create(self, conversation_id: str, kind: str, user_ids: list[str]) -> None:
        """A conversation of these users."""
        response = httpx.post(
            f"http://127.0.0.1:{self.port}/v1/conversations",
            json={"conversationId": conversation_id, "type": kind, "memberIds": user_ids},
            headers={"Authorization": f"Bearer {self.token(user_ids[0])}"},
            verify=False,  # it is no TLS, and reading the certificates takes longer than the request
        )
        response.raise_for_status()


@cache
def cores() -> tuple[int, int]:
    """The core for the server and the one for the load; the same one where there is no other.

    Asked once, before `node` pins this process to one of them.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def cores_busy_s() -> float:
    """Seconds since boot that these two cores worked, for whomever; what a hypervisor took away counts."""
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in {f"cpu{core}" for core in cores()}:
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, ticks[:8])
            busy += user + nice + system + interrupts + soft_interrupts + stolen
    return busy / _TICKS_PER_S


@contextlib.contextmanager
def node(
    tree: Tree | None = None,
    *,
    limited: bool = False,
    prepare: Callable[[Path], None] | None = None,
    storage: str | None = None,
    bus: str = "local://",
    options: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    start_timeout_s: float = START_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    script: Path = SERVE,
) -> Iterator[Node]:
    """Start a tree's server (this tree's by default) on one core, put this process on another; end it afterwards.

    Args:
        tree: Whose server.
        limited: Whether each peer has the limits that are the default; else none.
        prepare: Fills the file before the server opens it.
        storage: Where the log is; None: in a SQLite file of its own.
        bus: Where other nodes on the same log are.
        options: More of `chatkit serve`.
        wrapper: A program and its options that run the server, such as valgrind.
        start_timeout_s: How long it may take until it serves.
        environment: More variables.
        script: What serves without limits.

    Raises:
        CannotMeasureError: The server did not start.
    """
    tree = tree or Tree(HERE)
    allowed = os.sched_getaffinity(0)
    for_server, for_load = cores()
    with tempfile.TemporaryDirectory() as folder:
        if prepare is not None:
            prepare(Path(folder) / "bench.db")
        program = ["-m", "chatkit"] if limited else [str(script)]
        command = [
            *wrapper,
            tree.python,
            "-P",
            *program,
            "serve",
            "--port",
            "0",
            "--json",
            "--bus",
            bus,
            *options,
        ]
        process = subprocess.Popen(
            [*command, "--storage", storage or f"sqlite:///{folder}/bench.db"],
            env={**tree.environment, "CHATKIT_JWT_SECRET": SECRET, **(environment or {})},
            stdout=subprocess.PIPE,
        )
        try:
            os.sched_setaffinity(process.pid, {for_server})
            os.sched_setaffinity(0, {for_load})
            yield Node(process, **said_by(process, start_timeout_s))
        finally:
            os.sched_setaffinity(0, allowed)
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def said_by(process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
    """Where it is, as the server says on its first line. Raises CannotMeasureError if it says nothing in time."""
    assert process.stdout is not None
    late = threading.Timer(timeout_s, process.kill)
    late.start()
    line = process.stdout.readline()
    late.cancel()
    if not line:
        raise CannotMeasureError(f"the server did not start: {process.args}")
    said = json.loads(line)
    return {"port": said["port"], "metrics_url": said.get("metrics")}
