"""Holds storage to the one promise of a log: every entry has the next number, and no number is left out.

Only while an instrument listens. What it finds is a fault of storage or of chatkit, and is never mended here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ..observability.instrument import Instruments, SeqViolation
from ..storage.base import Entry

logger = logging.getLogger(__name__)

CONVERSATIONS_MAX: Final = 10_000
"""Conversations whose last number is remembered; beyond it the one that was remembered first is forgotten."""


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

    def committed(self, runs: Sequence[Sequence[Entry]]) -> None:
        """A batch was stored, each run of it of one conversation: its entries must be above what was there, and without
        a hole between them.

        How far numbers have come is kept once a batch is whole: where the store takes several, they end in any order.
        """
        reached: dict[str, int] = {}
        for run in runs:
            name = run[0].conversation_id
            if name in reached:
                reached[name] = self._follow(run, reached[name], goes_on=True)
            else:
                reached[name] = self._follow(run, self._due.get(name, 0), goes_on=False)
        for name, due_seq in reached.items():
            if due_seq > self._due.get(name, 0):
                self._due[name] = due_seq
        self._forget()

    def _follow(self, run: Sequence[Entry], due_seq: int, *, goes_on: bool) -> int:
        """Look at a run; `goes_on` if the batch has entries before it. Returns what is due behind it."""
        if [it.seq for it in run] == [*range(due_seq, due_seq + len(run))]:  # nearly all are
            return due_seq + len(run)
        for entry in run:
            if entry.seq != due_seq:
                self._look(entry, due_seq, goes_on=goes_on)
            due_seq, goes_on = entry.seq + 1, True
        return due_seq

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
