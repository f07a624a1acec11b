"""What instruments are told of a transaction: put together once for the whole batch, and only if any listens."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..observability.instrument import CommittedBatch, FailedBatch, Instruments
from ..ports import Clock
from ..storage.base import Command, Outcome
from .live.hub import Hub
from .pending import PendingCommand
from .seq_check import SeqCheck

logger = logging.getLogger(__name__)


class BatchReports:
    """Notes when commands come, and tells instruments what became of them. Called by `committer`.

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
        began_s: float,
        durable_s: float,
    ) -> None:
        """All outcomes of a batch were handed over."""
        if self._check is not None:
            self._try_check(self._check, outcomes)
        if self._on_committed is None:
            return
        self._on_committed(
            CommittedBatch(
                commands,
                outcomes,
                [it.received_s for it in batch],
                [it.offered for it in batch],
                began_s,
                durable_s,
                self._clock.now_s(),
                self._clock.now_ms(),
                self._hub.take_delivery_s(),
            )
        )

    def _try_check(self, check: SeqCheck, outcomes: Sequence[Outcome]) -> None:
        """Whoever looks on never costs a message, nor the batches that follow."""
        try:
            check.committed(outcomes)
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
