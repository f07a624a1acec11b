"""A source tree of chatkit with an interpreter of its own, so that two versions can be measured side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
"""The tree this file is in."""


class CannotMeasureError(Exception):
    """There is nothing to measure, or what is measured does not work."""


class Tree:
    """A checkout: `src/chatkit`, and `.venv` as `make setup` makes it.

    Raises:
        CannotMeasureError: There is no chatkit, or no environment (in this file's own tree the current one will do).
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.package = self.path / "src" / "chatkit"
        if not self.package.is_dir():
            raise CannotMeasureError(f"{path} holds no src/chatkit")
        own = self.path / ".venv" / "bin" / "python"
        if not own.exists() and self.path != HERE:
            raise CannotMeasureError(f"{path} has no .venv: run `make setup` there")
        self.python = str(own) if own.exists() else sys.executable

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables under which `python` imports this tree's chatkit and no other."""
        return {**os.environ, "PYTHONPATH": str(self.package.parent)}

    @property
    def commit(self) -> str:
        """What git calls it, with `-dirty` for what is not committed; `unknown` outside of git."""
        found = subprocess.run(
            ["git", "-C", str(self.path), "describe", "--always", "--dirty", "--abbrev=7"],
            capture_output=True,
            text=True,
        )
        return found.stdout.strip() or "unknown"
