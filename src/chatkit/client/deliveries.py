"""What the app takes: entries of the logs until it has taken them, and everything else once.

First comes what an earlier start left, read back in pages; then what arrives. An entry that is handed out counts in
the local store before the app sees it: as taken (`take`), or as one more try (`consume`, which takes it once its
handler has returned). While the store refuses for now, nothing is handed out. Called by `client`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable

import anyio
import anyio.lowlevel
import msgspec
from msgspec.structs import replace

from .._auto_reset_event import AutoResetEvent
from ..core.timeline import tombstone
from ..errors import NotFoundError, UnavailableError
from ..types import Message
from .conversation import RECALLED_LATELY_MAX, Conversation, Conversations, delivery_of
from .event_queue import EventQueue
from .events import Delivery, EpochChanged, MessageReceived
from .history import History, RenewedError
from .inbox import Batches
from .store.base import LocalStore, Record, refused_for_now
from .taken import TakenCursors

logger = logging.getLogger(__name__)

PAGE_MAX = 32
"""Entries of an earlier start that are in memory at once."""

RETRY_S = 0.5
"""After so long a store that refused is asked again, unless it said when."""

Handler = Callable[[Delivery], Awaitable[object] | object]


class _Left(msgspec.Struct, frozen=True):
    """What is not read yet of one log: entries of (after_seq, end_seq]."""

    conversation_id: str
    epoch: str
    after_seq: int
    end_seq: int


class Backlog:
    """What an earlier start of the app left, conversation by conversation, read in pages.

    Entries that the local store has let go of meanwhile are fetched again, as they read now; without own messages,
    and without those of a conversation that was left.

    Args:
        records: What is stored at the start.
        store: Where entries are read.
        conversations: What is in memory.
        cursors: How far each log is taken.
        history: Fetches what is not stored.
    """

    def __init__(
        self,
        records: Iterable[Record],
        store: LocalStore,
        conversations: Conversations,
        cursors: TakenCursors,
        history: History,
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._cursors = cursors
        self._history = history
        self._page: deque[Delivery] = deque()
        self._left: deque[_Left] = deque()
        for record in records:
            id_, epoch = record.conversation_id, record.epoch
            if record.renewed_above is not None:
                self._page.append(Delivery(EpochChanged(id_, epoch, record.renewed_above), 1, id_, epoch))
            if record.taken_seq < record.prefix:
                self._left.append(_Left(id_, epoch, record.taken_seq, record.prefix))

    async def take(self) -> Delivery | None:
        """The oldest that is left; None once there is nothing. What is of a replaced log is passed over."""
        while self._page or self._left:
            if not self._page:
                await self._read_on()
            elif self._cursors.is_current(delivery := self._page.popleft()):
                return delivery
        return None

    async def _read_on(self) -> None:
        await anyio.lowlevel.checkpoint()
        left = self._left[0]
        epoch, shared_seq = self._cursors.shared_seq(left.conversation_id, left.epoch)
        if left.epoch != epoch and shared_seq >= 0:  # of a log that was replaced, what the new one has too
            left = replace(left, epoch=epoch, end_seq=min(left.end_seq, shared_seq))
        try:
            messages, end_seq = await self._read(left)
        except (NotFoundError, RenewedError):
            messages, end_seq = [], left.end_seq
        self._left.popleft()
        self._page.extend(delivery_of(message, left.epoch) for message in messages)
        if end_seq < left.end_seq:
            self._left.appendleft(replace(left, after_seq=end_seq))
        last_seq = messages[-1].seq if messages else 0
        self._cursors.read_back(left.conversation_id, left.epoch, last_seq, end_seq, left.end_seq)

    async def _read(self, left: _Left) -> tuple[list[Message], int]:
        """The next page, and where it ends. Raises NotFoundError or RenewedError where there is nothing any more."""
        conversation = self._conversations.get(left.conversation_id)
        if conversation is None or conversation.timeline.epoch != left.epoch:
            raise RenewedError
        floor = self._store.floor(conversation.id)
        if left.after_seq < floor:
            return await self._fetch(conversation, left.after_seq, min(floor, left.end_seq))
        messages = self._store.untaken(conversation.id, left.after_seq, left.end_seq, PAGE_MAX)
        return messages, messages[-1].seq if len(messages) == PAGE_MAX else left.end_seq

    async def _fetch(
        self, conversation: Conversation, after_seq: int, end_seq: int
    ) -> tuple[list[Message], int]:
        if conversation.left:
            return [], end_seq
        end_seq = min(end_seq, after_seq + PAGE_MAX)
        messages = await self._history.window(conversation, after_seq, end_seq)
        return [it for it in messages if it.sender_id != self._conversations.user_id], end_seq


class Deliveries:
    """Hands events to the app, one at a time. One caller at a time.

    Args:
        store: Says what was recalled, where memory has forgotten it.
        cursors: How far each log is taken.
        backlog: What an earlier start left.
        queue: What arrives.
        conversations: What is in memory.
        batches: Confirm to the server what was taken.
        wake: Set when there is something to send.
    """

    def __init__(
        self,
        store: LocalStore,
        cursors: TakenCursors,
        backlog: Backlog,
        queue: EventQueue,
        conversations: Conversations,
        batches: Batches,
        wake: AutoResetEvent,
    ) -> None:
        self._store = store
        self._cursors = cursors
        self._backlog = backlog
        self._queue = queue
        self._conversations = conversations
        self._batches = batches
        self._wake = wake
        self._current: Delivery | None = None  # handed out, or about to be, and not taken
        self._closed = False

    async def take(self) -> Delivery | None:
        """The next event, which counts as taken before it is returned; None once there will be none."""
        delivery = await self._next()
        if delivery is not None:
            self._current = delivery
            self._cursors.took(delivery)
            await self._save()
            self._current = None
        return delivery

    async def consume(self, handler: Handler) -> None:
        """Hand out every event; each is taken once the handler has returned. Returns once there will be none.

        Raises:
            Exception: What the handler raised; its event is handed out again first.
        """
        try:
            while (delivery := await self._next()) is not None:
                await self._hand_out(delivery, handler)
        finally:
            self._save_at_end()

    def close(self) -> None:
        """Write what was taken, for the last time."""
        self._save_at_end()
        self._closed = True

    async def _hand_out(self, delivery: Delivery, handler: Handler) -> None:
        self._current = delivery if delivery.repeats else None
        attempt = self._cursors.trying(delivery)
        await self._save()
        handled = handler(replace(delivery, attempt=attempt))
        if isawaitable(handled):
            await handled
        self._cursors.took(delivery)
        self._current = None
        await self._save()

    async def _next(self) -> Delivery | None:
        delivery = self._current
        if delivery is None or not self._cursors.is_current(delivery):
            delivery = await self._backlog.take()
        if delivery is None:
            delivery = await self._queue.take()
        if delivery is None or self._closed:
            return None
        delivery = self._as_recalled(delivery)
        self._cursors.hand_out(delivery)
        return delivery

    def _as_recalled(self, delivery: Delivery) -> Delivery:
        """A message that was recalled since it was queued, without its body."""
        event, conversation = delivery.event, self._conversations.get(delivery.conversation_id)
        if conversation is None or not isinstance(event, MessageReceived):
            return delivery
        if not (conversation.recalled_lately and self._cursors.is_current(delivery)):
            return delivery
        if not self._is_recalled(conversation, event.message):
            return delivery
        return replace(delivery, event=MessageReceived(tombstone(event.message)))

    def _is_recalled(self, conversation: Conversation, message: Message) -> bool:
        lately = conversation.recalled_lately
        if message.seq in lately or len(lately) < RECALLED_LATELY_MAX:
            return message.seq in lately
        stored = self._store.untaken(conversation.id, message.seq - 1, message.seq, 1)
        return bool(stored) and stored[0].type == "RECALLED"

    async def _save(self) -> None:
        """Return once the store has what was taken and tried."""
        while not self._closed:
            try:
                return self._save_now()
            except UnavailableError as error:
                if not refused_for_now(error):
                    raise
                await anyio.sleep(RETRY_S if error.retry_after_s is None else error.retry_after_s)
        return None

    def _save_at_end(self) -> None:
        try:
            if not self._closed:
                self._save_now()
        except UnavailableError as error:
            logger.warning("what the app has taken last may come again: %s", error)

    def _save_now(self) -> None:
        self._cursors.save()
        for id_ in self._cursors.moved():
            conversation = self._conversations.get(id_)
            if conversation is not None and self._batches.taken_further(conversation):
                self._wake.set()
