"""What instruments are told of a transaction: put together once for the whole batch, and only if any listens."""

from __future__ import annotations

from collections.abc import Sequence

from ..observability.instrument import CommittedBatch, FailedBatch, Instruments
from ..ports import Clock
from ..storage.base import Outcome
from .pending import PendingCommand


class BatchReports:
    """Notes when commands come, and tells instruments what became of them. Called by `committer`."""

    def __init__(self, instruments: Instruments, clock: Clock) -> None:
        self._on_committed = instruments.on_committed
        self._on_failed = instruments.on_failed
        self._clock = clock

    def received(self, pending: PendingCommand) -> None:
        """A command is queued: it was received when its session was last heard, or just now."""
        session = pending.session
        pending.received_s = self._clock.now_s() if session is None else session.heard_at_s

    def now_s(self) -> float:
        """The time that reports are in."""
        return self._clock.now_s()

    def committed(
        self, batch: Sequence[PendingCommand], outcomes: Sequence[Outcome], began_s: float, durable_s: float
    ) -> None:
        """All outcomes of a batch were handed over."""
        if self._on_committed is None:
            return
        self._on_committed(
            CommittedBatch(
                [it.command for it in batch],
                outcomes,
                [it.received_s for it in batch],
                [it.offered for it in batch],
                began_s,
                durable_s,
                self._clock.now_s(),
                self._clock.now_ms(),
            )
        )

    def failed(self, batch: Sequence[PendingCommand], error: Exception, began_s: float) -> None:
        """Storage refused a batch."""
        if self._on_failed is None:
            return
        received_s = [it.received_s for it in batch]
        commands = [it.command for it in batch]
        now_s, now_ms = self._clock.now_s(), self._clock.now_ms()
        self._on_failed(FailedBatch(commands, received_s, error, began_s, now_s, now_ms))


def reports_of(instruments: Instruments, clock: Clock) -> BatchReports | None:
    """Reports, if anybody listens to them."""
    if instruments.on_committed is None and instruments.on_failed is None:
        return None
    return BatchReports(instruments, clock)
