"""A SQLite connection whose statements fail where a test wants it: busy, full, broken disk, or a lost commit.

`Disk` holds the faults and opens connections; give its `connect` to `SqliteStore(..., connect=disk.connect)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..drivers.sqlite import Connection, DiskFailedError, Params, Row, open_sqlite
from ..errors import UnavailableError
from .rng import Stream

Fault = Literal["full", "broken", "broken after commit"]

_RETRY_AFTER_S = 0.5


class Disk:
    """What happens to writes; reads of a snapshot pass.

    Args:
        rng: Where the place of a fault inside a transaction is drawn from.

    Attributes:
        broken: Whether a fault struck after which the file must be opened anew.
    """

    def __init__(self, rng: Stream) -> None:
        self._rng = rng
        self._armed: Fault | None = None
        self._statements_left = 0
        self.broken = False

    def arm(self, fault: Fault, statements: int = 12) -> None:
        """Have one of the next statements fail: up to `statements` ahead for `full` and `broken`, else a COMMIT."""
        self._armed = fault
        self._statements_left = self._rng.randint(1, statements)

    def disarm(self) -> None:
        """No fault waits any more."""
        self._armed = None

    def mended(self) -> None:
        """The file was opened anew, and nothing fails."""
        self._armed = None
        self.broken = False

    def connect(self, path: str, *, read_only: bool = False) -> Connection:
        """Open a file as `open_sqlite` does, with these faults on what writes."""
        inner = open_sqlite(path, read_only=read_only)
        return inner if read_only else _FaultyConnection(inner, self)

    def before_statement(self) -> None:
        """Called before each writing statement. Raises what the armed fault makes of it."""
        if self._armed not in ("full", "broken"):
            return
        self._statements_left -= 1
        if self._statements_left <= 0:
            self._strike()

    def after_commit(self) -> None:
        """Called after each COMMIT that took effect."""
        if self._armed == "broken after commit":
            self._strike()

    def _strike(self) -> None:
        fault, self._armed = self._armed, None
        if fault == "full":
            raise UnavailableError("storage refused: database or disk is full", retry_after_s=_RETRY_AFTER_S)
        self.broken = True
        raise DiskFailedError("storage failed: disk I/O error", retry_after_s=_RETRY_AFTER_S)


class _FaultyConnection:
    def __init__(self, inner: Connection, disk: Disk) -> None:
        self._inner = inner
        self._disk = disk

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        self._disk.before_statement()
        return self._inner.execute(sql, params)

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        self._disk.before_statement()
        self._inner.executemany(sql, rows)

    def change(self, sql: str, params: Params = ()) -> int:
        self._disk.before_statement()
        return self._inner.change(sql, params)

    def begin(self) -> None:
        self._disk.before_statement()
        self._inner.begin()

    def commit(self) -> None:
        self._disk.before_statement()
        self._inner.commit()
        self._disk.after_commit()

    def rollback(self) -> None:
        self._inner.rollback()

    def close(self) -> None:
        self._inner.close()
