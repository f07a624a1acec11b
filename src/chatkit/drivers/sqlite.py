"""The connection seam over SQLite: the only module that imports `sqlite3`.

Here live opening a file with the pragmas that durability rests on, and the one translation of SQLite's errors.
No table or query is known here. Called by `storage.sqlite` and by the client's local store. Another library
(apsw, for crash tests) can stand in by serving the `Connection` protocol.

A connection may be used from any thread, by one at a time; the caller sees to that.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import ConfigurationError, UnavailableError
from .sqlite_releases import faults_of

BUSY_TIMEOUT_MS = 2000
"""How long a statement waits for another writer before it is refused."""

RETRY_AFTER_S = 1.0
"""Seconds after which to try again, in every `UnavailableError` made here."""

WAL_BYTES_MAX = 64 * 1024 * 1024
"""The write-ahead log is cut back to this size once it has been checkpointed."""

CACHE_KIB = 8 * 1024
"""Pages kept in memory, per connection at most."""

MEMORY = ":memory:"
"""The path of a database that lives as long as its one connection."""

SQLITE_VERSION = sqlite3.sqlite_version_info
"""Of the library that Python brings."""

Row = tuple[Any, ...]
Params = Sequence[Any]

_ROLLBACK_JOURNAL = "delete"
"""The journal mode of a file that has no write-ahead log."""

_SYNCHRONOUS = {"FULL": 2, "NORMAL": 1}
_REFUSED = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_KINDS = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_NOMEM: "memory",
}
_FAILED = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SET_UP = _DAMAGED | {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
"""What a person must set right, if a file is opened; of an open file it means something else."""

_CHUNK_BYTES = 1024 * 1024

_PAGES_PER_STEP = 1024
"""Of a copy: 4 MiB at a time."""

_TICK_STEPS = 200_000
"""Steps of SQLite's machine between two ticks: some milliseconds."""

_NO_TEXT = "Could not decode to UTF-8"
_NO_WORDS = "what SQLite says of its schema is not UTF-8"

_ERRORS = (sqlite3.DatabaseError, MemoryError, UnicodeDecodeError)
"""What sqlite3 raises. SQLITE_NOMEM comes as a MemoryError without a code; a UnicodeDecodeError comes in place of
an error whose words are not UTF-8, which hold a name from a damaged schema."""


SqliteError = sqlite3.Error
"""Base of what passes through here untranslated."""


class DiskFailedError(UnavailableError):
    """The disk, or what is on it, is broken: nobody knows what the last write left behind.

    The file must be opened anew before anything more is written to it.
    """

    kind = "disk"


class DamagedError(DiskFailedError):
    """What is on the disk is not what was written to it. Opening the file anew does not help; a backup does."""

    kind = "damaged"


class DamagedRowError(UnavailableError):
    """A row is not what was written to it. Other rows can be read and written; a backup helps."""

    kind = "damaged"


class DamagedFileError(ConfigurationError):
    """A file that was to be opened is not what was written to it; a backup helps."""


class Connection(Protocol):
    """What chatkit asks of a SQLite library.

    Every method raises `UnavailableError` if SQLite is busy, full, out of memory or cannot reach its file, and
    `DiskFailedError` if the disk failed, or what is on it can no longer be read (then `DamagedError`) or written,
    and `DamagedRowError` if a text is not UTF-8; other errors pass through.
    """

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement and return all its rows."""

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one changing statement once per row of parameters."""

    def change(self, sql: str, params: Params = ()) -> int:
        """Run one changing statement and return how many rows it changed."""

    def begin(self) -> None:
        """Start a write transaction (BEGIN IMMEDIATE); on a read-only connection, a snapshot."""

    def commit(self) -> None:
        """Make the transaction durable; if it raises, the transaction may still be open."""

    def rollback(self) -> None:
        """End the transaction without a trace; nothing to do if there is none."""

    def close(self) -> None:
        """Release the file. Closing twice is nothing."""


