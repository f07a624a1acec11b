"""Writes a log anew without its free pages, and so that it can give them back by itself from then on."""

from __future__ import annotations

import os
from contextlib import closing

from ...drivers.file_lock import FileLock
from ...drivers.sqlite import Connection, open_sqlite
from ...errors import ConfigurationError
from . import reads
from .last_served import LastServed
from .opening import check_newest
from .verify import check_header


def shrink_file(path: str) -> tuple[int, int]:
    """VACUUM a log that nobody serves.

    SQLite writes it anew beside itself first; whatever ends it, the file is as it was or as it is to be. To the next
    server it is the log that was served here before, unless it had been put back before this.

    Returns:
        Its size before and after, in bytes.

    Raises:
        ConfigurationError: There is no such file, it is no log or a damaged one, or a server runs on it.
        UnavailableError: The disk is full, or the file is busy; a retry is safe.
    """
    check_header(path)
    lock = FileLock.acquire(path)
    if lock is None:
        raise ConfigurationError(f"the log {path} is in use by a server; stop that one first")
    try:
        served = LastServed(lock, path)
        with closing(open_sqlite(path)) as connection:
            check_newest(connection)
            position = reads.position(connection)
            is_ours = not served.is_older(position)  # else the next server must still find out
            if is_ours:
                served.take(position)
            before = _write_anew(connection, path)
        if is_ours:
            served.leave(position)
        return before, os.stat(path).st_size
    finally:
        lock.release()


def _write_anew(connection: Connection, path: str) -> int:
    """Returns the former size."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = os.stat(path).st_size
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before
