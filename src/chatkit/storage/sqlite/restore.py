"""Putting a backup in the place of a log: `chatkit restore`.

The backup is copied as SQLite reads it (with a write-ahead log that lies beside it), the copy is checked, and put in
place under the lock of that place. The former log is kept beside it, with its own write-ahead log: one that stayed
behind would be played into the backup. The next start gives every conversation a new epoch (`LastServed`).

The new file gets the owner and the mode of the former one, so that who served that can serve this. What is in the
place and is no log is left alone.

There is a log in that place at every moment. One that a power cut finds without its write-ahead log counts as put back,
and the kept names have all of it.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, closing, suppress

import msgspec

from ...drivers.file_lock import FileLock
from ...drivers.migrations import is_ours
from ...drivers.sqlite import copy_database, open_sqlite, sync_folder
from ...errors import ChatkitError, ConfigurationError
from ..verify_report import Report
from .last_served import forget_last_served
from .opening import APPLICATION_ID
from .verify import HEADER_BYTES, MAGIC, application_id_of, check_header, full_report, read_header


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
        path: Where the server looks for its log; this process has neither file open.
        suffix: Is added to the name of the former log, which is kept.

    Raises:
        ConfigurationError: The backup is damaged or no log, something else than a log is in the place, a server holds
            it, a file cannot be written or given to the owner of the former log, or the file system has no hard links.
        UnavailableError: A file is busy or the disk is full; a retry is safe.
    """
    _check_place(path)
    check_header(backup)
    lock = FileLock.acquire(path)
    if lock is None:
        raise ConfigurationError(f"a server holds the log {path}; stop it first")
    try:
        with ExitStack() as undo:
            kept, report = _put_in_place(backup, os.path.realpath(path), suffix, lock, undo)
            undo.pop_all()
    except OSError as error:
        raise ConfigurationError(f"cannot write beside {path}: {error.strerror}") from error
    finally:
        lock.release()
    return Restored(path, kept, report.conversations, report.messages)


def _check_place(path: str) -> None:
    """See that what has the name of a log is one, though it may be damaged; or that nothing has that name."""
    if not os.path.exists(path):
        return
    header = read_header(path)
    if not header.startswith(MAGIC[: len(header)]):
        raise _no_log(path)
    if len(header) < HEADER_BYTES or application_id_of(header) == APPLICATION_ID:
        return
    if application_id_of(header) != 0:
        raise _no_log(path)
    try:  # of a new log it may be in the write-ahead log alone whose it is
        with closing(open_sqlite(path, read_only=True)) as connection:
            known = is_ours(connection, APPLICATION_ID)
    except ChatkitError as error:
        raise _no_log(path) from error
    if not known:
        raise _no_log(path)


def _no_log(path: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no server's log: give the name of that; if this file is to be replaced, move it away first"
    )


def _put_in_place(
    backup: str, path: str, suffix: str, lock: FileLock, undo: ExitStack
) -> tuple[str | None, Report]:
    """Returns the name of the former log, if there was one, and what the new one has.

    `undo` takes back what was done so far, the last first.
    """
    fresh, kept, folder = f"{path}{suffix}-new", path + suffix, os.path.dirname(path)
    owner = _Owner.of_place(path)
    if os.geteuid() == 0:  # it may be new
        lock.give(owner.user, owner.group)
    undo.callback(_unlink, fresh)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    copy_database(backup, fresh)
    report = _checked(fresh, backup)
    owner.give(fresh)
    is_kept = _keep(path, kept, undo)
    _keep(path + "-wal", kept + "-wal", undo)
    sync_folder(folder)
    undo.callback(lock.write, lock.read(), durable=True)
    forget_last_served(lock, fresh)
    _unlink(path + "-wal")
    _unlink(path + "-shm")
    os.replace(fresh, path)
    sync_folder(folder)
    return kept if is_kept else None, report


def _checked(fresh: str, backup: str) -> Report:
    """What the copy has. Raises ConfigurationError, in words about the backup, if it is damaged or no log."""
    try:
        report = full_report(fresh)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace(fresh, backup)) from None
    if not report.whole:
        raise ConfigurationError(
            f"the backup {backup} is damaged: {report.findings[0].words}; take another one"
        )
    return report


class _Owner(msgspec.Struct, frozen=True):
    """Whose a log is to be, by the numbers of user and group, and who may do what with it."""

    user: int
    group: int
    mode: int

    @classmethod
    def of_place(cls, path: str) -> _Owner:
        """As it is with the former log; without one it is for one user alone, of root's for the folder's owner."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            if os.geteuid() != 0:
                return cls(os.geteuid(), os.getegid(), 0o600)
            found = os.stat(os.path.dirname(path))
            return cls(found.st_uid, found.st_gid, 0o600)
        return cls(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode) & 0o777)

    def give(self, path: str) -> None:
        """Make a file theirs, on the disk too. Raises ConfigurationError if this user may not do so."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fchown(handle, self.user, self.group)
            os.fchmod(handle, self.mode)
            os.fsync(handle)
        except PermissionError as error:
            raise ConfigurationError(
                f"the log is of user {self.user} and group {self.group}, and this user may not give them a file;"
                " restore it as that user or as root"
            ) from error
        finally:
            os.close(handle)


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
