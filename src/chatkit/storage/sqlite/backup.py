"""Making a backup of a log, also while it is served: `chatkit backup`.

The copy is of one moment, and is made under another name: what has the name of the backup is a whole one, whenever the
power is cut. Where an earlier try ended half way, the next one takes its file over.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from ...drivers.file_lock import SUFFIX, lock_handle
from ...drivers.sqlite import RETRY_AFTER_S, DamagedFileError, DiskFailedError, copy_database, sync_folder
from ...errors import ChatkitError, ConfigurationError, UnavailableError
from ..verify_report import Progress, Report
from .last_served import CLOSED_SUFFIX
from .opening import APPLICATION_ID
from .verify import application_id_of, check_header, read_header, verify_file

PARTIAL_SUFFIX: Final = ".partial"
"""What the name of a backup ends with while it is made."""

_SIDE_FILES: Final = ("-journal", "-wal", "-shm")


class DamagedLogError(ChatkitError):
    """There is no backup of a log that is not what was written to it."""


class BackedUp(msgspec.Struct, frozen=True):
    """A backup that was made.

    Attributes:
        file: It; a single file.
        bytes: Its size.
        verified: Whether all of it was read and found whole. If not, the counts are 0.
        conversations: How many it has.
        messages: How many entries.
    """

    file: str
    bytes: int
    verified: bool
    conversations: int
    messages: int


def backup_file(
    path: str,
    target: str,
    *,
    replace: bool = False,
    verify: bool = True,
    on_step: Callable[[Progress], object] = lambda step: None,
    tick: Callable[[], object] = lambda: None,
) -> BackedUp:
    """Copy a log as it is now into a file that is durable, belongs to this user and has mode 0600.

    Whoever serves the log goes on; its write-ahead log grows until the copy is made, and not while that is checked. If
    this fails or is broken off, nothing has the name of the backup that had it not before.

    Args:
        path: The log. This process does not have it open.
        target: The backup.
        replace: Take the place of a backup that has this name.
        verify: Read all of the copy before it gets its name.
        on_step: Told how far this is.
        tick: Called every few milliseconds while the copy is read.

    Raises:
        ConfigurationError: The log cannot be read or is none, or the place of the backup is taken, or not for backups.
        DamagedLogError: What the log has on the disk cannot be read, or the copy was checked and is damaged.
        UnavailableError: The log is busy or the disk too small; a retry is safe.
    """
    check_header(path)
    report = Report()
    try:
        _check_place(path, target, replace=replace)
        with _partial(target) as partial:
            _copy(path, partial, on_step)
            if verify:
                _verify(partial, path, report, on_step, tick)
            _check_place(path, target, replace=replace)
            size = _put_in_place(partial, target)
    except OSError as error:
        raise ConfigurationError(f"cannot write the backup {target}: {error.strerror}") from error
    return BackedUp(target, size, verify, report.conversations, report.messages)


def remove_partial(target: str) -> None:
    """Remove what a process that was killed left of a backup, if it is this user's and nobody is making it now."""
    with suppress(ConfigurationError, OSError), _partial(target):
        pass


def _check_place(path: str, target: str, *, replace: bool) -> None:
    """See that the name is free, or that of another backup. A log that is, or was, served has marks beside it."""
    if os.path.exists(target) and os.path.samefile(path, target):
        raise ConfigurationError(f"{target} is the log itself; name another file for the backup")
    if any(os.path.lexists(target + suffix) for suffix in (SUFFIX, CLOSED_SUFFIX)):
        raise ConfigurationError(
            f"{target} is the place of a server's log; name another file, or put a backup there by `chatkit restore`"
        )
    if not os.path.lexists(target):
        return
    if not replace:
        raise ConfigurationError(f"{target} is there already; name another file, or replace it by --force")
    if application_id_of(read_header(target)) != APPLICATION_ID:
        raise ConfigurationError(f"{target} is no backup of a log; name another file, or move it away first")


@contextmanager
def _partial(target: str) -> Iterator[str]:
    """An empty file beside the backup, which nobody else can read or write; it is gone at the end.

    What was left by a process that was killed is taken over: only what belongs to this user, has no other name and is
    no link, so that in a folder for everybody nobody is tricked into writing elsewhere.
    """
    partial = target + PARTIAL_SUFFIX
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not lock_handle(handle) or not _is_still(partial, handle):
            raise ConfigurationError(f"another backup is just being written to {partial}")
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise ConfigurationError(f"{partial} is not a file of this user's alone; move it away first")
        try:
            os.fchmod(handle, 0o600)
            os.ftruncate(handle, 0)
            _remove_sides(partial)
            yield partial
        finally:
            if _is_still(partial, handle):
                os.unlink(partial)
                _remove_sides(partial)
    finally:
        os.close(handle)  # after SQLite: it would end the locks that this process has on the file


def _is_still(path: str, handle: int) -> bool:
    """Whether an open file has its name still; another backup may have renamed it before it could be locked."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove_sides(path: str) -> None:
    for suffix in _SIDE_FILES:
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)


def _copy(path: str, partial: str, on_step: Callable[[Progress], object]) -> None:
    def copied(done: int, total: int) -> None:
        if done == 0:
            _check_room(partial, total)
        on_step(Progress("copy", done, total))

    try:
        copy_database(path, partial, copied)
    except (DamagedFileError, DiskFailedError) as error:
        raise DamagedLogError(f"{path} cannot be copied: {error}") from error


def _check_room(partial: str, needed: int) -> None:
    disk = os.statvfs(partial)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise UnavailableError(
            f"the disk of the backup has {free // 2**20} MiB free, and it needs {needed // 2**20 + 1} MiB",
            retry_after_s=RETRY_AFTER_S,
        )


def _verify(
    partial: str,
    path: str,
    report: Report,
    on_step: Callable[[Progress], object],
    tick: Callable[[], object],
) -> None:
    try:
        for step in verify_file(partial, report, tick):
            on_step(step)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the copy cannot be checked: {error}; make it without (--no-verify)"
        ) from error
    if not report.whole:
        raise DamagedLogError(
            f"the log {path} is damaged, and no backup was made: {report.findings[0].words}; see `chatkit verify`"
        )


def _put_in_place(partial: str, target: str) -> int:
    """Give a copy its name once it is on the disk, and returns its size."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(handle)
        size = os.fstat(handle).st_size
    finally:
        os.close(handle)
    os.replace(partial, target)
    sync_folder(os.path.dirname(os.path.abspath(target)))
    return size
