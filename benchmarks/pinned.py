"""A server process on a core of its own, and this process, which is the load, on another one."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from .measured import MeasuredServer
from .tree import CannotMeasureError

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


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


def others_cpu_s(server: MeasuredServer) -> float:
    """Seconds that the two cores worked so far for nobody of ours. Includes what the kernel does for the network."""
    ours = os.times()
    return cores_busy_s() - ours.user - ours.system - server.cpu_s()


@contextmanager
def served(
    command: Sequence[str], environment: Mapping[str, str], start_timeout_s: float = START_TIMEOUT_S
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Start a server on one core, put this process on another; end it afterwards. With what it says on its first line.

    Raises:
        CannotMeasureError: It did not start.
    """
    allowed = os.sched_getaffinity(0)
    for_server, for_load = cores()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    try:
        os.sched_setaffinity(process.pid, {for_server})
        os.sched_setaffinity(0, {for_load})
        yield process, said_by(process, start_timeout_s)
    finally:
        os.sched_setaffinity(0, allowed)
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to, and make it."""
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
    said: dict[str, Any] = json.loads(line)
    return said
