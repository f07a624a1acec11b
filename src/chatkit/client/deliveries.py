"""What the app takes: entries of the logs until it has taken them, and everything else once.

First comes what an earlier start left, read back in pages; then what arrives. An entry that is handed out counts in
the local store before the app sees it: as taken (`take`), or as one more try (`consume`, which takes it once its
handler has returned). While the store refuses for now, nothing is handed out. Called by `client`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import suppress
from inspect import isasyncgenfunction, isawaitable, isgeneratorfunction

import anyio
import anyio.lowlevel
from msgspec.structs import replace
from tenacity import RetryCallState

from .._auto_reset_event import AutoResetEvent
from ..core.timeline import tombstone
from ..errors import ChatkitError, ConfigurationError, NotFoundError, UnavailableError
from ..types import Message
from ._retry import Backoff, retrying
from .conversation import RECALLED_LATELY_MAX, Conversation, Conversations, delivery_of
from .event_queue import EventQueue
from .events import Delivery, EpochChanged, MessageReceived
from .history import History
from .inbox import Batches
from .store.base import LocalStore, Record, refused_for_now
from .taken import TakenCursors

logger = logging.getLogger(__name__)

PAGE_MAX = 32
"""Entries of an earlier start that are in memory at once."""

RETRY_S = 0.5
"""After so long a store that refused is asked again, unless it said when."""

_NEVER_RUNS = "whose body would never run: leave out its yield"

Handler = Callable[[Delivery], Awaitable[object] | object]


class Backlog:
    """What an earlier start of the app left, conversation by conversation, read in pages.

    The conversation that the app was busy with comes first; in each, that its log is another one.
    What the local store holds comes first. Entries that it has let go of are fetched, as they read now; without own
    messages. Whatever goes wrong there is tried again, until they have come, or the server says that there is no such
    conversation: then what the store holds is all.

    Args:
        records: What is stored at the start.
        store: Where entries are read.
        conversations: Whose client it is.
        cursors: How far each log is read and taken.
        history: Fetches what is not stored.
        events: While it is closed, nothing is fetched.
        backoff: Waits between tries.
    """

    def __init__(
        self,
        records: Iterable[Record],
        store: LocalStore,
        conversations: Conversations,
        cursors: TakenCursors,
        history: History,
        events: EventQueue,
        backoff: Backoff,
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._cursors = cursors
        self._history = history
        self._events = events
        self._trying = retrying(_may_come, wait=backoff, before_sleep=_log_failed_fetch)
        self._page: deque[Delivery] = deque()
        self._stored: deque[str] = deque()
        self._missing: deque[str] = deque()  # of these, what comes next is not stored
        self._renewals: dict[str, Delivery] = {}
        for record in sorted(records, key=lambda record: record.tries == 0):
            id_, epoch = record.conversation_id, record.epoch
            if record.renewed_above is not None:
                event = EpochChanged(id_, epoch, record.renewed_above)
                self._renewals[id_] = Delivery(event, 1, id_, epoch)
            if record.renewed_above is not None or record.taken_seq < record.prefix:
                self._stored.append(id_)

    def pop(self) -> Delivery | None:
        """The next of what was read, if there is one. What is of a replaced log is passed over."""
        while self._page:
            if self._cursors.is_read_back(delivery := self._page.popleft()):
                return delivery
        return None

    @property
    def unread(self) -> bool:
        """Whether there is more to read."""
        return bool(self._stored or self._missing)

    async def read(self) -> bool:
        """Read the next page. Returns False if it must be fetched and the client is closed or has stopped for good."""
        if self._stored:
            self._read_on(self._stored[0])
            await anyio.lowlevel.checkpoint()
            return True
        if not await self._fetch(self._missing[0]):
            return False
        self._stored.append(self._missing.popleft())
        return True

    def _read_on(self, id_: str) -> None:
        if id_ in self._renewals:
            self._page.append(self._renewals.pop(id_))
        elif self._missing_count(id_):
            self._missing.append(self._stored.popleft())
        elif not self._read_stored(id_):
            self._stored.popleft()

    def _missing_count(self, id_: str) -> int:
        """How many seqs come next that the store may have let go of."""
        _, after_seq, end_seq = self._cursors.unread(id_)
        return max(0, min(end_seq, self._store.floor(id_)) - after_seq)

    def _read_stored(self, id_: str) -> bool:
        """Read on in the store. Returns whether there may be more."""
        _, after_seq, end_seq = self._cursors.unread(id_)
        messages = self._store.untaken(id_, after_seq, end_seq, PAGE_MAX)
        is_full = len(messages) == PAGE_MAX
        self._add(id_, messages, messages[-1].seq if is_full else end_seq)
        return is_full

    async def _fetch(self, id_: str) -> bool:
        """Read on from the server. Returns False once the client is closed."""
        asked = self._cursors.unread(id_)
        after_seq = asked[1]
        end_seq = after_seq + min(self._missing_count(id_), PAGE_MAX)
        if end_seq == after_seq:
            return True
        found: tuple[list[Message], int] | None = None
        if not self._events.closed:
            with self._events.while_open(), suppress(NotFoundError):
                found = await self._trying(self._history.fetch, id_, after_seq, end_seq)
        if self._events.closed:  # and so may be the store
            return False
        if self._cursors.unread(id_) != asked:  # the log was replaced meanwhile: look again
            return True
        if found is None:
            self._read_stored(id_)
            return True
        messages, covered_seq = found
        own_id = self._conversations.user_id
        self._add(id_, [message for message in messages if message.sender_id != own_id], covered_seq)
        return True

    def _add(self, id_: str, messages: list[Message], covered_seq: int) -> None:
        epoch, _, _ = self._cursors.unread(id_)
        self._page.extend(delivery_of(message, epoch) for message in messages)
        self._cursors.read_back(id_, messages[-1].seq if messages else 0, covered_seq)


def _may_come(error: BaseException) -> bool:
    """Whether to ask again: only that there is no such conversation is an answer."""
    return isinstance(error, ChatkitError) and not isinstance(error, NotFoundError)


def _log_failed_fetch(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning(
        "what an earlier start left could not be fetched (try %d): %s", state.attempt_number, error
    )


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
        self._closed = False

    async def take(self) -> Delivery | None:
        """The next event, which counts as taken before it is returned; None once there will be none."""
        delivery = await self._next()
        if delivery is not None:
            self._cursors.took(delivery)
            await self._save()
            self._cursors.handed_out = None
        return delivery

    async def consume(self, handler: Handler) -> None:
        """Hand out every event; each is taken once the handler has returned. Returns once there will be none.

        Raises:
            Exception: What the handler raised; its event is handed out again first.
            ConfigurationError: The handler is a generator function, or returned a generator; likewise.
        """
        if isasyncgenfunction(handler) or isgeneratorfunction(handler):
            raise ConfigurationError(f"handler is a generator function, {_NEVER_RUNS}")
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
        if not delivery.repeats:
            self._cursors.handed_out = None
        attempt = self._cursors.trying(delivery)
        await self._save()
        handled = handler(replace(delivery, attempt=attempt))
        if isawaitable(handled):
            await handled
        elif isinstance(handled, AsyncGenerator | Generator):
            raise ConfigurationError(f"handler returned a generator, {_NEVER_RUNS}")
        self._cursors.took(delivery)
        self._cursors.handed_out = None
        await self._save()

    async def _next(self) -> Delivery | None:
        delivery = self._cursors.handed_out
        if delivery is None:
            delivery = await self._take()
        if delivery is None or self._closed:
            return None
        delivery = self._cursors.handed_out = self._as_recalled(delivery)
        return delivery

    async def _take(self) -> Delivery | None:
        """What an earlier start left, then what arrives; None once there will be none."""
        while not self._closed:
            delivery = self._backlog.pop()
            if delivery is not None:
                return delivery
            if not self._backlog.unread:
                return await self._queue.take()
            if not await self._backlog.read():
                return None  # to take what arrived would be to take what is missing before it
        return None

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
