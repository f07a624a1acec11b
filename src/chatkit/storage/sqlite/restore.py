"""Putting a backup in the place of a log: `chatkit restore`.

The backup is checked, copied as SQLite reads it (with a write-ahead log that lies beside it), and put in place under
the lock of that place. The former log is kept beside it, with its own write-ahead log: one that stayed behind would be
played into the backup. The next start gives every conversation a new epoch (`LastServed`).

There is a log in that place at every moment. One that a power cut finds without its write-ahead log counts as put back,
and the kept names have all of it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

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
        ConfigurationError: The backup is damaged or no log, a server holds the place, a file cannot be written, or its
            file system has no hard links.
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
    try:
        with ExitStack() as undo:
            kept = _put_in_place(backup, os.path.realpath(path), suffix, lock, undo)
            undo.pop_all()
    except OSError as error:
        raise ConfigurationError(f"cannot write beside {path}: {error.strerror}") from error
    finally:
        lock.release()
    return Restored(path, kept, report.conversations, report.messages)


def _put_in_place(backup: str, path: str, suffix: str, lock: FileLock, undo: ExitStack) -> str | None:
    """Returns the name of the former log, if there was one. `undo` takes back what was done so far, the last first."""
    fresh, kept, folder = f"{path}{suffix}-new", path + suffix, os.path.dirname(path)
    undo.callback(_unlink, fresh)
    copy_database(backup, fresh)
    is_kept = _keep(path, kept, undo)
    _keep(path + "-wal", kept + "-wal", undo)
    sync_folder(folder)
    undo.callback(lock.write, lock.read(), durable=True)
    forget_last_served(lock)
    _unlink(path + "-wal")
    _unlink(path + "-shm")
    os.replace(fresh, path)
    sync_folder(folder)
    return kept if is_kept else None


def _keep(path: str, kept: str, undo: ExitStack) -> bool:
    """Give a file a second name, so that it has one when its own is taken; returns whether there is a file."""
    try:
        os.link(path, kept)
    except FileNotFoundError:
        undo.callback(_unlink, path)
        return False
    undo.callback(_put_back, kept, path)
    return True


def _put_back(kept: str, path: str) -> None:
    os.replace(kept, path)  # does nothing while both are names of one file
    _unlink(kept)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