class Connect(Protocol):
    """What opens connections: `open_sqlite`, or a stand-in for it."""

    def __call__(self, path: str, *, read_only: bool = False) -> Connection:
        """Open a file, made if it is missing; with `read_only`, one that is there."""


class SqliteConnection:
    """`Connection` over the standard library's sqlite3; made by `open_sqlite`."""

    def __init__(self, raw: sqlite3.Connection, begin_sql: str) -> None:
        self._raw = raw
        self._begin_sql = begin_sql

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            return self._raw.execute(sql, _bindings(sql, params)).fetchall()
        except _ERRORS as error:
            raise _translated(error) from _cause(error)

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one changing statement once per row of parameters."""
        try:
            self._raw.executemany(sql, [_bindings(sql, row) for row in rows] if _is_numbered(sql) else rows)
        except _ERRORS as error:
            raise _translated(error) from _cause(error)

    def change(self, sql: str, params: Params = ()) -> int:
        """Run one changing statement and return how many rows it changed."""
        try:
            return self._raw.execute(sql, _bindings(sql, params)).rowcount
        except _ERRORS as error:
            raise _translated(error) from _cause(error)

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
        self._raw.close()


@lru_cache(maxsize=1024)
def _is_numbered(sql: str) -> bool:
    """Whether a statement has numbered placeholders. Long statements are not searched each time."""
    return "?1" in sql


def _bindings(sql: str, params: Params) -> Params | dict[str, Any]:
    """Numbered placeholders by name: Python 3.12.0 and 3.12.1 warn when they are given a sequence."""
    if not _is_numbered(sql):
        return params
    return {str(number): value for number, value in enumerate(params, 1)}


def open_sqlite(
    path: str,
    *,
    read_only: bool = False,
    synchronous: Literal["FULL", "NORMAL"] = "FULL",
    tick: Callable[[], object] | None = None,
) -> Connection:
    """Open a database file, made if it is missing (not when read-only), with the pragmas chatkit rests on.

    Args:
        path: A file, or `:memory:` for a database that ends with this connection.
        read_only: Refuse every write through this connection. Its file may have a rollback journal, as a backup made by
            VACUUM INTO has; every other one is given a write-ahead log.
        synchronous: FULL makes every commit outlive a power cut, also those that a killed process left in the file;
            NORMAL only a crash of the process.
        tick: Called every few milliseconds while a statement runs, in its thread. With it, Ctrl-C ends a statement of
            the main thread with KeyboardInterrupt.

    Returns:
        A connection whose pragmas were read back and hold. SQL may call `is_utf8` on a blob.

    Raises:
        ConfigurationError: The file cannot be opened or written, is no SQLite file or a damaged one (then
            `DamagedFileError`), or a pragma does not hold.
        UnavailableError: The file is locked by somebody else; a retry is safe.
    """
    try:
        if not read_only:
            _make_private(path)
        raw = _connect(path, read_only)
    except _ERRORS as error:
        raise _opening_error(error, path) from _cause(error)
    try:
        _set_pragmas(raw, path, read_only, _SYNCHRONOUS[synchronous])
        if not read_only:
            _prove_writable(raw)
        if not read_only and synchronous == "FULL" and path != MEMORY:
            _make_durable(raw, log_of(path))
    except _ERRORS as error:
        raw.close()
        raise _opening_error(error, path) from _cause(error)
    except ConfigurationError:
        raw.close()
        raise
    raw.create_function("is_utf8", 1, _is_utf8, deterministic=True)
    if tick is not None:
        raw.set_progress_handler(partial(_go_on, tick), _TICK_STEPS)
    return SqliteConnection(raw, "BEGIN" if read_only else "BEGIN IMMEDIATE")


def _go_on(tick: Callable[[], object]) -> int:
    tick()
    return 0  # anything else would end the statement


def _is_utf8(text: object) -> bool:
    """Whether sqlite3 can return a text that was cast to a blob; SQLite itself stores any bytes as one."""
    try:
        return not isinstance(text, bytes) or text.decode() is not None
    except UnicodeDecodeError:
        return False


def version_fault() -> str:
    """What is wrong with the SQLite that Python brings; empty if nothing is known."""
    faults = faults_of(SQLITE_VERSION)
    return "; ".join(f"SQLite {sqlite3.sqlite_version} {it.words}: {it.advice}" for it in faults)


def log_of(path: str) -> str:
    """Where the write-ahead log of a database file is."""
    return os.path.realpath(path) + "-wal"


def shared_memory_of(path: str) -> str:
    """Where the index of the write-ahead log is, with the locks that all of its users agree by."""
    return os.path.realpath(path) + "-shm"


def _make_durable(raw: sqlite3.Connection, log: str) -> None:
    """Write the write-ahead log onto the disk once more, byte for byte, while nobody else can write to it.

    A killed process leaves commits that only the kernel's memory holds, and SQLite reads them back as if they were
    durable: they would be answered from, and a power cut would take them. After a failed fsync the kernel even counts
    them as written, so that a sync alone does nothing. (SQLite's locks are on other files, so a second handle on this
    one breaks none.)
    """
    raw.execute("BEGIN IMMEDIATE")
    try:
        with open(log, "r+b") as file:
            while chunk := file.read(_CHUNK_BYTES):
                file.seek(-len(chunk), os.SEEK_CUR)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(os.path.dirname(log))
    except FileNotFoundError:
        pass  # nothing was left
    except OSError as error:
        raise ConfigurationError(f"cannot write the file {log}: {error.strerror}") from error
    finally:
        raw.execute("ROLLBACK")


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_database(source: str, target: str, on_step: Callable[[int, int], object] | None = None) -> None:
    """Copy a database, as it is read now, into an empty file that is there; it is not synced.

    A write-ahead log beside the source is part of what is copied; the copy has none. All of it is of one moment: a
    snapshot is held until the end, so that writers of the source go on, and their write-ahead log grows meanwhile. (A
    copy in steps without one begins again with each write.)

    Args:
        source: It is opened by SQLite only, so that this process may have it open.
        target: What was copied so far is worth nothing until this returns.
        on_step: Called with the bytes copied so far and all of them, first before anything was copied, then some
            hundred times a second. What it raises ends the copy.

    Raises:
        ConfigurationError: The source cannot be opened.
        DamagedFileError: What the source has on the disk cannot be read.
        UnavailableError: It is busy, or the disk is full.
    """
    try:
        with closing(_connect(source, read_only=True)) as reader, closing(sqlite3.connect(target)) as writer:
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
            ):  # a copy that was broken off is not gone on with
                writer.execute(f"PRAGMA {pragma}")
            _copy(reader, writer, on_step or (lambda done, total: None))
            writer.execute(
                "PRAGMA journal_mode = DELETE"
            )  # one file, which can be read where nothing can be written
    except _ERRORS as error:
        raise _opening_error(error, source) from _cause(error)


def _copy(
    reader: sqlite3.Connection, writer: sqlite3.Connection, on_step: Callable[[int, int], object]
) -> None:
    reader.execute("BEGIN")
    ((pages, page_bytes),) = reader.execute(
        "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size"
    )
    on_step(0, pages * page_bytes)

    def progress(_status: int, left: int, total: int) -> None:
        on_step((total - left) * page_bytes, total * page_bytes)

    reader.backup(writer, pages=_PAGES_PER_STEP, progress=progress)


def _make_private(path: str) -> None:
    """Make a file that is missing, for its owner alone; SQLite gives the mode to the files beside it.

    One that is there keeps its mode, and is not opened: closing a second handle would end SQLite's own locks.
    """
    if path != MEMORY:
        with suppress(OSError):  # it is there, or cannot be made, which SQLite says in its own words
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _connect(path: str, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    uri = path if path == MEMORY else f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri,
        uri=path != MEMORY,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def _set_pragmas(raw: sqlite3.Connection, path: str, read_only: bool, synchronous: int) -> None:
    """Set each pragma, then read it back: SQLite ignores what it cannot or will not do without a word."""
    journal = "memory" if path == MEMORY else "wal"
    if not read_only:
        _make_shrinkable(raw)
        raw.execute(f"PRAGMA journal_mode = {journal}")
    raw.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    wanted: dict[str, int] = {
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
    for name, expected in [("journal_mode", journal), *wanted.items()]:
        (found,) = raw.execute(f"PRAGMA {name}").fetchone()
        if found != expected and not (read_only and found == _ROLLBACK_JOURNAL):
            raise ConfigurationError(
                f"SQLite pragma {name} is {found!r} on this file; it must be {expected!r}"
            )


def _make_shrinkable(raw: sqlite3.Connection) -> None:
    """Have a new file keep what it takes to give free pages back. It must be said before anything is in it; said of a
    file that has pages, it would be a write."""
    if raw.execute("PRAGMA page_count").fetchone() == (0,):
        raw.execute("PRAGMA auto_vacuum = INCREMENTAL")


def _prove_writable(raw: sqlite3.Connection) -> None:
    """Begin a write and take it back; nothing reaches the file.

    SQLite opens a file that it may not write for reading only, and in WAL mode no pragma tells: without this, the
    first change would.
    """
    raw.execute("BEGIN IMMEDIATE")
    try:
        raw.execute("PRAGMA user_version = 0")
    finally:
        raw.execute("ROLLBACK")


def _primary(error: Exception) -> int:
    """The family of an error; the upper bits of its code only detail it."""
    if isinstance(error, MemoryError):
        return sqlite3.SQLITE_NOMEM
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _translated(error: Exception) -> BaseException:
    """What a caller is to see of a SQLite error: itself, unless it says "not now", "disk broken" or "interrupted"."""
    primary = _primary(error)
    if primary == sqlite3.SQLITE_INTERRUPT:  # sqlite3 drops the KeyboardInterrupt that was raised in a tick
        return KeyboardInterrupt()
    if primary in _REFUSED:
        reason = str(error) or "out of memory"  # a MemoryError has no words
        kind = _KINDS.get(primary)
        return UnavailableError(f"storage refused: {reason}", retry_after_s=RETRY_AFTER_S, kind=kind)
    if primary in _DAMAGED:
        return DamagedError(f"storage is damaged: {error}", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, UnicodeDecodeError):
        return DamagedError(f"storage is damaged: {_NO_WORDS}", retry_after_s=RETRY_AFTER_S)
    if _NO_TEXT in str(error):  # sqlite3's own finding, without a code; its other words are the text itself
        return DamagedRowError("storage is damaged: a text is not UTF-8", retry_after_s=RETRY_AFTER_S)
    if primary in _FAILED:
        return DiskFailedError(f"storage failed: {error}", retry_after_s=RETRY_AFTER_S)
    return error


def _cause(error: Exception) -> Exception | None:
    """What a traceback may show; nothing of an error whose words hold a stored text."""
    return None if isinstance(error, UnicodeDecodeError) or _NO_TEXT in str(error) else error


def _opening_error(error: Exception, path: str) -> BaseException:
    translated = _translated(error)
    if isinstance(error, UnicodeDecodeError):
        return DamagedFileError(f"the SQLite file {path} is damaged: {_NO_WORDS}; restore a backup")
    if isinstance(translated, UnavailableError) and _primary(error) not in _SET_UP:
        return translated
    if _primary(error) == sqlite3.SQLITE_CORRUPT:
        return DamagedFileError(f"the SQLite file {path} is damaged: {error}; restore a backup")
    return ConfigurationError(f"cannot open the SQLite file {path}: {error}")


def is_complete_statement(sql: str) -> bool:
    """Whether the text ends a statement; a trigger with its inner semicolons is one."""
    return sqlite3.complete_statement(sql)
