"""The writing half of the store on SQLite: batches of commands to transactions, and what becomes of failures.

Called by `store`, by one thread at a time. What the commands do is in `core.log.decide`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ...core.log.decide import close_confirmed, decide, keys_after, keys_of
from ...core.log.state import State
from ...drivers.sqlite import RETRY_AFTER_S, Connection, DamagedRowError, DiskFailedError
from ...errors import InternalError, UnavailableError
from .. import base
from .load import load
from .write import load_leasts, write, write_outbox

_logger = logging.getLogger(__name__)


class Writer:
    """The one who writes a file.

    Args:
        connection: Opened for writing; it belongs to this writer from now on.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._failed = False
        self.healthy = True

    def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in one transaction; see `storage.base.CommandStore.commit`.

        After an error of the disk itself nothing is committed any more until the file is opened anew: what the
        failed write left behind is unknown.
        """
        if self._failed:
            raise UnavailableError(
                "the disk failed earlier; the store must be closed and opened anew",
                retry_after_s=RETRY_AFTER_S,
            )
        try:
            return self._transactions(commands)
        except BaseException as error:
            self.healthy = False
            self._failed = self._failed or isinstance(error, DiskFailedError)
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _transactions(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """All commands in one transaction; if one of them breaks it, each in its own."""
        try:
            return self._transaction(commands)
        except DamagedRowError as error:  # nothing is wrong with the disk
            _logger.error("the log is damaged: %s; each of %d commands is tried alone", error, len(commands))
            return self._one_by_one(commands)
        except UnavailableError:
            raise
        except Exception as error:
            if not commands or self._failed:
                raise UnavailableError("storage failed", retry_after_s=RETRY_AFTER_S) from error
            _logger.exception("a batch of %d commands failed; each is tried alone", len(commands))
        self.healthy = False  # until one of them is really committed
        return self._one_by_one(commands)

    def _one_by_one(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Each command in its own transaction; a sender whose message broke gets no later one in before it."""
        outcomes: list[base.Outcome] = []
        stopped: set[tuple[str, str]] = set()
        for command in commands:
            place = (command.conversation_id, command.sender_id) if isinstance(command, base.Append) else None
            outcome = _broken() if place in stopped else self._alone(command)
            if place is not None and isinstance(outcome, base.Refused) and _is_broken(outcome):
                stopped.add(place)
            outcomes.append(outcome)
        return outcomes

    def _alone(self, command: base.Command) -> base.Outcome:
        try:
            (outcome,) = self._transaction([command])
        except DamagedRowError as error:  # without its traceback, which has the text in it
            place = getattr(command, "conversation_id", None) or "a conversation"
            _logger.error("the log is damaged: %s of %s is refused: %s", type(command).__name__, place, error)
            return _broken()
        except UnavailableError:
            raise
        except Exception:
            _logger.exception("the command %s failed", type(command).__name__)
            return _broken()
        return outcome

    def _transaction(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        self._connection.begin()
        try:
            outcomes = _carry_out(self._connection, commands)
            self._connection.commit()
        except BaseException:
            self._roll_back()
            raise
        self.healthy = True
        return outcomes

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except Exception:
            self._failed = True  # the transaction is stuck on this connection
            _logger.exception("a transaction could not be rolled back")


def _carry_out(connection: Connection, commands: Sequence[base.Command]) -> list[base.Outcome]:
    """Load, decide, write, inside a transaction: the statements grow with the kinds of rows, not with the commands."""
    keys, state = keys_of(commands), State()
    load(connection, keys, state)
    more = keys_after(state, commands)
    if more is not None:
        load(connection, more, state)
    outcomes, changes = decide(state, commands)
    write(connection, changes)
    if changes.outboxes:
        write_outbox(connection, close_confirmed(changes, load_leasts(connection, changes)))
    return outcomes


def _broken() -> base.Refused:
    """A refusal of a command that breaks; each has an error object of its own."""
    return base.Refused(InternalError("the server failed to do this"))


def _is_broken(outcome: base.Refused) -> bool:
    return isinstance(outcome.error, InternalError)
