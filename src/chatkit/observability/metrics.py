"""Metrics for Prometheus (extra `metrics`): an instrument that counts, and what its figures are called.

Every figure is listed in docs/metrics.md with its unit, and with what a bad value means. No id of a user, a device, a
conversation or a message is ever a label.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from ..core.log.commands import AdvanceDelivered, AdvanceRead, Append, Command, ConfirmMessage
from ..core.log.outcomes import Advanced, Appended, Held, Outcome, Refused
from ..errors import ConfigurationError, RefusedError, UnavailableError
from ..types import Sent
from .figures import Counter, Figures, Gauge, Histogram
from .instrument import (
    ClientBatch,
    CommittedBatch,
    FailedBatch,
    Instrument,
    ModeratedBatch,
    PushedBatch,
    QueueLag,
    Reconciled,
    SeqViolation,
    ServerSample,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
COUNTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_ACKS: Final[dict[type, str]] = {
    AdvanceDelivered: "delivered",
    ConfirmMessage: "message",
    AdvanceRead: "read",
}
_RESULTS: Final = ("stored", "repeat", "held", "refused", "failed")
_PUSHES: Final = ("delivered", "retry", "dead", "refused", "unknown", "cancelled")
_VERDICTS: Final = ("allow", "rewrite", "refuse", "hold", "unasked")
_SIDES: Final = ("server", "client")
_SERVERS_FAULT: Final = ("OVERLOADED", "UNAVAILABLE", "INTERNAL")


class Metrics(Instrument):
    """Counts what a server, a delivery worker or a client does: `ChatServer(instruments=[metrics])`.

    One for each of them: gauges are of one part. `metrics_app(metrics)` shows it, so does any way of prometheus-client
    to show a registry.

    Args:
        registry: Where the figures are registered; None: in one of their own, never in the library's global one.

    Attributes:
        registry: Where they are.

    Raises:
        ConfigurationError: prometheus-client is missing (the extra `metrics`), or the registry has such figures.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry() if registry is None else registry
        self._make_server_figures()
        self._make_push_figures()
        self._make_client_figures()
        self.figures = Figures(
            [it for it in vars(self).values() if isinstance(it, Counter | Gauge | Histogram)]
        )
        try:
            self.registry.register(self.figures)
        except ValueError:
            raise ConfigurationError(
                "this registry has figures of chatkit; give each Metrics its own"
            ) from None
        self._build_info.set(1, version("chatkit-engine"))

    def exposition(self) -> bytes:
        """All figures of the registry in the text form of Prometheus."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def _make_server_figures(self) -> None:
        self._build_info = Gauge("chatkit_build_info", "Always 1", "version")
        self._sends = Counter(
            "chatkit_sends_total", "Messages that storage was asked to keep", "result", _RESULTS
        )
        self._send_to_ack = Histogram(
            "chatkit_send_to_ack_seconds",
            "From the frame of a message that is new to its acknowledgement",
            SECONDS,
        )
        self._deliveries = Counter("chatkit_deliveries_total", "Entries that were offered to sessions")
        self._dropped = Counter(
            "chatkit_deliveries_dropped_total",
            "Of these, what found a send buffer full and is pulled instead",
        )
        self._acks = Counter(
            "chatkit_acks_total",
            "Confirmations of devices; of several that waited together, the furthest",
            "kind",
            _ACKS.values(),
        )
        self._delivery_latency = Histogram(
            "chatkit_delivery_latency_seconds",
            "From a message's acceptance to its confirmation by a device that is online",
            SECONDS,
        )
        self._commit = Histogram("chatkit_commit_seconds", "How long a transaction took", SECONDS)
        self._batch = Histogram("chatkit_commit_batch_size", "Commands in a transaction", COUNTS)
        self._storage_refusals = Counter(
            "chatkit_storage_refusals_total", "Commands that storage refused", "kind", ("other",)
        )
        self._moderated = Counter(
            "chatkit_moderated_total", "Messages that a moderator was asked about", "verdict", _VERDICTS
        )
        self._moderation_failures = Counter(
            "chatkit_moderation_failures_total", "Batches with which the moderator failed"
        )
        self._moderation = Histogram(
            "chatkit_moderation_seconds", "How long the moderator took for a batch", SECONDS
        )
        self._refusals = Counter(
            "chatkit_refusals_total", "What sessions were refused", "code", _SERVERS_FAULT
        )
        self._logins = Counter("chatkit_logins_total", "Sessions that were opened", "by", ("token", "resume"))
        self._logins_refused = Counter(
            "chatkit_logins_refused_total", "Sessions that were not opened", "by", ("token", "resume")
        )
        self._closed = Counter("chatkit_connections_closed_total", "Connections that ended", "code")
        self._behind = Counter("chatkit_behind_total", "Sessions that were told to pull what they missed")
        self._gaps = Counter("chatkit_gap_detected_total", "Entries that came too early", "side", _SIDES)
        self._duplicates = Counter("chatkit_dup_dropped_total", "Entries that came again", "side", _SIDES)
        self._violations = Counter(
            "chatkit_seq_invariant_violations_total",
            "Numbers of a log that were given twice or to nothing",
            "kind",
            ("repeated", "hole"),
        )
        self._reconciled = Counter(
            "chatkit_reconciled_entries_total",
            "Entries that had to be read from the log, for no node told of them",
        )
        self._sessions = Gauge("chatkit_sessions", "Sessions that are logged in")
        self._conversations = Gauge("chatkit_conversations_online", "Conversations with somebody online")
        self._queue_commands = Gauge("chatkit_commit_queue_commands", "Commands that wait for a transaction")
        self._queue_load = Gauge("chatkit_commit_queue_load", "How full the commit queue is, from 0 to 1")
        self._loop_lag = Histogram(
            "chatkit_loop_lag_seconds", "The longest that the event loop was late, each second", SECONDS
        )
        self._wal = Gauge("chatkit_wal_bytes", "The size of SQLite's write-ahead log")
        self._search_lag = Gauge(
            "chatkit_search_lag_seconds", "How long ago the index of search had taken up all messages"
        )
        self._healthy = Gauge("chatkit_storage_healthy", "Whether storage takes commits: 1 or 0")

    def _make_push_figures(self) -> None:
        self._offline = Gauge("chatkit_offline_queue_depth", "Conversations and devices that wait for a push")
        self._queue_lag = Gauge("chatkit_queue_lag_seconds", "How long ago the oldest of them was due")
        self._dead = Gauge("chatkit_dead_letters", "Pushes that were given up and are kept for a look")
        self._worker = Gauge("chatkit_worker_running", "Whether a delivery worker runs here: 1 or 0")
        self._pushes = Counter("chatkit_pushes_total", "Pushes by what became of them", "result", _PUSHES)
        self._push = Histogram("chatkit_push_seconds", "How long a provider took for a batch", SECONDS)

    def _make_client_figures(self) -> None:
        self._client_sends = Counter(
            "chatkit_client_sends_total", "Own messages with a final answer", "result", ("sent", "refused")
        )
        self._client_send = Histogram(
            "chatkit_client_send_seconds", "From `send` to the answer in the local store", SECONDS
        )
        self._client_received = Counter("chatkit_client_received_total", "Messages of others")
        self._client_connected = Gauge("chatkit_client_connected", "Whether a client is connected: 1 or 0")
        self._client_connects = Counter(
            "chatkit_client_connects_total", "Connections that were logged in", "by", ("token", "resume")
        )
        self._client_ended = Counter("chatkit_client_disconnects_total", "Connections that ended", "code")
        self._client_failed = Counter("chatkit_client_connect_failures_total", "Tries that failed")

    # --- a server ---

    def on_committed(self, batch: CommittedBatch) -> None:
        """Messages, confirmations and how long they took."""
        self._commit.observe(batch.durable_s - batch.began_s)
        self._batch.observe(len(batch.commands))
        for took_s, count in batch.delivery_s.items():
            self._delivery_latency.observe(took_s, count)
        for received_s, count in batch.new_received_s.items():
            self._send_to_ack.observe(batch.published_s - received_s, count)
        self._sends.add(len(batch.commands) - len(batch.others), "stored")
        if batch.others:
            self._count_others(batch.others)

    def _count_others(self, others: Sequence[tuple[Command, Outcome]]) -> None:
        """All but the new messages."""
        commands, outcomes = zip(*others, strict=True)
        kinds = collections.Counter(zip(map(type, commands), map(type, outcomes), strict=True))
        repeats = [n for (it, outcome), n in kinds.items() if outcome is Appended and issubclass(it, Append)]
        self._sends.add(sum(repeats), "repeat")
        self._sends.add(sum(n for (_, outcome), n in kinds.items() if outcome is Held), "held")
        for command_type, kind in _ACKS.items():
            self._acks.add(kinds[command_type, Advanced], kind)
        if any(outcome_type is Refused for _, outcome_type in kinds):
            for command, outcome in others:
                if isinstance(outcome, Refused):
                    self._count_refused(isinstance(command, Append), outcome)

    def _count_refused(self, is_send: bool, outcome: Refused) -> None:
        if isinstance(outcome.error, UnavailableError):
            self._storage_refusals.add(1, outcome.error.kind)
        if is_send:
            self._sends.add(1, "failed" if outcome.error.retryable else "refused")

    def on_failed(self, batch: FailedBatch) -> None:
        """Commands that storage did not take."""
        kind = batch.error.kind if isinstance(batch.error, UnavailableError) else "bug"
        self._storage_refusals.add(len(batch.commands), kind)
        self._sends.add(sum(isinstance(command, Append) for command in batch.commands), "failed")

    def on_moderated(self, batch: ModeratedBatch) -> None:
        """What the moderator said, how long it took, and that it failed."""
        self._moderation.observe(batch.ended_s - batch.began_s)
        self._moderation_failures.add(batch.failure is not None)
        for verdict in batch.verdicts:
            self._moderated.add(1, "rewrite" if verdict.payload is not None else verdict.kind.lower())

    def on_refused(self, error: RefusedError) -> None:
        """By the code that the session was given."""
        self._refusals.add(1, error.code)

    def on_login(self, *, resumed: bool) -> None:
        """By token, or by resume token."""
        self._logins.add(1, "resume" if resumed else "token")

    def on_login_refused(self, error: RefusedError, *, resumed: bool) -> None:
        """By token, or by resume token: then the client falls back to its token."""
        self._logins_refused.add(1, "resume" if resumed else "token")

    def on_closed(self, code: int | None) -> None:
        """By the server's close code."""
        self._closed.add(1, "peer" if code is None else str(code))

    def on_dropped(self) -> None:
        """One push."""
        self._dropped.add()

    def on_behind(self, conversations: int) -> None:
        """One session, however many conversations."""
        self._behind.add()

    def on_gap(self, entries: int) -> None:
        """One entry that came too early."""
        self._gaps.add(1, "server")

    def on_duplicate(self) -> None:
        """One entry."""
        self._duplicates.add(1, "server")

    def on_reconciled(self, found: Reconciled) -> None:
        """What the log was asked for."""
        self._reconciled.add(found.entries)

    def on_seq_violation(self, found: SeqViolation) -> None:
        """One number of a log."""
        self._violations.add(1, found.kind)

    def on_sampled(self, sample: ServerSample) -> None:
        """What there is of everything."""
        self._sessions.set(sample.sessions)
        self._conversations.set(sample.conversations)
        self._queue_commands.set(sample.queue_commands)
        self._queue_load.set(sample.queue_load)
        self._deliveries.raise_to(sample.offered)
        self._loop_lag.observe(sample.loop_lag_s)
        self._healthy.set(sample.healthy)
        if sample.wal_bytes is not None:
            self._wal.set(sample.wal_bytes)
        if sample.search_lag_s is not None:
            self._search_lag.set(sample.search_lag_s)

    # --- pushes ---

    def on_queue_lag(self, lag: QueueLag) -> None:
        """How far the workers are behind."""
        self._offline.set(lag.waiting)
        self._queue_lag.set(lag.oldest_s)
        self._dead.set(lag.dead)
        self._worker.set(lag.working)

    def on_pushed(self, batch: PushedBatch) -> None:
        """By what became of each."""
        self._push.observe(batch.ended_s - batch.began_s)
        for outcome in batch.outcomes:
            self._pushes.add(1, outcome.kind)

    # --- a client ---

    def on_client_batch(self, batch: ClientBatch) -> None:
        """Messages in both directions."""
        self._client_received.add(len(batch.received))
        self._duplicates.add(batch.duplicates, "client")
        self._gaps.add(batch.gaps, "client")
        for answer in batch.answered:
            self._client_sends.add(1, "sent" if isinstance(answer.outcome, Sent) else "refused")
        for it in batch.answered:
            if it.queued_s is not None:
                self._client_send.observe(batch.stored_s - it.queued_s)

    def on_client_connected(self, *, resumed: bool) -> None:
        """By token, or by resume token."""
        self._client_connected.set(1)
        self._client_connects.add(1, "resume" if resumed else "token")

    def on_client_disconnected(self, code: int) -> None:
        """By the close code."""
        self._client_connected.set(0)
        self._client_ended.add(1, str(code))

    def on_client_connect_failed(self, error: Exception) -> None:
        """One try."""
        self._client_failed.add()


def watch_process(metrics: Metrics) -> None:
    """Show memory, CPU and descriptors of this process among the figures too; on Linux only."""
    from prometheus_client import ProcessCollector

    ProcessCollector(registry=metrics.registry)
