"""The rivals' packages, of stated versions, in a folder of their own beside this project's environment."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from ..tree import HERE, CannotMeasureError

_LISTS = Path(__file__).parent
FOLDER = HERE / ".venv-rivals"
PYTHON = FOLDER / "bin" / "python"
NODE_MODULES = FOLDER / "node_modules"


def install_python() -> None:
    """What is on PyPI. Does nothing where it has been done.

    Raises:
        CannotMeasureError: It cannot be had.
    """
    wanted = _LISTS / "requirements.txt"
    if _is_done(wanted):
        return
    _run(sys.executable, "-m", "venv", str(FOLDER))
    _run(str(PYTHON), "-m", "pip", "install", "--quiet", "--requirement", str(wanted))
    _done(wanted)


def install_node() -> None:
    """What is on npm. Does nothing where it has been done.

    Raises:
        CannotMeasureError: There is no Node.js, or it cannot be had.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CannotMeasureError("no Node.js here, which runs socket.io")
    wanted = _LISTS / "package.json"
    if _is_done(wanted):
        return
    FOLDER.mkdir(exist_ok=True)
    shutil.copy(wanted, FOLDER)
    quiet = ["--silent", "--no-audit", "--no-fund", "--no-package-lock"]
    _run("npm", "install", "--prefix", str(FOLDER), *quiet)
    _done(wanted)


def versions() -> dict[str, str]:
    """Of what is installed."""
    found = {}
    if _is_done(_LISTS / "requirements.txt"):
        lines = (_LISTS / "requirements.txt").read_text().split()
        found |= dict(line.split("==") for line in lines)
    if _is_done(_LISTS / "package.json") and shutil.which("node") is not None:
        for name in ("socket.io", "engine.io", "ws", "better-sqlite3", "pg"):
            found[name] = _run("node", "-p", f"require('{NODE_MODULES}/{name}/package.json').version")
        found["node"] = _run("node", "--version")
    return found


def _stamp(wanted: Path) -> Path:
    return FOLDER / f".{wanted.name}-{hashlib.sha256(wanted.read_bytes()).hexdigest()[:16]}"


def _is_done(wanted: Path) -> bool:
    return _stamp(wanted).exists()


def _done(wanted: Path) -> None:
    _stamp(wanted).touch()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasureError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout.strip()
