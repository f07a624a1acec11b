"""Holds storage to the one promise of a log: every entry has the next number, and no number is left out.

Only while an instrument listens. What it finds is a fault of storage or of chatkit, and is never mended here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ..observability.instrument import Instruments, SeqViolation
from ..storage.base import Appended, Created, Entry, MembersChanged, Outcome, Recalled

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
        self._last: dict[str, tuple[str, int]] = {}
        self._found = 0

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """Entries of one transaction: in each conversation above what was there, and without a hole between them."""
        if self._report is None:
            return
        in_batch: dict[str, tuple[str, int]] = {}
        for outcome in outcomes:
            entry = _new_entry(outcome)
            if entry is not None:
                self._check(entry, in_batch)
        for name, place in in_batch.items():
            self._last[name] = place
        while len(self._last) > CONVERSATIONS_MAX:
            del self._last[next(iter(self._last))]

    def read(self, entries: Iterable[Entry], after_seq: int) -> None:
        """Entries as the log has them behind `after_seq`."""
        if self._report is None:
            return
        for entry in entries:
            if entry.seq != after_seq + 1:
                self._violated(entry, "hole" if entry.seq > after_seq else "repeated", after_seq + 1)
            after_seq = entry.seq

    def _check(self, entry: Entry, in_batch: dict[str, tuple[str, int]]) -> None:
        name, seq, epoch = entry.conversation_id, entry.seq, entry.epoch
        before = in_batch.get(name)
        if before is not None and before[0] == epoch:
            if seq != before[1] + 1:
                self._violated(entry, "hole" if seq > before[1] else "repeated", before[1] + 1)
        elif (before := self._last.get(name)) is not None and before[0] == epoch and seq <= before[1]:
            self._violated(entry, "repeated", before[1] + 1)
        in_batch[name] = epoch, seq

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


def _new_entry(outcome: Outcome) -> Entry | None:
    """The entry that was written just now, if there is one."""
    if type(outcome) is Appended:  # nearly all are
        return None if outcome.repeat else outcome.entry
    if isinstance(outcome, Recalled):
        return None if outcome.repeat else outcome.entry
    return outcome.entry if isinstance(outcome, Created | MembersChanged) else None
