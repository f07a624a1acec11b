"""What this device has to say until the server knows it: own messages, and how far it has received and read.

Both are in the local store where they must outlive the process. `Outbox` holds messages from `send` to their answer and
those who wait for it; `Cursors` holds one number per conversation, of which only the newest counts. Filled by `client`
and `inbox`, emptied by the writer of the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Any, Literal

import anyio
import msgspec

from .._auto_reset_event import AutoResetEvent
from ..core.backoff import retry_after_of
from ..core.resend import SUSPECT_AFTER, Key, PendingSend, ResendQueue
from ..errors import (
    ChatkitError,
    ConflictError,
    DamagedError,
    HeldError,
    QueueFullError,
    RefusedError,
    SendCancelledError,
    SendOutcomeUnknownError,
)
from ..ports import Clock
from ..types import Payload, Sent
from ..wire import events as ev
from ._retry import Backoff
from .config import ClientConfig
from .conversation import Conversations
from .event_queue import EventQueue
from .events import SendFailed
from .reports import ClientReports
from .requests import ConnectionStatus
from .store.base import LocalStore
from .validate import check_client_msg_id, check_conversation_id

logger = logging.getLogger(__name__)

_SILENCE_S = 30.0
"""A cursor that was sent so long ago and not refused was taken."""

HELD_RETRY_S = 60.0
"""After so long a message that is kept for review is asked about, where the server names no time."""

DELIVERED_REF = "delivered"
READ_REF = "read"

Cancelled = Literal["CANCELLED", "MAY_BE_SENT", "UNKNOWN"]
"""What became of a wish to take a message back: done, too late to be sure, or nothing pending under this key."""


class PendingMessage(msgspec.Struct, frozen=True):
    """A message of this device that has no answer yet.

    Attributes:
        conversation_id: Where it goes.
        client_msg_id: Its key.
        payload: What it says.
        may_be_sent: It was handed to a connection, or it is of an earlier run; so it may be stored on the server.
        held: A moderator keeps it for review, as this connection's server says.
    """

    conversation_id: str
    client_msg_id: str
    payload: Payload
    may_be_sent: bool
    held: bool = False


class _Waiter:
    """Everybody who waits for one message."""

    __slots__ = ("count", "done", "outcome")

    def __init__(self) -> None:
        self.count = 0
        self.done = anyio.Event()
        self.outcome: Sent | Exception | None = None


class Outbox:
    """Messages from `send` to their answer; what is pending outlives this object in the store.

    Args:
        store: Keeps what is pending.
        config: Bounds.
        clock: Times what is under way.
        backoff: Waits after a refusal for now.
        status: Says why there is no answer.
        wake: Set when there is something to send.
        events: Told of a stored message that is damaged.
        reports: Tells instruments how long each waited.

    Attributes:
        one_by_one: Each frame holds one event, for the server's host takes small ones only.
    """

    def __init__(
        self,
        store: LocalStore,
        config: ClientConfig,
        clock: Clock,
        backoff: Backoff,
        status: ConnectionStatus,
        wake: AutoResetEvent,
        events: EventQueue,
        reports: ClientReports,
    ) -> None:
        self._store = store
        self._reports = reports
        self._config = config
        self._clock = clock
        self._backoff = backoff
        self._status = status
        self._wake = wake
        self._events = events
        self._queue = self._stored()
        self._waiters: dict[Key, _Waiter] = {}
        self._emptied = AutoResetEvent()
        self._stopped = False
        self._to_pause: dict[str, float] = {}
        self._received: dict[Key, str] = {}
        self.one_by_one = False

    def reload(self) -> None:
        """Take what is pending from the store again. Who waits goes on waiting, and what never left still did not."""
        queue = self._queue
        self._queue = self._stored({it.key for it in queue.pending() if not queue.may_have_left(it.key)})

    def _stored(self, never_left: Container[Key] = ()) -> ResendQueue:
        queue = ResendQueue(self._config.pending_max, self._config.window)
        queue.restore([send for send in self._store.pending() if self._is_sound(send)], never_left)
        return queue

    def _is_sound(self, send: PendingSend) -> bool:
        """Whether it can be sent. A damaged one is given up, and the app is notified: it would end every connection."""
        try:
            check_conversation_id(send.conversation_id)
            check_client_msg_id(send.client_msg_id)
            msgspec.json.decode(send.payload, type=dict[str, Any])
        except (ChatkitError, msgspec.MsgspecError, ValueError) as error:
            damaged = DamagedError(f"a message that was not sent yet is damaged in the local store: {error}")
            self._events.put(SendFailed(send.conversation_id, send.client_msg_id, damaged))
            self._store.save([], [send.key])
            return False
        return True

    @property
    def pending_count(self) -> int:
        """Messages without a final answer."""
        return len(self._queue)

    @property
    def oldest_sent_at_s(self) -> float | None:
        """When the longest unanswered message went out; None if nothing is under way."""
        return self._queue.oldest_sent_at_s

    def submit(self, conversation_id: str, client_msg_id: str, payload: bytes) -> None:
        """Store and queue a message; the same one again is nothing.

        Args:
            conversation_id: Where to.
            client_msg_id: Its key.
            payload: Canonical JSON: the bytes that travel, and that the local store keeps.

        Raises:
            ConflictError: The key is pending with another payload.
            QueueFullError: The bound is reached; nothing was queued.
        """
        earlier = self._queue.find(conversation_id, client_msg_id)
        if earlier is not None:
            if earlier.payload != payload:
                raise ConflictError("this clientMsgId is pending with another payload")
            if not self._queue.is_pending(earlier):
                self._queue.check_room()
                self._store.add_pending(earlier)
                self._queue.reopen(earlier)
            return
        self._queue.check_room()
        send = PendingSend(conversation_id, client_msg_id, payload, self._queue.next_order)
        self._store.add_pending(send)
        self._queue.add(send)
        self._reports.queued(send.key)
        self._wake.set()

    async def outcome(self, conversation_id: str, client_msg_id: str, timeout_s: float | None) -> Sent:
        """Wait for the answer to a pending message.

        Raises:
            RefusedError: Refused for good; a HeldError: kept for review, and still queued.
            SendCancelledError: Taken back before it left.
            SendOutcomeUnknownError: No answer in time, or the client stopped; the message stays queued.
        """
        key = (conversation_id, client_msg_id)
        send = self._queue.find(*key)
        if send is not None and self._queue.is_held(send):
            raise HeldError("a moderator looks at this message first")
        waiter = self._waiters.setdefault(key, _Waiter())
        waiter.count += 1
        try:
            with anyio.move_on_after(timeout_s):
                await waiter.done.wait()
        finally:
            waiter.count -= 1
            if waiter.count == 0 and self._waiters.get(key) is waiter:
                del self._waiters[key]
        if isinstance(waiter.outcome, Sent):
            return waiter.outcome
        if isinstance(waiter.outcome, RefusedError):
            raise waiter.outcome.fresh()
        if isinstance(waiter.outcome, SendCancelledError):
            raise SendCancelledError(str(waiter.outcome))
        raise SendOutcomeUnknownError(
            f"no answer to {client_msg_id} yet ({self._status.explanation}); it stays queued",
            conversation_id=conversation_id,
            client_msg_id=client_msg_id,
        ) from waiter.outcome or self._status.last_failure

    def find(self, conversation_id: str, client_msg_id: str) -> PendingSend | None:
        """The message under this key, while an answer to it is still to come."""
        return self._queue.find(conversation_id, client_msg_id)

    def resolve(
        self, conversation_id: str, client_msg_id: str, *, answered: bool = True
    ) -> PendingSend | None:
        """Its outcome is known for good, by its answer or (not `answered`) by the log; the caller stores that.

        Returns:
            The message, or None if it was not pending (a repeat, another device's).
        """
        self._received.pop((conversation_id, client_msg_id), None)
        return self._queue.resolve(conversation_id, client_msg_id, answered=answered)

    def received(self, send: PendingSend, message_id: str) -> None:
        """The app is told of an entry with the key of a pending message and other words: a moderator's, or of another
        message that had the key before. Its answer says which.
        """
        self._received[send.key] = message_id

    def was_received(self, conversation_id: str, client_msg_id: str, message_id: str) -> bool:
        """Whether a pending message is an entry that the app was told of as received."""
        return self._received.get((conversation_id, client_msg_id)) == message_id

    def put_back(
        self, conversation_id: str, client_msg_id: str, retry_after_s: float | None, *, too_fast: bool = False
    ) -> None:
        """Refused for now: it is sent again after a wait, and its conversation pauses until then.

        Args:
            conversation_id: Where it went.
            client_msg_id: Its key.
            retry_after_s: What the server asked to wait.
            too_fast: The server takes them in slower: the conversation goes on at the pace it asked for.
        """
        pause_s = self._backoff.delay_s(self._queue.failed_tries(conversation_id), retry_after_s)
        too_fast_s = retry_after_s if too_fast else None
        self._queue.put_back(conversation_id, client_msg_id, self._clock.now_s() + pause_s, too_fast_s)

    def hold(self, conversation_id: str, client_msg_id: str, retry_after_s: float | None) -> bool:
        """The server keeps it for review: it is asked about after a wait, for word of the decision may get lost.

        Args:
            conversation_id: Where it went.
            client_msg_id: Its key.
            retry_after_s: What the server asked to wait; None for HELD_RETRY_S.

        Returns:
            Whether that is new; the caller tells the app.
        """
        wait_s = self._backoff.delay_s(1, HELD_RETRY_S if retry_after_s is None else retry_after_s)
        return self._queue.hold(conversation_id, client_msg_id, self._clock.now_s() + wait_s)

    def is_held(self, send: PendingSend) -> bool:
        """Whether the server keeps it for review."""
        return self._queue.is_held(send)

    def has_waiter(self, key: Key) -> bool:
        """Whether a `send` call waits for this message."""
        return key in self._waiters

    def on_committed(self, key: Key, outcome: Sent | ChatkitError) -> None:
        """The outcome of a message is stored, or it is held: wake those who wait for it."""
        waiter = self._waiters.pop(key, None)
        if waiter is not None:
            waiter.outcome = outcome
            waiter.done.set()
        if not self._queue.unanswered:
            self._emptied.set()

    def take(self) -> list[PendingSend]:
        """What to send now, in order."""
        return self._queue.take(self._clock.now_s())

    def wait_s(self) -> float | None:
        """Seconds until a paused conversation goes on; None if there is none."""
        return self._queue.wait_s(self._clock.now_s())

    def connected(self) -> None:
        """A connection begins: what may have ended the one before waits a while."""
        for conversation_id, pause_s in self._to_pause.items():
            self._queue.pause(conversation_id, self._clock.now_s() + pause_s)
        self._to_pause.clear()

    def disconnected(self) -> None:
        """Everything under way goes out again with the next connection.

        A message that has been alone under way when the connection ended lets the other conversations go first for a
        while, for it may be what the way to the server does not let through.
        """
        alone = self._queue.alone_under_way
        self._queue.disconnected()
        losses = 0 if alone is None else self._queue.losses(alone.key)
        if alone is not None and losses > SUSPECT_AFTER:
            self._to_pause[alone.conversation_id] = self._backoff.delay_s(losses)
            if losses == SUSPECT_AFTER + 1:
                size = len(alone.payload)
                logger.warning(
                    "connections end whenever a message of %d bytes is sent; it is tried rarely", size
                )

    def too_large(self) -> PendingSend | None:
        """The server's host closed because a frame was too large, before `disconnected` is called.

        Returns:
            The message that was it for certain: alone under way, in a frame of its own. Else None, and each that was
            under way goes out alone next time. From here on each frame holds one event.
        """
        alone = self._queue.alone_under_way if self.one_by_one else None
        self.one_by_one = True
        if alone is None:
            self._queue.suspect_all()
        return alone

    def pending(self) -> list[PendingMessage]:
        """What has no answer yet, oldest first."""
        return [
            PendingMessage(
                send.conversation_id,
                send.client_msg_id,
                msgspec.json.decode(send.payload),
                self._queue.may_have_left(send.key),
                self._queue.is_held(send),
            )
            for send in self._queue.pending()
        ]

    def cancel(self, conversation_id: str, client_msg_id: str) -> Cancelled:
        """Take a message back that surely never left. Raises UnavailableError if the store refuses for now."""
        send = self._queue.find(conversation_id, client_msg_id)
        if send is None or not self._queue.is_pending(send):
            return "UNKNOWN"
        if self._queue.may_have_left(send.key):
            return "MAY_BE_SENT"
        self._store.save((), (send.key,))
        self._queue.resolve(conversation_id, client_msg_id)
        self._reports.taken_back(send.key)
        self.on_committed(send.key, SendCancelledError(f"{client_msg_id} was taken back; it was never sent"))
        return "CANCELLED"

    def stopped(self, cause: Exception) -> None:
        """The client has stopped: nothing more will be answered. What is pending stays in the store."""
        self._stopped = True
        self.release(cause)

    def release(self, cause: Exception) -> None:
        """Nobody waits any longer; `cause` says why."""
        for waiter in self._waiters.values():
            waiter.outcome = cause
            waiter.done.set()
        self._waiters.clear()
        self._emptied.set()

    async def wait_emptied(self) -> None:
        """Return once nothing waits for an answer, or the client has stopped. Several may wait."""
        while self._queue.unanswered and not self._stopped:
            await self._emptied.wait()


class Cursors:
    """What is to be sent of DELIVERED_ACK and READ. Bounded by the number of conversations.

    Neither has an answer. What is delivered waits a moment for more of it, or for something else that leaves. What
    gets lost with a connection is found again from the heads of the next one; what is refused for now goes out again
    after a wait.

    Args:
        store: Keeps how far the user has read.
        clock: Times what waits and what was refused.
        backoff: Waits after a refusal for now.
        confirm_wait_s: How long what is delivered waits for more of it.

    Attributes:
        wanted_reads: How far the user has read, by conversation, where the server is not known to know.
    """

    def __init__(self, store: LocalStore, clock: Clock, backoff: Backoff, confirm_wait_s: float) -> None:
        self._store = store
        self._clock = clock
        self._backoff = backoff
        self._confirm_wait_s = confirm_wait_s
        self._confirm_at_s = 0.0
        self.wanted_reads = store.reads()
        self._delivered: dict[str, int] = {}
        self._read: dict[str, int] = {}
        self._retry_at: dict[tuple[str, str], tuple[float, int]] = {}  # (ref, conversation): when, what
        self._refusals: dict[
            tuple[str, str], tuple[int, float]
        ] = {}  # likewise: how many in a row, and until when

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
        if not self._delivered:
            self._confirm_at_s = self._clock.now_s() + self._confirm_wait_s
        self._delivered[conversation_id] = max(up_to_seq, self._delivered.get(conversation_id, 0))

    def check_room(self, conversation_id: str, conversations_max: int) -> None:
        """Raises QueueFullError where one more conversation that nobody knows yet would be too many."""
        if conversation_id not in self.wanted_reads and len(self.wanted_reads) >= conversations_max:
            raise QueueFullError(f"{conversations_max} conversations wait to count as read")

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

    def forget_reads_but(self, known: Conversations) -> None:
        """All conversations are known: what was read of another one is of none."""
        for conversation_id in list(self.wanted_reads):
            if known.get(conversation_id) is None and not known.is_unknown(conversation_id):
                logger.warning("no conversation %s: that it was read is given up", conversation_id)
                self.forget_read(conversation_id)

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
        self._refusals.clear()

    def refused(self, error: ev.ErrorEvent, conversation_id: str, up_to_seq: int) -> None:
        """An ERROR for a cursor: again after a wait, or never; a read cursor refused for good is forgotten."""
        if not error.retryable:
            if error.ref == READ_REF:
                logger.warning("that %s was read is given up: %s", conversation_id, error.code)
                self.forget_read(conversation_id)
            return
        kind = READ_REF if error.ref == READ_REF else DELIVERED_REF
        delay_s = self._refused_again(kind, conversation_id, retry_after_of(error.retry_after_ms))
        seq = self.wanted_reads.get(conversation_id, 0) if kind == READ_REF else up_to_seq
        if seq == 0:
            return  # it was about another log
        self._retry_at[kind, conversation_id] = (self._clock.now_s() + delay_s, seq)

    def _refused_again(self, kind: str, conversation_id: str, retry_after_s: float | None) -> float:
        """How long to wait: longer with each refusal. Nobody says that a cursor was taken: silence counts as that."""
        now_s = self._clock.now_s()
        count, in_a_row_until_s = self._refusals.get((kind, conversation_id), (0, 0.0))
        count = count + 1 if now_s < in_a_row_until_s else 1
        delay_s = self._backoff.delay_s(count, retry_after_s)
        self._refusals[kind, conversation_id] = count, now_s + delay_s + _SILENCE_S
        return delay_s

    def hurry(self) -> None:
        """Nothing waits for more of it any longer."""
        self._confirm_at_s = self._clock.now_s()

    def take(self, *, leaving: bool = True) -> list[ev.ClientEvent]:
        """Everything there is to send now; what is delivered only if it has waited, or something else is `leaving`."""
        self._due()
        if not (leaving or self._read or self._clock.now_s() >= self._confirm_at_s):
            return []
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
        """Seconds until something is due, be it once more; None if there is nothing."""
        due = [at_s for at_s, _ in self._retry_at.values()]
        if self._delivered:
            due.append(self._confirm_at_s)
        return max(0.0, min(due) - self._clock.now_s()) if due else None

    def _due(self) -> None:
        now_s = self._clock.now_s()
        for (kind, id_), (at_s, seq) in list(self._retry_at.items()):
            if at_s > now_s:
                continue
            del self._retry_at[kind, id_]
            self.hurry()
            waiting = self._read if kind == READ_REF else self._delivered
            waiting[id_] = max(seq, waiting.get(id_, 0))
