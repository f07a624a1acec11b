"""Databases that a test changes between two servers, as a fault would and not as a backup that is put back."""

from __future__ import annotations

from pathlib import Path

from chatkit.drivers.file_lock import SUFFIX


def count_as_served(database: str | Path) -> None:
    """Let a changed file pass for the one that was last served from its place, by a server that was killed."""
    owner = Path(f"{database}{SUFFIX}")
    file_number, position, _ = owner.read_text("ascii").split()
    owner.write_text(f"{file_number} {position} {0:020}\n", "ascii")
