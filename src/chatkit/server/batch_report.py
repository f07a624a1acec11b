"""What instruments are told of a transaction: put together once for the whole batch, and only if any listens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain

from ..observability.instrument import CommittedBatch, FailedBatch, Instruments
from ..ports import Clock
from ..storage.base import (
    Advanced,
    Appended,
    Command,
    Created,
    Entry,
    MembersChanged,
    Outcome,
    Recalled,
    Reviewed,
)
from .live.hub import Hub
from .pending import PendingCommand
from .runs import Run
from .seq_check import SeqCheck

logger = logging.getLogger(__name__)


class BatchReports:
    """Tells instruments what became of commands. Called by `committer`.

    Args:
        instruments: Whom to tell.
        clock: The time that reports are in.
        hub: Knows how long messages took to whoever confirms them.
        check: Looks at the numbers of what was stored.
    """

    def __init__(self, instruments: Instruments, clock: Clock, hub: Hub, check: SeqCheck) -> None:
        self._hub = hub
        self._check = check if check.wanted else None
        self._on_committed = instruments.on_committed
        self._on_failed = instruments.on_failed
        self._clock = clock

    def now_s(self) -> float:
        """The time that reports are in."""
        return self._clock.now_s()

    def committed(
        self,
        batch: Sequence[PendingCommand],
        commands: Sequence[Command],
        outcomes: Sequence[Outcome],
        runs: Sequence[Run],
        began_s: float,
        durable_s: float,
    ) -> None:
        """All outcomes of a batch were handed over, in these runs."""
        written: list[Sequence[Entry]] = []
        new_received_s: dict[float, int] = {}
        others: list[tuple[Command, Outcome]] = []
        for run in runs:
            pending, outcome = run.pairs[0]
            if type(outcome) is Advanced:  # writes nothing, and is the commonest of the others
                others.append((pending.command, outcome))
            elif type(outcome) is Appended and not outcome.repeat:
                written.append(run.entries())
                run.count_received(new_received_s)
            else:
                others.append((pending.command, outcome))
                written.extend(_entries_of(outcome))
        if self._check is not None:
            self._try_check(self._check, written)
        if self._on_committed is None:
            return
        self._on_committed(
            CommittedBatch(
                commands,
                outcomes,
                [it.received_s for it in batch],
                [*chain.from_iterable(run.offered for run in runs)],
                began_s,
                durable_s,
                self._clock.now_s(),
                self._clock.now_ms(),
                new_received_s,
                others,
                self._hub.take_delivery_s(),
            )
        )

    def _try_check(self, check: SeqCheck, written: Sequence[Sequence[Entry]]) -> None:
        """Whoever looks on never costs a message, nor the batches that follow."""
        try:
            check.committed(written)
        except Exception:
            logger.exception("the numbers of a batch cannot be checked")

    def failed(
        self,
        batch: Sequence[PendingCommand],
        commands: Sequence[Command],
        error: Exception,
        began_s: float,
    ) -> None:
        """Storage refused a batch."""
        if self._on_failed is None:
            return
        received_s = [it.received_s for it in batch]
        now_s, now_ms = self._clock.now_s(), self._clock.now_ms()
        self._on_failed(FailedBatch(commands, received_s, error, began_s, now_s, now_ms))


def reports_of(instruments: Instruments, clock: Clock, hub: Hub, check: SeqCheck) -> BatchReports | None:
    """Reports, if anybody listens to them."""
    some = (instruments.on_committed, instruments.on_failed, instruments.on_seq_violation)
    return BatchReports(instruments, clock, hub, check) if any(some) else None


def _entries_of(outcome: Outcome) -> Sequence[Sequence[Entry]]:
    """The entries that an outcome other than a message wrote, in order, as a run; none if it wrote none."""
    if isinstance(outcome, Reviewed):
        return (outcome.entries,) if outcome.entries else ()
    if isinstance(outcome, Recalled) and not outcome.repeat:
        return ((outcome.entry,),)
    if isinstance(outcome, Created | MembersChanged) and outcome.entry is not None:
        return ((outcome.entry,),)
    return ()
