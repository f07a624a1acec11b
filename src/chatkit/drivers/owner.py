"""One owner per file: a lock that ends with the process, however that ends.

The lock is the kernel's (flock) on an empty file beside the one it stands for, since a second handle on a SQLite file
would break SQLite's own locks when it is closed. The empty file stays: removing it would let two hold it. Called by
`storage.sqlite`.
"""

from __future__ import annotations

import os
import sys

from ..errors import ConfigurationError

SUFFIX = "-owner"
"""What the name of the empty file ends with, after the name of the file that it stands for."""

if sys.platform == "win32":

    def _locked(handle: int) -> bool:
        return True

else:
    import fcntl

    def _locked(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Owner:
    """A held lock; made by `own`."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def close(self) -> None:
        """Give the file free. Closing twice is nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def own(path: str) -> Owner | None:
    """Take the lock that stands for a file, through links too; the file itself is not touched.

    It ends with `Owner.close` or with the process, also by SIGKILL. Everybody counts who asks for it, within this
    process too. On Windows there is no such lock, and everybody gets one.

    Args:
        path: The file that is to have one owner; its folder exists.

    Returns:
        None if another holds it.

    Raises:
        ConfigurationError: The lock file cannot be made, or its file system has no locks.
    """
    name = os.path.realpath(path) + SUFFIX
    try:
        handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot open the lock file {name}: {error.strerror}") from error
    try:
        locked = _locked(handle)
    except OSError as error:
        os.close(handle)
        raise ConfigurationError(f"cannot lock the file {name}: {error.strerror}") from error
    if locked:
        return Owner(handle)
    os.close(handle)
    return None
