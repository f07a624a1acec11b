"""How every store carries out a batch: in which order rows are loaded and written, and what becomes of one that breaks.

A store gives its `Tables`, inside a transaction, to `carry_out`; and a function that runs commands in one transaction,
all or nothing, to `commit_batch`; one that never waits to `commit_batch_now`. What the commands do is in
`core.log.decide`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

from ..core.log.changes import Changes, HeldOutbox, Outbox, OutboxRows, outboxes_of
from ..core.log.decide import close_confirmed, decide, keys_after, keys_of
from ..core.log.keys import Keys
from ..core.log.state import DevicePlace, State
from ..errors import InternalError, RefusedError, UnavailableError
from . import base

RETRY_AFTER_S: Final = 1.0
"""When a client may ask again after a transaction that broke with nothing in it."""

_logger = logging.getLogger(__name__)


class UnreadableRowError(Exception):
    """A row that a command needs cannot be read; nothing else is wrong. Its words hold nothing that was stored."""


Transact = Callable[[Sequence[base.Command]], Awaitable[list[base.Outcome]]]
"""Runs commands in one transaction. Raises UnavailableError if they may be stored; after another error none is."""

TransactNow = Callable[[Sequence[base.Command]], list[base.Outcome]]
"""The same, of a store that never waits."""


class Tables(Protocol):
    """The rows of a store, inside a transaction. Nothing is decided here."""

    def load(self, keys: Keys, state: State) -> None:
        """Put everything that the keys name into the state."""

    def load_held_outboxes(self, forgotten: Sequence[DevicePlace]) -> Collection[HeldOutbox]:
        """The outbox rows of the conversations in which one of these devices has a cursor and its user is a member."""

    def write(self, changes: Changes) -> None:
        """Write everything but the outbox."""

    def load_leasts(self, outboxes: Sequence[Outbox]) -> list[tuple[int, int]]:
        """(conversation key, least) of each of these, as `close_confirmed` needs them.

        A conversation may be left out if not every device has the first entry of its outbox.
        """

    def write_outbox(self, rows: OutboxRows) -> None:
        """Write the outbox; when its first entry was stored is read from the log."""


def loaded(tables: Tables, commands: Sequence[base.Command], *, assume_new: bool = False) -> State:
    """What is needed to decide these commands."""
    keys, state = keys_of(commands, assume_new=assume_new), State()
    tables.load(keys, state)
    more = keys_after(state, commands)
    if more is not None:
        tables.load(more, state)
    return state


def carry_out(
    tables: Tables, commands: Sequence[base.Command], *, assume_new: bool = False
) -> list[base.Outcome]:
    """Load, decide, write. The number of calls does not grow with the number of commands.

    Everything is decided before the first row is written: a command that breaks in loading or deciding leaves nothing.

    Args:
        tables: In a transaction.
        commands: One batch.
        assume_new: Take the messages to be new, without a look at their keys. Only for tables whose `write` raises
            `MayBeRepeatError` if one of them is there already.

    Raises:
        MayBeRepeatError: One may be there already; the transaction is to be rolled back, and to be tried again without
            the assumption.
    """
    outcomes, changes = decide(loaded(tables, commands, assume_new=assume_new), commands)
    held = tables.load_held_outboxes(changes.forgotten) if changes.forgotten else ()
    tables.write(changes)
    outboxes = outboxes_of(changes, held)
    if outboxes:
        may_close = [it for it in outboxes if it.may_close and it.first_seq is not None]
        tables.write_outbox(close_confirmed(outboxes, tables.load_leasts(may_close)))
    return outcomes


def commit_batch_now(transact: TransactNow, commands: Sequence[base.Command]) -> list[base.Outcome]:
    """`commit_batch` where nothing waits: it has ended when this returns."""

    async def at_once(some: Sequence[base.Command]) -> list[base.Outcome]:
        return transact(some)

    try:
        commit_batch(at_once, commands).send(None)
    except StopIteration as end:
        outcomes: list[base.Outcome] = end.value
        return outcomes
    raise AssertionError("a store that never waits has waited")


async def commit_batch(transact: Transact, commands: Sequence[base.Command]) -> list[base.Outcome]:
    """All commands in one transaction; if one of them breaks it, each in its own.

    Raises:
        UnavailableError: Of `transact`; or a transaction with nothing in it broke.
    """
    try:
        return await transact(commands)
    except UnavailableError:
        raise
    except UnreadableRowError as error:
        _logger.error("the log is damaged: %s; each of %d commands is tried alone", error, len(commands))
    except Exception as error:
        if not commands:
            raise UnavailableError("storage failed", retry_after_s=RETRY_AFTER_S) from error
        _logger.exception("a batch of %d commands failed; each is tried alone", len(commands))
    return await _one_by_one(transact, commands)


async def _one_by_one(transact: Transact, commands: Sequence[base.Command]) -> list[base.Outcome]:
    """Each command in its own transaction; what a sender is to send again nothing later of theirs goes before."""
    outcomes: list[base.Outcome] = []
    stopped: dict[tuple[str, str], RefusedError] = {}
    for command in commands:
        place = (command.conversation_id, command.sender_id) if isinstance(command, base.Append) else None
        error = None if place is None else stopped.get(place)
        outcome = await _alone(transact, command) if error is None else base.Refused(error.fresh())
        if place is not None and isinstance(outcome, base.Refused) and outcome.error.retryable:
            stopped[place] = outcome.error
        outcomes.append(outcome)
    return outcomes


async def _alone(transact: Transact, command: base.Command) -> base.Outcome:
    try:
        (outcome,) = await transact([command])
    except UnavailableError:
        raise
    except UnreadableRowError as error:
        place = getattr(command, "conversation_id", None) or "a conversation"
        _logger.error("the log is damaged: %s of %s is refused: %s", type(command).__name__, place, error)
        return _broken()
    except Exception:
        _logger.exception("the command %s failed", type(command).__name__)
        return _broken()
    return outcome


def _broken() -> base.Refused:
    """A refusal of a command that breaks; each has an error object of its own."""
    return base.Refused(InternalError("the server failed to do this"))
