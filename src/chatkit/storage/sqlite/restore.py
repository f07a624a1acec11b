"""Putting a backup in the place of a log: `chatkit restore`.

The backup is checked, copied as SQLite reads it (with a write-ahead log that lies beside it), and put in place under
the lock of that place. The former log is kept beside it, with its own write-ahead log: one that stayed behind would be
played into the backup. The next start gives every conversation a new epoch (`LastServed`).
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from ...drivers.file_lock import FileLock
from ...drivers.sqlite import copy_database, sync_folder
from ...errors import ConfigurationError
from .last_served import forget_last_served
from .verify import full_report


class Restored(msgspec.Struct, frozen=True):
    """What was put in place.

    Attributes:
        file: The log.
        kept: Where the former log is now; None if there was none.
        conversations: How many the log has now.
        messages: How many entries.
    """

    file: str
    kept: str | None
    conversations: int
    messages: int


def restore_file(backup: str, path: str, suffix: str) -> Restored:
    """Put a copy of a backup in the place of a log; all of it is there afterwards, or nothing was changed.

    Args:
        backup: A log; it is only read.
        path: Where the server looks for its log.
        suffix: Is added to the name of the former log, which is kept.

    Raises:
        ConfigurationError: The backup is damaged or no log, a server holds the place, or a file cannot be written.
        UnavailableError: A file is busy or the disk is full; a retry is safe.
    """
    report = full_report(backup)
    if not report.whole:
        raise ConfigurationError(
            f"the backup {backup} is damaged: {report.findings[0].words}; take another one"
        )
    lock = FileLock.acquire(path)
    if lock is None:
        raise ConfigurationError(f"a server holds the log {path}; stop it first")
    fresh = f"{path}{suffix}-new"
    try:
        copy_database(backup, fresh)
        kept = _set_aside(path, path + suffix)
        forget_last_served(lock)
        os.replace(fresh, path)
        sync_folder(os.path.dirname(os.path.realpath(path)))
    except OSError as error:
        raise ConfigurationError(f"cannot write beside {path}: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        lock.release()
    return Restored(path, kept, report.conversations, report.messages)


def _set_aside(path: str, kept: str) -> str | None:
    """Rename the former log and what belongs to it; returns its new name."""
    if not os.path.exists(path):
        return None
    with suppress(FileNotFoundError):
        os.replace(path + "-wal", kept + "-wal")  # first: without it the rest is still a log, only older
    os.replace(path, kept)
    with suppress(FileNotFoundError):
        os.unlink(path + "-shm")
    return kept
