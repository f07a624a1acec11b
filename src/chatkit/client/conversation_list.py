"""The list of a user's conversations, newest activity first: from what this device holds, completed by the server.

What is held is exact: unread messages are counted in the local store, and the last message is read from it. A device
that began where another one had got to lacks what is before; that, and a title that is not known, is asked for over
HTTP, one request for 200 conversations. What it said stays right with what comes after it, until something in it is
recalled or read.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import anyio.lowlevel
from msgspec import UNSET

from ..core.log.reads import PREVIEW_ENTRIES_MAX, UNREAD_MAX
from ..core.marks import marked
from ..errors import ProtocolError
from ..ports import Clock
from ..types import ConversationSummary, Message, Notify
from ..wire import http as wire
from ..wire.codec import JSON
from ..wire.events import PAGE_MAX, SEQ_MAX
from .conversation import Conversation, Conversations, Preview
from .inbox import Batches
from .open_streams import OpenStreams
from .outbox import Cursors
from .store.base import LocalStore
from .validate import readable

Ask = Callable[[str | None, int], Awaitable[wire.ConversationsResult]]
"""Asks the server for a page by activity: after a cursor, at most so many."""

_ROWS_PER_TURN: Final = 50
"""After so many rows the event loop gets its turn."""


class ConversationList:
    """The list of one client.

    Args:
        store: Where messages are read and counted.
        conversations: What there is.
        cursors: How far the user has read here.
        batches: Keeps what the server said.
        clock: Says which mutes are over.
        streams: How far streamed messages have come.
    """

    def __init__(
        self,
        store: LocalStore,
        conversations: Conversations,
        cursors: Cursors,
        batches: Batches,
        clock: Clock,
        streams: OpenStreams,
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._cursors = cursors
        self._batches = batches
        self._clock = clock
        self._streams = streams

    def newest(self, limit: int) -> list[Conversation]:
        """The conversations with the newest activity, by id where it is equal; without those that were left."""
        present = (it for it in self._conversations if not it.left)
        return heapq.nsmallest(limit, present, key=lambda it: (-it.activity_ms, it.id))

    def lacks(self, conversations: Sequence[Conversation]) -> bool:
        """Whether the server has to be asked for what a list shows of these."""
        return any(self._lacks(it) for it in conversations)

    async def summaries(self, limit: int) -> list[ConversationSummary]:
        """What a list shows, as far as it is known here. Lets others run now and then, however long it is."""
        found = []
        for conversation in self.newest(limit):
            found.append(self.summary(conversation))
            if len(found) % _ROWS_PER_TURN == 0:
                await anyio.lowlevel.checkpoint()
        return found

    def summary(self, conversation: Conversation) -> ConversationSummary:
        """What a list shows of one, as far as it is known here."""
        is_muted = conversation.muted_until_ms > self._clock.now_ms()
        return ConversationSummary(
            conversation.id,
            conversation.type,
            conversation.title,
            conversation.timeline.head,
            self._read_seq(conversation),
            conversation.activity_ms,
            self._last_message(conversation),
            self._unread(conversation),
            conversation.muted_until_ms if is_muted else 0,
            self._unread_mentions(conversation),
            conversation.notify if is_muted else "ALL",
        )

    async def complete(self, limit: int, ask: Ask) -> None:
        """Ask the server for the newest conversations, as far as one of them lacks something.

        At most as many pages as `limit` has, and one more. Raises what `ask` raises, and UnavailableError where the
        local store refuses.
        """
        cursor: str | None = None
        for _ in range(-(-limit // PAGE_MAX) + 1):
            asked = {it.id: it.news_count for it in self.newest(limit) if self._lacks(it)}
            if not asked:
                return
            page = await ask(cursor, min(limit, PAGE_MAX))
            found = [self._take(row) for row in page.conversations if self._is_current(row, asked)]
            self._batches.describe(found)
            cursor = page.next_cursor
            if cursor is None:
                return

    def muted(self, conversation_id: str, until_ms: int, level: Notify) -> None:
        """This user is not woken for a conversation until then, but by what `level` says; 0: they are."""
        conversation = self._conversations.get(conversation_id)
        if conversation is not None:
            conversation.muted(until_ms, level)
            conversation.news_count += 1
            self._batches.describe([conversation])

    def _is_current(self, row: wire.ConversationRow, asked: Mapping[str, int]) -> bool:
        """Whether a row was asked for, and nothing came meanwhile that it may not know of."""
        conversation = self._conversations.get(row.conversation_id)
        if conversation is None or conversation.left:
            return False
        if conversation.renewal is not None or conversation.epoch != row.epoch:
            return False  # what leads there is on its way, over the connection
        return asked.get(conversation.id) == conversation.news_count

    def _take(self, row: wire.ConversationRow) -> Conversation:
        """Take note of a row. Raises ProtocolError for one that cannot be."""
        conversation = self._conversations.get(row.conversation_id)
        assert conversation is not None, "it is current"
        last = None if row.last_message is UNSET else readable(JSON, row.last_message, row.head_seq)
        if not 0 <= row.read_seq <= row.head_seq <= SEQ_MAX or min(row.unread, row.unread_mentions) < 0:
            raise ProtocolError("a row of a list reads beyond the end of its log, or counts below 0")
        if last is not None and (last.conversation_id != conversation.id or last.seq > row.head_seq):
            raise ProtocolError("the last message of a list is not of its conversation")
        conversation.preview = Preview(row.head_seq, row.read_seq, row.unread, last, row.unread_mentions)
        conversation.read_seq = max(conversation.read_seq, row.read_seq)
        conversation.listed(row)
        return conversation

    # --- what is held ---------------------------------------------------------------------------------

    def _read_seq(self, conversation: Conversation) -> int:
        return max(conversation.read_seq, self._cursors.wanted_reads.get(conversation.id, 0))

    def _lacks(self, conversation: Conversation) -> bool:
        floor, preview = self._store.floor(conversation.id), conversation.preview
        if not conversation.title_is_known:
            return True
        if floor < conversation.first_seq:
            return False  # everything that may be read is held
        if (
            preview is not None
            and floor <= preview.head_seq
            and preview.read_seq >= self._read_seq(conversation)
        ):
            return False
        is_counted = self._read_seq(conversation) >= floor
        return not (is_counted and (preview is not None or self._newest_held(conversation) is not None))

    def _unread(self, conversation: Conversation) -> int:
        """Messages of others after the read cursor; where it is before all that is held, with what the server said."""
        after_seq, preview = self._read_seq(conversation), conversation.preview
        before = 0
        if (
            preview is not None
            and after_seq < self._store.floor(conversation.id)
            and after_seq < preview.head_seq
        ):
            before = min(preview.unread, preview.head_seq - after_seq)  # some of it may have been read since
            after_seq = preview.head_seq
        held = self._store.unread(conversation.id, after_seq, self._conversations.user_id)
        return min(before + held, UNREAD_MAX)

    def _unread_mentions(self, conversation: Conversation) -> int:
        """As `_unread`, of what mentions this user."""
        after_seq, preview = self._read_seq(conversation), conversation.preview
        if after_seq >= conversation.timeline.head:
            return 0
        before = 0
        if (
            preview is not None
            and after_seq < self._store.floor(conversation.id)
            and after_seq < preview.head_seq
        ):
            before = min(preview.unread_mentions, preview.head_seq - after_seq)
            after_seq = preview.head_seq
        held = self._store.unread_mentions(conversation.id, after_seq)
        return min(before + held, UNREAD_MAX)

    def _last_message(self, conversation: Conversation) -> Message | None:
        held, preview = self._newest_held(conversation), conversation.preview
        last = preview.last_message if preview is not None else None
        newest = last if held is None or (last is not None and last.seq > held.seq) else held
        if newest is None:
            return None
        naming = self._store.naming(conversation.id, newest.seq, newest.seq)
        return self._streams.shown(marked([newest], naming)[0])

    def _newest_held(self, conversation: Conversation) -> Message | None:
        """The newest message in the local store, among the newest entries."""
        before_seq, left, count = SEQ_MAX, PREVIEW_ENTRIES_MAX, 1  # mostly it is the newest
        edits: set[object] = set()  # what a recall took along is no message either
        while left > 0:
            found = self._store.messages(conversation.id, before_seq, min(count, left))
            for message in reversed(found):
                if message.is_user_message and message.seq not in edits:
                    return message
                named = message.payload.get("edits") if message.type == "RECALL" else None
                if isinstance(named, list):
                    edits.update(it for it in named if type(it) is int)
            if len(found) < count:
                return None
            before_seq, left, count = found[0].seq, left - len(found), 4 * count
        return None
