"""What was last served from the place of a log: which file, and how far it had got.

A log that is put back from a backup, or copied over, looks whole; it is only older. So whoever serves a log keeps a
word beside it, in the lock file, after each commit: never before it, so that the word is not ahead of a log that was
not put back. The word is not synced: after a power cut it may be older than the log, which is fine. Called by `store`.

What it cannot show: that log and word went back together, as with a snapshot of a whole disk. Clients can.
"""

from __future__ import annotations

import os
import re
from typing import Final

from ...drivers.file_lock import FileLock

_WORD: Final = re.compile(rb"(\d{20}) (\d{20})\n")


def forget_last_served(lock: FileLock) -> None:
    """Whatever is served next from this place counts as put back."""
    lock.write(b"%020d %020d\n" % (0, 0), durable=True)


class LastServed:
    """The word of one log.

    Args:
        lock: Held; the word is in its file.
        path: The log's file, which exists.
    """

    def __init__(self, lock: FileLock, path: str) -> None:
        self._lock = lock
        self._file_number = os.stat(path).st_ino

    def is_older(self, position: int) -> bool:
        """Whether a log that has got to `position` is, or may be, older than what was last served from its place.

        So is every file that is another one than the last: nobody can tell a copy of a backup from a log that was
        moved. A new log, which is empty, is not.
        """
        if position == 0:
            return False
        word = _WORD.fullmatch(self._lock.read())
        if word is None:
            return True
        return int(word[1]) != self._file_number or int(word[2]) > position

    def note(self, position: int, *, durable: bool = False) -> None:
        """The log has got to `position`, on the disk."""
        self._lock.write(b"%020d %020d\n" % (self._file_number, position), durable=durable)
