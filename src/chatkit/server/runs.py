"""Outcomes of a batch as they are handed over: new messages of one session to one conversation together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec

from ..storage.base import Append, Appended, Entry, Outcome
from .pending import PendingCommand
from .session import Session

Committed = tuple[PendingCommand, Outcome]
"""A command and what became of it."""


class Run(msgspec.Struct):
    """What is handed over together: new messages of one session to one conversation, or one command of any kind.

    Attributes:
        pairs: Each command with what became of it, in order.
        offered: To how many sessions each was offered, once it was handed over.
    """

    pairs: list[Committed]
    offered: list[int] = []

    def entries(self) -> list[Entry]:
        """Those of new messages."""
        return [outcome.entry for _, outcome in cast("list[tuple[PendingCommand, Appended]]", self.pairs)]

    def count_received(self, found: dict[float, int]) -> None:
        """Add when these were received, and how many then."""
        first_s, last_s = self.pairs[0][0].received_s, self.pairs[-1][0].received_s
        if first_s == last_s:  # of one session, and in order: what is between the ends came then too
            found[first_s] = found.get(first_s, 0) + len(self.pairs)
            return
        for pending, _ in self.pairs:
            found[pending.received_s] = found.get(pending.received_s, 0) + 1


def runs_of(pairs: Iterable[Committed]) -> list[Run]:
    """The pairs in order, those together that may be."""
    runs: list[Run] = []
    last: tuple[Session, str] | None = None
    for pair in pairs:
        source = _source(*pair)
        if source is None or source != last:
            runs.append(Run([pair]))
        else:
            runs[-1].pairs.append(pair)
        last = source
    return runs


def _source(pending: PendingCommand, outcome: Outcome) -> tuple[Session, str] | None:
    """Which session sent a new message, to which conversation; None for what is handed over alone."""
    session, command = pending.session, pending.command
    if type(outcome) is not Appended or outcome.repeat or type(command) is not Append or session is None:
        return None
    return session, command.conversation_id
