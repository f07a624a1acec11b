"""Delivered and read cursors on their way to the server: one number per conversation, the newest wins.

Neither has an answer. What gets lost with a connection is found again from the heads of the next one; what is
refused for now goes out again after a wait.
"""

from __future__ import annotations

from ..core.backoff import hint_of, next_delay
from ..ports import Ports
from ..wire import events as ev
from .base import LocalStore
from .config import ClientConfig

DELIVERED_REF = "delivered"
READ_REF = "read"


class Cursors:
    """What is to be sent of DELIVERED_ACK and READ. Bounded by the number of conversations.

    Attributes:
        wanted_reads: How far the user has read, by conversation, where the server is not known to know.
    """

    def __init__(self, store: LocalStore, config: ClientConfig, ports: Ports) -> None:
        self._store = store
        self._config = config
        self._ports = ports
        self.wanted_reads = store.reads()
        self._delivered: dict[str, int] = {}
        self._read: dict[str, int] = {}
        self._retry_at: dict[tuple[str, str], tuple[float, int]] = {}  # (ref, conversation): when, what

    def reload(self) -> None:
        """Take what was read from the store again; the next heads say what of it must be sent."""
        self.disconnected()
        self.wanted_reads = self._store.reads()

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not (self._delivered or self._read)

    def delivered(self, conversation_id: str, up_to_seq: int) -> None:
        """This device holds everything up to here."""
        self._delivered[conversation_id] = max(up_to_seq, self._delivered.get(conversation_id, 0))

    def want_read(self, conversation_id: str, up_to_seq: int) -> None:
        """The user has read up to here: stored, then sent. A lower value than before changes nothing."""
        if up_to_seq <= self.wanted_reads.get(conversation_id, 0):
            return
        self._store.want_read(conversation_id, up_to_seq)
        self.wanted_reads[conversation_id] = up_to_seq
        self._read[conversation_id] = up_to_seq

    def reconcile_read(self, conversation_id: str, server_read_seq: int) -> None:
        """The heads say what the server knows: send what it lacks, forget what it has."""
        wanted = self.wanted_reads.get(conversation_id, 0)
        if wanted > server_read_seq:
            self._read[conversation_id] = wanted
        elif wanted:
            self.forget_read(conversation_id)

    def rejoined(self, conversation_id: str) -> None:
        """A member again: what was read and not yet heard by the server can be said now."""
        wanted = self.wanted_reads.get(conversation_id, 0)
        if wanted:
            self._read[conversation_id] = wanted

    def forget_read(self, conversation_id: str) -> None:
        """The server has it, will never take it, or the log is another one now."""
        if self.wanted_reads.pop(conversation_id, 0):
            self._store.want_read(conversation_id, 0)
        self._read.pop(conversation_id, None)
        self._retry_at.pop((READ_REF, conversation_id), None)

    def forget(self, conversation_id: str) -> None:
        """Another epoch: nothing said of the old log counts."""
        self._delivered.pop(conversation_id, None)
        self._retry_at.pop((DELIVERED_REF, conversation_id), None)
        self.forget_read(conversation_id)

    def disconnected(self) -> None:
        """Whatever was on its way comes again from the next heads."""
        self._delivered.clear()
        self._read.clear()
        self._retry_at.clear()

    def refused(self, error: ev.ErrorEvent, conversation_id: str, up_to_seq: int) -> None:
        """An ERROR for a cursor: again after a wait, or never; a read cursor refused for good is forgotten."""
        if not error.retryable:
            if error.ref == READ_REF:
                self.forget_read(conversation_id)
            return
        delay_s = next_delay(
            1,
            self._ports.random.random(),
            hint_of(error.retry_after_ms),
            base_s=self._config.backoff_base_s,
            max_s=self._config.backoff_max_s,
        )
        kind = READ_REF if error.ref == READ_REF else DELIVERED_REF
        seq = self.wanted_reads.get(conversation_id, 0) if kind == READ_REF else up_to_seq
        if seq == 0:
            return  # it was about another log
        self._retry_at[kind, conversation_id] = (self._ports.clock.now_s() + delay_s, seq)

    def take(self) -> list[ev.ClientEvent]:
        """Everything there is to send now."""
        self._due()
        taken: list[ev.ClientEvent] = [
            ev.DeliveredAck(conversation_id=id_, up_to_seq=seq, ref=DELIVERED_REF)
            for id_, seq in self._delivered.items()
        ]
        taken += [
            ev.Read(conversation_id=id_, up_to_seq=seq, ref=READ_REF) for id_, seq in self._read.items()
        ]
        self._delivered.clear()
        self._read.clear()
        return taken

    def wait_s(self) -> float | None:
        """Seconds until something refused is due again; None if there is nothing."""
        if not self._retry_at:
            return None
        return max(0.0, min(at_s for at_s, _ in self._retry_at.values()) - self._ports.clock.now_s())

    def _due(self) -> None:
        now_s = self._ports.clock.now_s()
        for (kind, id_), (at_s, seq) in list(self._retry_at.items()):
            if at_s > now_s:
                continue
            del self._retry_at[kind, id_]
            waiting = self._read if kind == READ_REF else self._delivered
            waiting[id_] = max(seq, waiting.get(id_, 0))
