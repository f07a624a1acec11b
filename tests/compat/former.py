"""The former version: built as a wheel from its revision by pip, and installed into a folder of its own.

It runs in processes of its own, with that folder first on the path, and with the dependencies that are here. Once there
are releases, the revision is the tag of the newest one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import missing

FORMER = "f833582a01faa30197041a3642e9eec647793d15"
"""Served one node, or several in one process: before PostgreSQL, and before the buses with a server."""

ROOT = Path(__file__).parents[2]


class Former:
    """The former version, installed.

    Attributes:
        library: The folder to put on the path.
        source: Its tree.
    """

    def __init__(self, folder: Path) -> None:
        self.library = folder / "library"
        self.source = folder / "source"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Python imports it."""
        return {"PYTHONPATH": str(self.library)}

    def run(self, program: str, *arguments: str, given: bytes = b"") -> bytes:
        """What a program that imports it prints."""
        command = [sys.executable, "-P", "-c", program, *arguments]
        done = subprocess.run(
            command, input=given, capture_output=True, env=os.environ | self.environment, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def build(folder: Path) -> Former:
    """Make the wheel and install it. Where there is no such revision, or no pip, the test ends (`missing`)."""
    former = Former(folder)
    former.source.mkdir()
    _unpack(former.source)
    wheels = folder / "wheels"
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(former.source))
    (wheel,) = wheels.glob("*.whl")
    _pip("install", "--no-deps", "--no-index", "--no-compile", "--target", str(former.library), str(wheel))
    return former


def _unpack(folder: Path) -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        missing("the former version is a revision of a git clone")
    archive = folder / "former.tar"
    done = subprocess.run(
        [git, "-C", str(ROOT), "archive", "--output", str(archive), FORMER], capture_output=True, check=False
    )
    if done.returncode != 0 and _is_shallow(git):
        pytest.skip("a shallow clone has no former version")
    if done.returncode != 0:
        missing(f"this clone has no revision {FORMER[:12]}: fetch all of the history")
    shutil.unpack_archive(archive, folder, filter="data")
    archive.unlink()


def _is_shallow(git: str) -> bool:
    asked = subprocess.run(
        [git, "-C", str(ROOT), "rev-parse", "--is-shallow-repository"],
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.strip() == "true"


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
