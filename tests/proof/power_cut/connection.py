"""A connection on a recorded disk, in all else like `drivers.sqlite.open_sqlite`: the same pragmas, the same errors.

SQLite itself is another build here: apsw brings its own. One process must not open one file with both at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Literal

import apsw

from chatkit.drivers.sqlite import (
    BUSY_TIMEOUT_MS,
    CACHE_KIB,
    RETRY_AFTER_S,
    WAL_BYTES_MAX,
    Connection,
    DamagedError,
    DiskFailedError,
    Params,
    Row,
    log_of,
)
from chatkit.errors import ConfigurationError, UnavailableError

from .recording import RecordedDisk

Synchronous = Literal["FULL", "NORMAL", "OFF"]
"""When SQLite syncs: at every commit, at checkpoints only, never."""

CHECKPOINT_PAGES: Final = 1000
"""SQLite's own choice: how many pages the write-ahead log holds before it is written back."""

_SYNCHRONOUS: Final = {"FULL": 2, "NORMAL": 1, "OFF": 0}
_REFUSED: Final = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.NoMemError,
    apsw.CantOpenError,
    apsw.ProtocolError,
)
_FAILED: Final = (apsw.IOError, apsw.ReadOnlyError)
_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError)
_SET_UP: Final = (*_DAMAGED, apsw.CantOpenError, apsw.ReadOnlyError)
_ERRORS: Final = (apsw.Error, MemoryError, UnicodeDecodeError)


def open_recorded(
    path: str,
    *,
    read_only: bool = False,
    disk: RecordedDisk,
    synchronous: Synchronous = "FULL",
    checkpoint_pages: int = CHECKPOINT_PAGES,
) -> Connection:
    """Open a file on a recorded disk; with `disk` bound it is a `drivers.sqlite.Connect`.

    Args:
        path: A file, made if it is missing (not when read-only).
        read_only: Refuse every write through this connection.
        disk: What takes down the changes.
        synchronous: As in `open_sqlite`; OFF promises nothing.
        checkpoint_pages: A commit that leaves more pages in the write-ahead log writes them back.

    Raises:
        ConfigurationError: The file cannot be opened, is damaged, or a pragma does not hold.
        UnavailableError: The file is locked by somebody else; a retry is safe.
    """
    try:
        raw = apsw.Connection(path, flags=_flags(read_only), vfs=disk.vfs_name)
    except _ERRORS as error:
        raise _opening_error(error, path) from error
    try:
        _set_pragmas(raw, read_only, _SYNCHRONOUS[synchronous])
        if not read_only:
            _prove_writable(raw)
            if synchronous == "FULL":
                disk.write_anew(log_of(path))
            raw.set_wal_hook(_checkpointer(checkpoint_pages))
    except _ERRORS as error:
        _close(raw)
        raise _opening_error(error, path) from error
    except ConfigurationError:
        _close(raw)
        raise
    return RecordedConnection(raw, "BEGIN" if read_only else "BEGIN IMMEDIATE")


class RecordedConnection:
    """`drivers.sqlite.Connection` over apsw; made by `open_recorded`."""

    def __init__(self, raw: apsw.Connection, begin_sql: str) -> None:
        self._raw = raw
        self._begin_sql = begin_sql

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            return list(self._raw.execute(sql, tuple(params)))
        except _ERRORS as error:
            raise translated(error) from error

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one changing statement once per row of parameters."""
        try:
            self._raw.executemany(sql, [tuple(row) for row in rows])
        except _ERRORS as error:
            raise translated(error) from error

    def change(self, sql: str, params: Params = ()) -> int:
        """Run one changing statement and return how many rows it changed."""
        self.execute(sql, params)
        return self._raw.changes()

    def begin(self) -> None:
        """Start a write transaction; on a read-only connection, a snapshot."""
        self.execute(self._begin_sql)

    def commit(self) -> None:
        """Make the transaction durable; if it raises, the transaction may still be open."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """End the transaction without a trace; nothing to do if there is none."""
        if self._raw.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        """Release the file. Closing twice is nothing."""
        _close(self._raw)


def _flags(read_only: bool) -> int:
    if read_only:
        return apsw.SQLITE_OPEN_READONLY
    return apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE


def _set_pragmas(raw: apsw.Connection, read_only: bool, synchronous: int) -> None:
    if not read_only:
        raw.execute("PRAGMA journal_mode = wal")
    wanted: dict[str, int | str] = {
        "journal_size_limit": WAL_BYTES_MAX,
        "cache_size": -CACHE_KIB,  # negative means KiB
        "synchronous": synchronous,
        "fullfsync": 1,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": BUSY_TIMEOUT_MS,
        "query_only": int(read_only),
    }
    for name, value in wanted.items():
        raw.execute(f"PRAGMA {name} = {value}")
    for name, expected in [("journal_mode", "wal"), *wanted.items()]:
        found = raw.pragma(name)
        if found != expected:
            raise ConfigurationError(f"SQLite pragma {name} is {found!r}; it must be {expected!r}")


def _prove_writable(raw: apsw.Connection) -> None:
    """As `drivers.sqlite`: begin a write and take it back."""
    raw.execute("BEGIN IMMEDIATE")
    try:
        raw.execute("PRAGMA user_version = 0")
    finally:
        raw.execute("ROLLBACK")


def _checkpointer(checkpoint_pages: int) -> Callable[[apsw.Connection, str, int], int]:
    """SQLite's own habit after a commit, written out, since apsw would report a failed checkpoint as a failed commit.

    An error of a checkpoint is nobody's: the commit is durable, and the write-ahead log stays as it is.
    """

    def hook(raw: apsw.Connection, name: str, pages: int) -> int:
        if pages >= checkpoint_pages:
            with suppress(apsw.Error):
                raw.wal_checkpoint(name)
        return apsw.SQLITE_OK

    return hook


def _close(raw: apsw.Connection) -> None:
    """SQLite passes over errors of the last checkpoint; apsw tells them, and closes on the second try."""
    with suppress(apsw.Error):
        raw.close()
    raw.close()


def translated(error: Exception) -> Exception:
    """What a caller is to see of an error of apsw: the same as of sqlite3's."""
    words = str(error) or type(error).__name__
    if isinstance(error, (*_REFUSED, MemoryError)):
        return UnavailableError(f"storage refused: {words}", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, _DAMAGED):
        return DamagedError(f"storage is damaged: {words}", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, _FAILED):
        return DiskFailedError(f"storage failed: {words}", retry_after_s=RETRY_AFTER_S)
    return error


def _opening_error(error: Exception, path: str) -> Exception:
    found = translated(error)
    if isinstance(found, UnavailableError) and not isinstance(error, _SET_UP):
        return found
    if isinstance(error, apsw.CorruptError):
        return ConfigurationError(f"the SQLite file {path} is damaged: {error}; restore a backup")
    return ConfigurationError(f"cannot open the SQLite file {path}: {error}")
