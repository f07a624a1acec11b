"""What was last served from the place of a log: which file, and how far it had got.

A log that is put back from a backup, or copied over, looks whole; it is only older. So whoever serves a log keeps a
word beside it, in the lock file, after each commit: never before it, so that the word is not ahead of a log that was
not put back. The word is not synced: after a power cut it may be older than the log, which is fine. Called by `store`.

At the end of a server that ended in order it also says when the file was changed last, by the file system's own clock,
which no copy keeps: so a folder that was copied back as a whole, word and all, is noticed too.

What it cannot show: that log and word went back together, as with a snapshot of a whole disk. Clients can.
"""

from __future__ import annotations

import os
import re
from typing import Final

from ...drivers.file_lock import FileLock

_WORD: Final = re.compile(rb"(\d{20}) (\d{20}) (\d{20})\n")
_WORD_FORMAT: Final = b"%020d %020d %020d\n"


def forget_last_served(lock: FileLock) -> None:
    """Whatever is served next from this place counts as put back."""
    lock.write(_WORD_FORMAT % (0, 0, 0), durable=True)


def changed_ns(path: str) -> int:
    """When a file was changed last, as nobody can set it; 0 if there is none. To be asked before it is opened."""
    try:
        return os.stat(path).st_ctime_ns
    except FileNotFoundError:
        return 0


class LastServed:
    """The word of one log.

    Args:
        lock: Held; the word is in its file.
        path: The log's file, which exists.
    """

    def __init__(self, lock: FileLock, path: str) -> None:
        self._lock = lock
        self._path = path
        self._file_number = os.stat(path).st_ino

    def is_lost(self, position: int) -> bool:
        """Whether a log that is empty stands where one was served that was not."""
        word = _WORD.fullmatch(self._lock.read())
        return position == 0 and word is not None and int(word[2]) > 0

    def is_older(self, position: int, found_changed_ns: int) -> bool:
        """Whether a log that has got to `position` is, or may be, older than what was last served from its place.

        So is every file that is another one than the last: nobody can tell a copy of a backup from a log that was
        moved. A new log, which is empty, is not.

        Args:
            position: How far the log has got.
            found_changed_ns: `changed_ns` from before it was opened.
        """
        if position == 0:
            return False
        word = _WORD.fullmatch(self._lock.read())
        if word is None:
            return True
        file_number, served, left_ns = map(int, word.groups())
        return file_number != self._file_number or served > position or left_ns not in (0, found_changed_ns)

    def note(self, position: int, *, durable: bool = False) -> None:
        """The log has got to `position`, on the disk."""
        self._lock.write(_WORD_FORMAT % (self._file_number, position, 0), durable=durable)

    def leave(self, position: int) -> None:
        """The log is closed, and nobody of us changes it any more."""
        self._lock.write(_WORD_FORMAT % (self._file_number, position, changed_ns(self._path)), durable=True)
