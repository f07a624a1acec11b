"""Databases that a test changes or copies between two servers, and that may not count as put back from a backup."""

from __future__ import annotations

from pathlib import Path

from chatkit.drivers.file_lock import SUFFIX


def count_as_served(database: str | Path) -> None:
    """Let a file pass for the one that was last served from its place, by a server that was killed.

    The word beside it says how far the log had got; which file it was and when that was changed is set anew.
    """
    owner = Path(f"{database}{SUFFIX}")
    _, position, *_ = owner.read_text("ascii").split()
    owner.write_text(f"{Path(database).stat().st_ino:020} {position} {0:020} {0:020}\n", "ascii")


def pass_a_tick(folder: Path) -> None:
    """Return once the clock of a file system has gone on, so that what is done next has another time."""
    probe = folder / "probe"
    probe.touch()
    before = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == before:
        probe.touch()
    probe.unlink()
