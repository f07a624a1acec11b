"""The machine: descriptors, memory, clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import anyio

from ...ports import Clock, SystemClock
from ..descriptors import descriptors_max, fitted
from .base import Finding, Subject, in_thread

SESSION_BYTES: Final = 40 * 1024
"""What a session holds when it is idle, about (docs/scale.md)."""

BASE_BYTES: Final = 150 * 1024 * 1024
"""What a server holds before anybody comes, about."""

_CGROUP_FILES: Final = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT: Final = 2**60
_SAMPLE_S: Final = 0.2
_DRIFT_MAX_S: Final = 0.05


async def descriptors(subject: Subject) -> list[Finding]:
    """Whether the process may open as many sockets as it is to have sessions."""
    most = descriptors_max()
    takes = fitted(subject.config, most).sessions_max
    words = f"{most} descriptors, which is room for {takes} sessions"
    if takes >= subject.config.sessions_max:
        return [Finding("descriptors", "ok", words)]
    wanted = 2 * subject.config.sessions_max
    words += f" of the {subject.config.sessions_max} that are set"
    return [
        Finding("descriptors", "warning", words, f"ulimit -n {wanted}, or LimitNOFILE={wanted} in systemd")
    ]


async def memory(subject: Subject) -> list[Finding]:
    """Whether the memory that the system grants is enough for what the settings allow."""
    limit = await in_thread(_memory_limit, subject.root)
    config = subject.config
    each = BASE_BYTES + config.commit_queue_bytes_max + config.sessions_max * SESSION_BYTES
    wanted = subject.workers * each
    if limit is None:
        return [Finding("memory", "ok", "no limit of the system is known")]
    words = f"{_mb(limit)} may be used, and {_mb(wanted)} are wanted with {config.sessions_max} sessions"
    words += f" in each of {subject.workers} processes" if subject.workers > 1 else ""
    if limit >= wanted:
        return [Finding("memory", "ok", words)]
    return [
        Finding("memory", "warning", words, "grant more, or lower sessions_max and commit_queue_bytes_max")
    ]


def _memory_limit(root: Path) -> int | None:
    """Of the cgroup, or what the machine has; None if nobody can say."""
    found = [int(text) for name in _CGROUP_FILES if (text := _read(root / name)).isdigit()]
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            found.append(int(line.split()[1]) * 1024)
    return min((it for it in found if it < _NO_LIMIT), default=None)


async def clocks(_: Subject) -> list[Finding]:
    """Whether the machine's two clocks run alike: deadlines rest on the one, stamps and tokens on the other."""
    drift_s = await _drift_s(SystemClock())
    words = f"the clocks of the machine differ by {abs(drift_s) * 1000:.1f} ms in {_SAMPLE_S} s"
    if abs(drift_s) <= _DRIFT_MAX_S:
        return [Finding("clocks", "ok", words)]
    return [
        Finding(
            "clocks", "warning", words, "let NTP or chrony keep the time, which it changes in small steps"
        )
    ]


async def _drift_s(clock: Clock) -> float:
    wall_ms, steady_s = clock.now_ms(), clock.now_s()
    await anyio.sleep(_SAMPLE_S)
    return (clock.now_ms() - wall_ms) / 1000 - (clock.now_s() - steady_s)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _mb(size: int) -> str:
    return f"{size // (1024 * 1024)} MiB"
