"""Whether names still lead to the files that were opened by them.

A database file that was deleted, moved or replaced under an open handle goes on taking writes, and all of them are lost
with the handle. Called by `storage.sqlite`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_Identity = tuple[int, int]


class FileIdentity:
    """The files that some paths lead to now, by device and inode.

    Args:
        paths: Those of them where there is a file now are watched, the others are not. Links are followed.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        found = {path: _identity(path) for path in paths}
        self._files = {path: identity for path, identity in found.items() if identity is not None}

    def first_lost(self) -> str | None:
        """A path that leads to another file by now, or to none; None if there is no such path."""
        for path, identity in self._files.items():
            if _identity(path) != identity:
                return path
        return None


def file_bytes(path: str) -> int:
    """The size of a file; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _identity(path: str) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
