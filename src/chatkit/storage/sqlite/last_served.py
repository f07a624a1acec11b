"""What was last served from the place of a log: which file, and how far it had got.

A log that is put back from a backup, or copied over, looks whole; it is only older. So whoever serves a log keeps a
word beside it, in the lock file, after each commit: never before it, so that the word is not ahead of a log that was
not put back. The word is synced at the start and at an orderly end, not with each commit: a power cut may leave that of
the start, which is older than the log. A log that is put back then, in the same file, is noticed only if it is older
than that word, too. Called by `store`.

A server that ends in order makes an empty file beside the log, and adds to the word when that one was made and when the
log was changed last. A copy of the whole folder, word and all, has another such file, or the former one under a word of
another time: a copy keeps every time but this one. Change of owner, mode or names leaves both times as they are.

What it cannot show: that log and word went back together, as with a snapshot of a whole disk; also where both were
copied after one kill and put back, in the same files, after another, for then no time was added to the word. Clients
that were connected can. After `forget_last_served` every log counts as put back: `chatkit restore` is always noticed.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from functools import cached_property
from typing import Final

from ...drivers.birth_time import born_ns
from ...drivers.file_lock import FileLock
from ...drivers.sqlite import RETRY_AFTER_S, sync_folder
from ...errors import UnavailableError

logger = logging.getLogger(__name__)

CLOSED_SUFFIX: Final = "-closed"
"""What the name of the empty file ends with, after the name of the log. It is there while the log is not served."""

_WORD: Final = re.compile(rb"(\d{20}) (\d{20}) (\d{20}) (\d{20})\n")
_WORD_FORMAT: Final = b"%020d %020d %020d %020d\n"
_NOT_CLOSED: Final = (0, 0)
_CHECKED: Final = 1  # in the place of the first of two times, with no file


def forget_last_served(lock: FileLock, checked_path: str) -> None:
    """Whatever is served next from this place counts as put back. Raises OSError.

    Args:
        lock: Of the place.
        checked_path: What will be put there, all of which was just read and found whole: it need not be read again.
    """
    lock.write(_WORD_FORMAT % (0, 0, _CHECKED, _changed_ns(checked_path)), durable=True)


class LastServed:
    """The word of one log.

    Args:
        lock: Held; the word is in its file.
        path: The log's file, which SQLite has not opened since the lock was taken; it is there when the methods are
            called.
    """

    def __init__(self, lock: FileLock, path: str) -> None:
        self._lock = lock
        self._path = path
        self._closed_path = os.path.realpath(path) + CLOSED_SUFFIX
        self._found = (born_ns(self._closed_path), _changed_ns(path))
        self._has_failed = False

    @cached_property
    def _file_number(self) -> int:
        return os.stat(self._path).st_ino

    @property
    def position(self) -> int:
        """How far the word says that the log had got; 0 if there is no word."""
        word = self._read()
        return 0 if word is None else word[1]

    def is_lost(self, position: int) -> bool:
        """Whether a log that is empty stands where one was served that was not, or where one was to be put back."""
        word = self._read()
        return position == 0 and word is not None and (word[1] > 0 or word[0] == 0)

    def is_older(self, position: int) -> bool:
        """Whether a log that has got to `position` is, or may be, older than what was last served from its place.

        So is every file that is another one than the last: nobody can tell a copy of a backup from a log that was
        moved. A new log, which is empty, is not.
        """
        if position == 0:
            return False
        word = self._read()
        if word is None:
            return True
        file_number, served, *closed = word
        return (
            file_number != self._file_number
            or served > position
            or tuple(closed) not in (_NOT_CLOSED, self._found)
        )

    @property
    def is_checked(self) -> bool:
        """Whether the log was put there by who had read all of it, and is as it was then."""
        word = self._read()
        return word is not None and word[0] == 0 and word[2:] == (_CHECKED, self._found[1])

    def take(self, position: int) -> None:
        """The log, which has got to `position`, is the one of its place from now on.

        Raises:
            UnavailableError: The word cannot be written, and the former one may still hold; a retry is safe.
        """
        try:
            self._write(position, durable=True)
            with suppress(FileNotFoundError):
                os.unlink(self._closed_path)
        except OSError as error:
            raise UnavailableError(
                f"cannot write beside the log {self._path}: {error.strerror}", retry_after_s=RETRY_AFTER_S
            ) from error

    def note(self, position: int) -> None:
        """The log has got to `position`, on the disk. If that cannot be written, the former word stays."""
        try:
            self._write(position)
        except OSError as error:
            self._warn(error)

    def leave(self, position: int) -> None:
        """The log is closed, and nobody of us changes it any more. If that cannot be written, the former word stays."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._closed_path)
            os.close(os.open(self._closed_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            sync_folder(
                os.path.dirname(self._closed_path)
            )  # first: a word of a file that is not there tells of a copy
            closed = (born_ns(self._closed_path), _changed_ns(self._path))
            self._write(position, closed, durable=True)
        except OSError as error:
            self._warn(error)

    def _read(self) -> tuple[int, ...] | None:
        """Which file it was, how far it had got, and two times if its server ended in order."""
        word = _WORD.fullmatch(self._lock.read())
        return None if word is None else tuple(map(int, word.groups()))

    def _write(self, position: int, closed: tuple[int, int] = _NOT_CLOSED, *, durable: bool = False) -> None:
        self._lock.write(_WORD_FORMAT % (self._file_number, position, *closed), durable=durable)

    def _warn(self, error: OSError) -> None:
        """Say it once: it fails with every commit then."""
        if not self._has_failed:
            self._has_failed = True
            logger.warning(
                "cannot write beside the log %s how far it has got (%s): a backup that is put back may not be noticed",
                self._path,
                error.strerror,
            )


def _changed_ns(path: str) -> int:
    """When what is in a file was changed last; 0 if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
