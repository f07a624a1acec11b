"""Holds storage to the one promise of a log: every entry has the next number, and no number is left out.

Only while an instrument listens. What it finds is a fault of storage or of chatkit, and is never mended here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ..observability.instrument import Instruments, SeqViolation
from ..storage.base import Advanced, Appended, Created, Entry, MembersChanged, Outcome, Recalled, Reviewed

logger = logging.getLogger(__name__)

CONVERSATIONS_MAX: Final = 10_000
"""Conversations whose last number is remembered; beyond it the one that was remembered first is forgotten."""

_ORDINARY: Final[frozenset[type]] = frozenset({Appended, Advanced})
"""Outcomes of most batches; of these only messages write entries."""


class SeqCheck:
    """Checks what is committed, and what is read.

    Args:
        instruments: Told of every violation.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._report = instruments.on_seq_violation
        self._due: dict[str, int] = {}
        self._sure_from: dict[str, int] = {}  # below it some numbers were not seen yet
        self._epochs: dict[str, str] = {}
        self._found = 0

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._report is not None

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """A batch was stored: its entries must be above what was there, and without a hole between them.

        Nothing is kept of a batch until it is whole: where the store takes several, their ends are not in order.
        """
        name, due_seq, entries = "", 0, _written(outcomes)
        due = self._due
        first: dict[str, Entry] = {}
        for entry in entries:
            if entry.conversation_id != name:  # what one user sends comes in a row
                if name and due_seq > due.get(name, 0):
                    due[name] = due_seq
                name = entry.conversation_id
                due_seq = due.get(name, 0)
            if entry.seq != due_seq:
                first = first or {it.conversation_id: it for it in reversed(entries)}
                self._look(entry, due_seq, goes_on=first[name] is not entry)
            due_seq = entry.seq + 1
        if name and due_seq > due.get(name, 0):
            due[name] = due_seq
            self._forget()

    def _forget(self) -> None:
        while len(self._due) > CONVERSATIONS_MAX:
            name = next(iter(self._due))
            del self._due[name]
            self._epochs.pop(name, None)
            self._sure_from.pop(name, None)

    def read(self, entries: Iterable[Entry], after_seq: int) -> None:
        """Entries as the log has them behind `after_seq`."""
        if self._report is None:
            return
        for entry in entries:
            if entry.seq != after_seq + 1:
                self._violated(entry, "hole" if entry.seq > after_seq else "repeated", after_seq + 1)
            after_seq = entry.seq

    def _look(self, entry: Entry, due_seq: int, *, goes_on: bool) -> None:
        """A number that is not the next one.

        Between two batches others may have written, a batch that was stored before may end later, or the log was
        replaced: what was left out then is no repetition when it comes.
        """
        name = entry.conversation_id
        known = self._epochs.get(name)
        self._epochs[name] = entry.epoch
        if not due_seq or known not in (None, entry.epoch):
            self._due.pop(name, None)
            self._sure_from[name] = entry.seq
        elif entry.seq < due_seq:
            if entry.seq >= self._sure_from.get(name, 0):
                self._violated(entry, "repeated", due_seq)
        elif goes_on:
            self._violated(entry, "hole", due_seq)
        else:
            self._sure_from[name] = entry.seq

    def _violated(self, entry: Entry, kind: Literal["repeated", "hole"], expected_seq: int) -> None:
        assert self._report is not None
        self._found += 1
        if self._found.bit_count() == 1:
            logger.critical(
                "the log of %s is broken: seq %d where %d is due (number %d of its kind)",
                entry.conversation_id,
                entry.seq,
                expected_seq,
                self._found,
            )
        self._report(SeqViolation(entry.conversation_id, kind, expected_seq, entry.seq))


def _written(outcomes: Sequence[Outcome]) -> Sequence[Entry]:
    """The entries that a batch wrote, in order."""
    if _ORDINARY.issuperset(map(type, outcomes)):
        return [it.entry for it in outcomes if type(it) is Appended and not it.repeat]
    return [entry for it in outcomes for entry in _entries_of(it)]


def _entries_of(outcome: Outcome) -> Sequence[Entry]:
    """The entries that an outcome wrote, in order."""
    if isinstance(outcome, Reviewed):
        return outcome.entries
    if isinstance(outcome, Appended | Recalled) and not outcome.repeat:
        return (outcome.entry,)
    if isinstance(outcome, Created | MembersChanged) and outcome.entry is not None:
        return (outcome.entry,)
    return ()
