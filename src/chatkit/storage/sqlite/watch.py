"""What is watched of a log's files while they are open: that they are still there, and how large they get.

Called by `store`. A look costs four calls of `stat`.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from ...drivers.file_identity import FileIdentity, file_bytes
from ...drivers.file_lock import SUFFIX
from ...drivers.sqlite import RETRY_AFTER_S, log_of, shared_memory_of
from ...errors import UnavailableError

logger = logging.getLogger(__name__)

WAL_WARNING_BYTES: Final = 256 * 1024 * 1024
"""A write-ahead log beyond this is warned of, and again each time it has doubled."""


class FileWatch:
    """The files of one opened log.

    Args:
        path: The log; it, its write-ahead log with the shared memory of that, and its lock file are there now.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._wal = log_of(path)
        self._identity = FileIdentity(
            (path, self._wal, shared_memory_of(path), os.path.realpath(path) + SUFFIX)
        )
        self._lost: str | None = None
        self._warn_at_bytes = WAL_WARNING_BYTES

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log."""
        return file_bytes(self._wal)

    def look(self) -> bool:
        """Whether one of the files was deleted, moved or replaced since it was opened; once true, true for good."""
        if self._lost is None:
            self._lost = self._identity.first_lost()
            if self._lost is not None:
                logger.critical(
                    "%s was deleted, moved or replaced while the log was served: nothing is stored any more. What was"
                    " stored before can still be copied from /proc/%d/fd; then stop the server, put the files right and"
                    " start it again",
                    self._lost,
                    os.getpid(),
                )
        return self._lost is not None

    def check(self) -> None:
        """Raises UnavailableError if one of the files is not the one that was opened."""
        if self.look():
            raise UnavailableError(
                f"the file {self._lost} is not the one that was opened", retry_after_s=RETRY_AFTER_S
            )

    def wal_is_large(self) -> bool:
        """Whether the write-ahead log is beyond what was warned of so far."""
        return self.wal_bytes > self._warn_at_bytes

    def warn(self, checkpointed: tuple[int, int]) -> None:
        """Warn of a large write-ahead log, of which so many pages could be moved into the file."""
        pages, moved = checkpointed
        self._warn_at_bytes = 2 * self.wal_bytes
        logger.warning(
            "the write-ahead log %s has %d MiB, and %d of its %d pages cannot be moved into the file: another program"
            " reads from it without an end; find that one (fuser %s) and end its transaction",
            self._wal,
            self.wal_bytes // 2**20,
            pages - moved,
            pages,
            self._path,
        )
