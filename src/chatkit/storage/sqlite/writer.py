"""The writing half of the store on SQLite: transactions on one connection, and what becomes of failures.

Called by `store`, by one thread at a time. How a batch is carried out is in `storage.transaction`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from ...core.log.changes import Changes, HeldOutbox, Outbox, OutboxRows
from ...core.log.keys import Keys
from ...core.log.state import DevicePlace, MayBeRepeatError, State
from ...drivers.sqlite import RETRY_AFTER_S, Connection, DamagedRowError, DiskFailedError
from ...errors import UnavailableError
from .. import base
from ..transaction import UnreadableRowError, carry_out, commit_batch_now
from .hot import HotRows, are_hot
from .load import load
from .write import SET_POSITION_FLOOR, load_held_outboxes, load_leasts, write, write_outbox

_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

LOOKED_UP: Final = 16
"""After a repeated message so many batches look the keys of their messages up first: repeats come in company, since who
comes back sends again everything that got no answer. All other batches take messages to be new, and hear of a repeat
from the unique key."""


class SqliteTables:
    """`storage.transaction.Tables` on a connection: one statement per kind of row.

    Args:
        connection: In a write transaction whenever a method is called.
        hot: What need not be loaded; None where nothing may be taken from memory.

    Attributes:
        added: Entries and audit rows written so far.
    """

    def __init__(self, connection: Connection, hot: HotRows | None) -> None:
        self._connection = connection
        self._hot = hot
        self._state: State | None = None
        self._outbox = OutboxRows([], [])
        self.added = 0

    def kept(self) -> HotRows | None:
        """What need not be loaded for the next batch, now that this one is durable."""
        if self._hot is None or self._state is None or not self._hot.keep(self._state, self._outbox):
            return None
        return self._hot

    def load(self, keys: Keys, state: State) -> None:
        """Put everything that the keys name into the state."""
        if self._hot is not None:
            self._hot.lend(keys, state)
        load(self._connection, keys, state)
        self._state = state

    def load_held_outboxes(self, forgotten: Sequence[DevicePlace]) -> Collection[HeldOutbox]:
        """The outbox rows where one of these devices has a cursor and its user is a member."""
        return load_held_outboxes(self._connection, forgotten)

    def write(self, changes: Changes) -> None:
        """Write everything but the outbox. Raises MayBeRepeatError."""
        write(self._connection, changes)
        self.added += len(changes.messages) + len(changes.audit)

    def load_leasts(self, outboxes: Sequence[Outbox]) -> list[tuple[int, int]]:
        """How far everybody has got, where all have the first entry."""
        return load_leasts(self._connection, outboxes)

    def write_outbox(self, rows: OutboxRows) -> None:
        """Write the outbox."""
        write_outbox(self._connection, rows)
        self._outbox = rows


class Writer:
    """The one who writes a file.

    Args:
        connection: Opened for writing; it belongs to this writer from now on.
        position: How far the log has got.

    Attributes:
        healthy: Whether the last commit reached the disk.
        position: As given, and what was committed or raised since.
    """

    def __init__(self, connection: Connection, position: int) -> None:
        self._connection = connection
        self.position = position
        self._failed = False
        self._reached_disk = False
        self._to_look_up = 0
        self._hot: HotRows | None = None
        self.healthy = True

    def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in one transaction; see `storage.base.CommandStore.commit`.

        After an error of the disk itself nothing is committed any more until the file is opened anew: what the
        failed write left behind is unknown.
        """
        self._check()
        self._reached_disk = False
        try:
            outcomes = commit_batch_now(self._transaction, commands)
        except BaseException as error:
            self.healthy = False
            self._failed = self._failed or isinstance(error, DiskFailedError)
            raise
        self.healthy = self._reached_disk
        return outcomes

    def raise_position(self, proved: int) -> None:
        """Begin the next stretch of positions after this one and after `proved`. Raises UnavailableError."""
        floor = base.next_floor(max(proved, self.position))
        self.change(lambda it: it.change(SET_POSITION_FLOOR, (b"%d" % floor,)))
        self.position = floor + self.position % base.POSITION_STRETCH

    def change(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run something besides commands in a transaction of its own. Raises UnavailableError."""
        self._check()
        self._hot = None
        self._connection.begin()
        try:
            result = work(self._connection)
            self._connection.commit()
        except BaseException as error:
            self._roll_back()
            self._failed = self._failed or isinstance(error, DiskFailedError)
            raise
        return result

    def checkpoint(self) -> tuple[int, int]:
        """Move what can be moved from the write-ahead log into the file, without waiting for readers.

        Returns:
            Pages in the log, and how many of them are in the file. Raises UnavailableError.
        """
        ((_, pages, moved),) = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return pages, moved

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _transaction(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """All of the commands or nothing. Raises UnavailableError if nothing more can be done on this connection."""
        if self._to_look_up:
            self._to_look_up -= 1
        else:
            try:
                return self._attempt(commands, assume_new=True)
            except MayBeRepeatError:
                self._to_look_up = LOOKED_UP
        return self._attempt(commands, assume_new=False)

    def _attempt(self, commands: Sequence[base.Command], *, assume_new: bool) -> list[base.Outcome]:
        """As `_transaction`. Raises MayBeRepeatError, with nothing done, only if messages are taken to be new."""
        hot, self._hot = self._hot, None  # whatever breaks, what is in memory is not what is in the file
        self._connection.begin()
        try:
            tables = SqliteTables(self._connection, self._up_to_date(hot) if are_hot(commands) else None)
            outcomes = carry_out(tables, commands, assume_new=assume_new)
            self._connection.commit()
        except BaseException as error:
            self._roll_back()
            if isinstance(error, DamagedRowError):  # says nothing of the disk, which is as it was
                self._reached_disk = self._reached_disk or self.healthy
                raise UnreadableRowError(str(error)) from None
            if self._failed and isinstance(error, Exception) and not isinstance(error, UnavailableError):
                raise UnavailableError("storage failed", retry_after_s=RETRY_AFTER_S) from error
            raise
        self._reached_disk = True
        self.position += tables.added
        self._hot = tables.kept()
        return outcomes

    def _up_to_date(self, hot: HotRows | None) -> HotRows:
        """What need not be loaded in this transaction: nothing, if somebody else wrote to the file."""
        ((version,),) = self._connection.execute("PRAGMA data_version")
        return hot if hot is not None and hot.version == version else HotRows(version)

    def _check(self) -> None:
        if self._failed:
            raise UnavailableError(
                "the disk failed earlier; the store must be closed and opened anew",
                retry_after_s=RETRY_AFTER_S,
            )

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except Exception:
            self._failed = True  # the transaction is stuck on this connection
            _logger.exception("a transaction could not be rolled back")
