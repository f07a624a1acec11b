"""A lock on a file that one process holds at a time, and that ends with the process, however that ends.

It is two locks of the kernel. One (flock) is on a file of its own beside the one it is for, so that it can be held
before there is that one. It stays, since removing it would let two processes hold the lock; who holds it may keep a
word in it. The other is on the file itself, for that may have more names than one (`file_lock_by_inode`). Called by
`storage.sqlite`.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Self

from ..errors import ConfigurationError
from .file_lock_by_inode import InodeLock

_WORD_BYTES_MAX = 512

SUFFIX = "-owner"
"""What the name of the lock file ends with, after the name of the file that the lock is for."""

if sys.platform == "win32":

    def lock_handle(handle: int) -> bool:
        """Take the lock of an open file for as long as it is open. Returns False if another handle has it."""
        return True

else:
    import fcntl

    def lock_handle(handle: int) -> bool:
        """Take the lock of an open file for as long as it is open. Returns False if another handle has it.

        Raises OSError where the file system has no locks.
        """
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileInUseError(ConfigurationError):
    """Another process holds the lock of a file.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class FileLock:
    """A held lock; made by `FileLock.acquire`."""

    def __init__(self, handle: int, inode_lock: InodeLock) -> None:
        self._handle: int | None = handle
        self._inode_lock = inode_lock
        _held.add(self)

    @classmethod
    def acquire(cls, path: str, *, make: bool = False) -> Self | None:
        """Take the lock of a file, through links of both kinds; what is in the file is not touched.

        It ends with `release` or with the process, also by SIGKILL. A forked child does not hold it. A second one in
        the same process is refused like any other. On Windows there is no such lock, and everybody gets one. Where the
        system has no lock that can be held on the file itself, another hard link of it is another file.

        Args:
            path: The file that the lock is for; its folder exists.
            make: Make the file if it is missing, empty and for its owner alone. One that is made later by somebody else
                is locked under this name alone.

        Returns:
            None if another holds it.

        Raises:
            ConfigurationError: The lock file cannot be made, or its file system has no locks.
        """
        path = os.path.realpath(path)
        name = path + SUFFIX
        try:
            handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(f"cannot open the lock file {name}: {error.strerror}") from error
        try:
            locked = lock_handle(handle)
        except OSError as error:
            os.close(handle)
            raise ConfigurationError(f"cannot lock the file {name}: {error.strerror}") from error
        if locked:
            inode_lock = InodeLock(path, make=make)
            if not inode_lock.is_refused:
                return cls(handle, inode_lock)
        os.close(handle)
        return None

    def read(self) -> bytes:
        """What was last written to the lock file; nothing at first. Only while the lock is held."""
        assert self._handle is not None
        os.lseek(self._handle, 0, os.SEEK_SET)
        return os.read(self._handle, _WORD_BYTES_MAX)

    def write(self, word: bytes, *, durable: bool = False) -> None:
        """Replace what the lock file says. Only while the lock is held.

        Args:
            word: At most 512 bytes, so that a power cut leaves the former word or this one. A shorter one than the
                former must be durable.
            durable: Return only once it has reached the disk.

        Raises:
            OSError: It may not have been written.
        """
        assert self._handle is not None
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, word)
        if durable:
            os.ftruncate(self._handle, len(word))
            os.fsync(self._handle)

    def give(self, user: int, group: int) -> None:
        """Make the lock file belong to a user and a group, by number. Only while the lock is held. Raises OSError."""
        assert self._handle is not None
        os.fchown(self._handle, user, group)

    def release(self) -> None:
        """Let others take it. Releasing twice is nothing.

        It ends the locks that SQLite holds for this process on the file: close its connections first.
        """
        self._inode_lock.release()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _release_in_child() -> None:
    """A kernel lock lasts until its last handle is closed, and a fork copies handles: the child closes its copies."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
