"""Ways to have a backup of a SQLite log, and to put it back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from tests.servers.litestream import Litestream

LOG = "chat.db"


class Way(Protocol):
    """One way. Its methods block, and raise AssertionError with the words of the tool that failed."""

    def begin(self) -> None:
        """Do what has to be done each time that the server has begun to serve a log."""

    def take(self) -> None:
        """Have a backup of what was acknowledged before this was called."""

    def put_back(self) -> None:
        """Put the newest backup in the place of the log. The server was killed."""

    def end(self) -> None:
        """Leave nothing running."""


class ByCommand:
    """`chatkit backup` while the server runs, and `chatkit restore`.

    Args:
        folder: Where the log is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest = ""

    def begin(self) -> None:
        (self._folder / "backups").mkdir(exist_ok=True)

    def take(self) -> None:
        self._newest = json.loads(chatkit(self._folder, "backup", LOG, "backups", "--keep", "2", "--json"))[
            "file"
        ]

    def put_back(self) -> None:
        chatkit(self._folder, "restore", self._newest, LOG)

    def end(self) -> None:
        pass


class ByLitestream:
    """Litestream beside the server. The machine is lost with all that has not arrived elsewhere.

    Args:
        folder: Where the log is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._litestream: Litestream | None = None

    def begin(self) -> None:
        self._count += 1
        self._litestream = Litestream(self._folder / LOG, self._folder / f"replica-{self._count}")
        self._litestream.start()

    def take(self) -> None:
        assert self._litestream is not None
        self._litestream.wait()

    def put_back(self) -> None:
        assert self._litestream is not None
        self._litestream.kill()
        for path in [*self._folder.glob(f"{LOG}*"), *self._folder.glob(f".{LOG}-litestream")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        restored = self._folder / "restored.db"
        restored.unlink(missing_ok=True)
        self._litestream.restore(restored)
        chatkit(self._folder, "restore", str(restored), LOG)

    def end(self) -> None:
        if self._litestream is not None:
            self._litestream.stop()


def chatkit(folder: Path, *arguments: str) -> str:
    """What a command prints; it must end with 0."""
    command = [sys.executable, "-m", "chatkit", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"chatkit {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout
