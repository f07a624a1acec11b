"""What an earlier start of the app left in the local store, read back in pages. Called by `deliveries`."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress

import anyio.lowlevel
from tenacity import RetryCallState

from ..errors import ChatkitError, NotFoundError
from ..types import Message
from ._retry import Backoff, retrying
from .conversation import Conversations, delivery_of
from .event_queue import EventQueue
from .events import Delivery, EpochChanged
from .history import History
from .store.base import LocalStore, Record
from .taken import TakenCursors

logger = logging.getLogger(__name__)

PAGE_MAX = 32
"""Entries of one conversation of an earlier start that are in memory at once."""


class Backlog:
    """What an earlier start of the app left, conversation by conversation, read in pages.

    The conversations that the app was busy with come first; in each, that its log is another one.
    What the local store holds comes first. Entries that it has let go of are fetched, as they read now; without own
    messages. Whatever goes wrong there is tried again, until they have come, or the server says that there is no such
    conversation: then what the store holds is all.

    A conversation that is busy is passed over, so there are at most as many pages in memory as conversations are busy,
    and one more.

    Args:
        records: What is stored at the start.
        store: Where entries are read.
        conversations: Whose client it is.
        cursors: How far each log is read and taken.
        history: Fetches what is not stored.
        events: While it ends, nothing is fetched. Told of each conversation of which there is no more.
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
        self._pages: dict[str, deque[Delivery]] = {}
        self._stored: dict[str, None] = {}  # in order
        self._missing: dict[str, None] = {}  # of these, what comes next is not stored
        self._renewals: dict[str, Delivery] = {}
        for record in sorted(records, key=lambda record: record.tries == 0):
            id_, epoch = record.conversation_id, record.epoch
            if record.renewed_above is not None:
                event = EpochChanged(id_, epoch, record.renewed_above)
                self._renewals[id_] = Delivery(event, 1, id_, epoch)
            if record.renewed_above is not None or record.taken_seq < record.prefix:
                self._stored[id_] = None

    def holds(self, id_: str) -> bool:
        """Whether there is more of this conversation, or may be."""
        return id_ in self._pages or id_ in self._stored or id_ in self._missing

    def pop(self, busy: Collection[str]) -> Delivery | None:
        """The next of what was read, if there is one. What is of a replaced log is passed over."""
        for id_ in [id_ for id_ in self._pages if id_ not in busy]:
            delivery = self._pop_of(id_)
            if delivery is not None:
                return delivery
        return None

    def may_read(self, busy: Collection[str]) -> bool:
        """Whether there is more to read now: what is to be fetched comes after all that is stored."""
        if self._stored:
            return any(id_ not in busy for id_ in self._stored)
        return bool(self._missing)

    async def read(self, busy: Collection[str]) -> bool:
        """Read the next page. Returns False if it must be fetched and the queue of events is ending."""
        id_ = next((id_ for id_ in self._stored if id_ not in busy), None)
        if id_ is not None:
            self._read_on(id_)
            self._release(id_)
            await anyio.lowlevel.checkpoint()
            return True
        id_ = next(iter(self._missing))
        if not await self._fetch(id_):
            return False
        del self._missing[id_]
        self._stored[id_] = None
        return True

    def _pop_of(self, id_: str) -> Delivery | None:
        page, delivery = self._pages[id_], None
        while page and delivery is None:
            first = page.popleft()
            delivery = first if self._cursors.is_read_back(first) else None
        if not page:
            del self._pages[id_]
            self._release(id_)
        return delivery

    def _release(self, id_: str) -> None:
        """What arrived of it was kept back by what is here; say so once there is no more of it here."""
        if not self.holds(id_):
            self._events.release(id_)

    def _read_on(self, id_: str) -> None:
        if id_ in self._renewals:
            self._pages.setdefault(id_, deque()).append(self._renewals.pop(id_))
        elif self._missing_count(id_):
            del self._stored[id_]
            self._missing[id_] = None
        elif not self._read_stored(id_):
            del self._stored[id_]

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
        """Read on from the server. Returns False once the queue of events is ending."""
        asked = self._cursors.unread(id_)
        after_seq = asked[1]
        end_seq = after_seq + min(self._missing_count(id_), PAGE_MAX)
        if end_seq == after_seq:
            return True
        found: tuple[list[Message], int] | None = None
        if not self._events.ending:
            with self._events.while_open(), suppress(NotFoundError):
                found = await self._trying(self._history.fetch, id_, after_seq, end_seq)
        if self._events.ending:  # and the store may be closed
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
        if messages:
            page = self._pages.setdefault(id_, deque())
            page.extend(delivery_of(message, epoch) for message in messages)
        self._cursors.read_back(id_, messages[-1].seq if messages else 0, covered_seq)


def _may_come(error: BaseException) -> bool:
    """Whether to ask again: only that there is no such conversation is an answer."""
    return isinstance(error, ChatkitError) and not isinstance(error, NotFoundError)


def _log_failed_fetch(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning(
        "what an earlier start left could not be fetched (try %d): %s", state.attempt_number, error
    )
