"""What instruments are told of a transaction: put together once for the whole batch, and only if any listens."""

from __future__ import annotations

from collections.abc import Sequence

from ..observability.instrument import CommittedBatch, FailedBatch, Instruments
from ..ports import Clock
from ..storage.base import AdvanceDelivered, Outcome, Refused
from .live.hub import Hub
from .pending import PendingCommand
from .seq_check import SeqCheck


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
        self._check = check
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
        self._check.committed(outcomes)
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
                self._delivery_s(batch, outcomes),
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

    def _delivery_s(self, batch: Sequence[PendingCommand], outcomes: Sequence[Outcome]) -> list[float]:
        found: list[float] = []
        for pending, outcome in zip(batch, outcomes, strict=True):
            command, session = pending.command, pending.session
            if type(command) is AdvanceDelivered and session is not None and type(outcome) is not Refused:
                found += self._hub.delivery_s(
                    session, command.conversation_id, command.up_to_seq, command.at_ms
                )
        return found


def reports_of(instruments: Instruments, clock: Clock, hub: Hub, check: SeqCheck) -> BatchReports | None:
    """Reports, if anybody listens to them."""
    some = (instruments.on_committed, instruments.on_failed, instruments.on_seq_violation)
    return BatchReports(instruments, clock, hub, check) if any(some) else None
