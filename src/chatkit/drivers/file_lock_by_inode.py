"""A lock on a file itself, whatever name it is opened by: a hard link leads to the same one.

It is an open file description lock (fcntl(2), F_OFD_SETLK) on one byte that lies far beyond the end of the file and
beyond the bytes that SQLite locks (510 after the first GiB). Where the system has none, nobody is refused. Called by
`drivers.file_lock`.

Closing any handle of a file ends the locks that SQLite holds on it for the whole process, whichever handle took them.
So one that is held is never opened a second time here, and the handle is closed only when SQLite has closed the file.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from contextlib import suppress
from typing import Final

_BYTE: Final = 2**62
_FLOCK: Final = struct.Struct("@hhqqi0q")
"""Linux's `struct flock` with 64-bit offsets: type, whence, start, length, and a process id, which must be 0."""

if sys.platform == "linux":
    import fcntl

    _SETLK: Final = fcntl.F_OFD_SETLK

    def _locked(handle: int) -> bool:
        """Take the lock. Returns False if another handle has it. Raises OSError where there is no such lock."""
        try:
            fcntl.fcntl(handle, _SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0))
        except (BlockingIOError, PermissionError):  # POSIX allows both for a lock that is held
            return False
        return True

else:

    def _locked(handle: int) -> bool:
        raise OSError("there is no such lock")


class InodeLock:
    """The lock of a file, or nothing where it cannot be locked.

    Args:
        path: The file. This process has it open nowhere, unless another `InodeLock` holds it.
        make: Make it if it is missing, empty and for its owner alone.
    """

    def __init__(self, path: str, *, make: bool) -> None:
        self._handle: int | None = None
        self._identity: tuple[int, int] | None = None
        self.is_refused = False
        """Whether another one holds it, in this process or in another."""
        try:
            self._acquire(path, make)
        except OSError:  # SQLite says in its own words what is wrong with the file
            self.release()
        if self.is_refused:
            self.release()

    def _acquire(self, path: str, make: bool) -> None:
        if make:
            _make(path)
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return
        identity = found.st_dev, found.st_ino
        if _holders.setdefault(identity, self) is not self:
            self.is_refused = True
            return
        self._identity = identity
        self._handle = os.open(path, os.O_RDWR)
        self.is_refused = not _locked(self._handle)

    def release(self) -> None:
        """Let others take it. Releasing twice is nothing."""
        handle, self._handle = self._handle, None
        identity, self._identity = self._identity, None
        if handle is not None:
            os.close(handle)
        if identity is not None:
            del _holders[identity]


_holders: dict[tuple[int, int], InodeLock] = {}
"""Who holds what in this process, by device and inode."""


def _make(path: str) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
