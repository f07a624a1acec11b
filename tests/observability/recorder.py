"""An instrument that keeps what it is told."""

from __future__ import annotations

from typing import Any

from chatkit.core.log.commands import Append
from chatkit.core.log.outcomes import Appended
from chatkit.errors import RefusedError
from chatkit.observability.instrument import (
    ClientBatch,
    CommittedBatch,
    FailedBatch,
    Instrument,
    PushedBatch,
    QueueLag,
    Reconciled,
    SeqViolation,
    ServerSample,
)


class Recorder(Instrument):
    """Everything, in order: the name of the method and what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def named(self, name: str) -> list[Any]:
        """What one method was given, call by call."""
        return [given for called, given in self.calls if called == name]

    def appends(self) -> list[tuple[Append, Appended, int]]:
        """Every message that was stored or was there: the command, its outcome, to how many it was offered."""
        return [
            (command, outcome, offered)
            for batch in self.named("committed")
            for command, outcome, offered in zip(batch.commands, batch.outcomes, batch.offered, strict=True)
            if isinstance(command, Append) and isinstance(outcome, Appended)
        ]

    def on_committed(self, batch: CommittedBatch) -> None:
        self.calls.append(("committed", batch))

    def on_failed(self, batch: FailedBatch) -> None:
        self.calls.append(("failed", batch))

    def on_refused(self, error: RefusedError) -> None:
        self.calls.append(("refused", error))

    def on_login(self, *, resumed: bool) -> None:
        self.calls.append(("login", resumed))

    def on_login_refused(self, error: RefusedError, *, resumed: bool) -> None:
        self.calls.append(("login refused", (error.code, resumed)))

    def on_closed(self, code: int | None) -> None:
        self.calls.append(("closed", code))

    def on_dropped(self) -> None:
        self.calls.append(("dropped", None))

    def on_behind(self, conversations: int) -> None:
        self.calls.append(("behind", conversations))

    def on_gap(self, entries: int) -> None:
        self.calls.append(("gap", entries))

    def on_duplicate(self) -> None:
        self.calls.append(("duplicate", None))

    def on_reconciled(self, found: Reconciled) -> None:
        self.calls.append(("reconciled", found))

    def on_seq_violation(self, found: SeqViolation) -> None:
        self.calls.append(("seq violation", found))

    def on_sampled(self, sample: ServerSample) -> None:
        self.calls.append(("sampled", sample))

    def on_queue_lag(self, lag: QueueLag) -> None:
        self.calls.append(("queue lag", lag))

    def on_pushed(self, batch: PushedBatch) -> None:
        self.calls.append(("pushed", batch))

    def on_client_batch(self, batch: ClientBatch) -> None:
        self.calls.append(("client batch", batch))

    def on_client_connected(self, *, resumed: bool) -> None:
        self.calls.append(("client connected", resumed))

    def on_client_disconnected(self, code: int) -> None:
        self.calls.append(("client disconnected", code))

    def on_client_connect_failed(self, error: Exception) -> None:
        self.calls.append(("client connect failed", error))
