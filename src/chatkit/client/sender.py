"""The sending half: pending messages in the local store and the resend queue, and those who wait for them."""

from __future__ import annotations

import anyio

from .._auto_reset_event import AutoResetEvent
from ..core.backoff import hint_of, next_delay
from ..core.resend import Key, PendingSend, ResendQueue
from ..errors import ChatkitError, ConflictError, RefusedError, SendOutcomeUnknownError, refusal
from ..ports import Ports
from ..types import Sent
from ..wire import events as ev
from .base import LocalStore
from .batch import Batch
from .config import ClientConfig
from .events import MessageSent, SendFailed


class _Waiter:
    """Everybody who waits for one message."""

    __slots__ = ("count", "done", "outcome")

    def __init__(self) -> None:
        self.count = 0
        self.done = anyio.Event()
        self.outcome: Sent | Exception | None = None


class Sender:
    """Messages from `send` to their answer; what is pending outlives this object in the store.

    Args:
        store: Keeps what is pending.
        config: Bounds and waits.
        ports: Clock and jitter.
        wake: Set when there is something to send.
    """

    def __init__(self, store: LocalStore, config: ClientConfig, ports: Ports, wake: AutoResetEvent) -> None:
        self._store = store
        self._config = config
        self._ports = ports
        self._wake = wake
        self._queue = self._stored()
        self._waiters: dict[Key, _Waiter] = {}
        self._emptied = AutoResetEvent()
        self._stopped = False

    def reload(self) -> None:
        """Take what is pending from the store again; those who wait go on waiting."""
        self._queue = self._stored()

    def _stored(self) -> ResendQueue:
        queue = ResendQueue(self._config.pending_max, self._config.window)
        queue.restore(self._store.pending())
        return queue

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

        Raises:
            ConflictError: The key is pending with another payload.
            QueueFullError: The bound is reached; nothing was queued.
        """
        earlier = self._queue.find(conversation_id, client_msg_id)
        if earlier is not None:
            if earlier.payload != payload:
                raise ConflictError("this clientMsgId is pending with another payload")
            if not self._queue.is_pending(earlier):
                self._store.add_pending(earlier)
                self._queue.reopen(earlier)
            return
        self._queue.check_room()
        send = PendingSend(conversation_id, client_msg_id, payload, self._queue.next_order)
        self._store.add_pending(send)
        self._queue.add(send)
        self._wake.set()

    async def outcome(self, conversation_id: str, client_msg_id: str, timeout_s: float | None) -> Sent:
        """Wait for the answer to a pending message.

        Raises:
            RefusedError: Refused for good.
            SendOutcomeUnknownError: No answer in time, or the client stopped; the message stays queued.
        """
        key = (conversation_id, client_msg_id)
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
        raise SendOutcomeUnknownError(
            f"no answer to {client_msg_id} yet; it stays queued",
            conversation_id=conversation_id,
            client_msg_id=client_msg_id,
        ) from waiter.outcome

    def settle(self, batch: Batch, sent: Sent, *, answered: bool) -> PendingSend | None:
        """A message proved durable, by its answer or by the log.

        Returns:
            It, or None if it was not pending (a repeat, another device's).
        """
        send = self._queue.settle(sent.conversation_id, sent.client_msg_id, answered=answered)
        if send is not None:
            batch.settled.append(send.key)
            batch.answers.append((send.key, sent))
            batch.events.append(MessageSent(sent))
        return send

    def refused(self, batch: Batch, error: ev.ErrorEvent) -> bool:
        """An ERROR that names a message. Returns whether it was one of ours."""
        conversation_id, client_msg_id = error.conversation_id, error.client_msg_id
        if not isinstance(conversation_id, str) or not isinstance(client_msg_id, str):
            return False
        if self._queue.find(conversation_id, client_msg_id) is None:
            return False
        if error.retryable:
            ready_at_s = self._ports.clock.now_s() + self._pause_s(conversation_id, error)
            self._queue.put_back(conversation_id, client_msg_id, ready_at_s)
            return True
        if self._queue.settle(conversation_id, client_msg_id) is None:
            return True  # the log has it, so the app was told
        cause = refusal(error.code, error.message, retryable=error.retryable)
        batch.settled.append((conversation_id, client_msg_id))
        batch.answers.append(((conversation_id, client_msg_id), cause))
        batch.events.append(SendFailed(conversation_id, client_msg_id, cause))
        return True

    def pending(self, conversation_id: str, client_msg_id: str) -> PendingSend | None:
        """The message under this key, while an answer to it is still to come."""
        return self._queue.find(conversation_id, client_msg_id)

    def has_waiter(self, key: Key) -> bool:
        """Whether a `send` call waits for this message."""
        return key in self._waiters

    def resolve(self, key: Key, outcome: Sent | ChatkitError) -> None:
        """Wake those who wait for a message, once its answer is stored."""
        waiter = self._waiters.pop(key, None)
        if waiter is not None:
            waiter.outcome = outcome
            waiter.done.set()
        if not self._queue:
            self._emptied.set()

    def take(self) -> list[PendingSend]:
        """What to send now, in order."""
        return self._queue.take(self._ports.clock.now_s())

    def wait_s(self) -> float | None:
        """Seconds until a paused conversation goes on; None if there is none."""
        return self._queue.wait_s(self._ports.clock.now_s())

    def disconnected(self) -> None:
        """Everything under way goes out again with the next connection."""
        self._queue.disconnected()

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
        """Return once nothing is pending, or the client has stopped. One caller."""
        while self._queue and not self._stopped:
            await self._emptied.wait()

    def _pause_s(self, conversation_id: str, error: ev.ErrorEvent) -> float:
        return next_delay(
            self._queue.refusals(conversation_id) + 1,
            self._ports.random.random(),
            hint_of(error.retry_after_ms),
            base_s=self._config.backoff_base_s,
            max_s=self._config.backoff_max_s,
        )
