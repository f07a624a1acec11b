"""Older entries on demand: from the local store, completed by SYNC pages below what it holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from ..core.marks import marked
from ..core.timeline import tombstone
from ..errors import NotFoundError, ProtocolError
from ..types import Message
from ..wire import events as ev
from ..wire.codec import Codec
from ._retry import Backoff
from .conversation import Conversation, Conversations
from .inbox import Batches
from .open_streams import OpenStreams
from .requests import ConnectionStatus
from .store.base import LocalStore
from .sync import Sync
from .validate import all_readable


class _RenewedError(Exception):
    """The log, or what this device knows of it, is another one than the one that was being read."""


class History:
    """Reads of the past of one client.

    Args:
        codec: Decodes payloads.
        store: Where what is held is read.
        conversations: How far each of them is held.
        batches: Store what was fetched.
        sync: Fetches pages.
        status: Whether there is a connection to fetch over.
        backoff: Waits where logs are replaced faster than they can be read.
        streams: How far streamed messages have come.
    """

    def __init__(
        self,
        codec: Codec,
        store: LocalStore,
        conversations: Conversations,
        batches: Batches,
        sync: Sync,
        status: ConnectionStatus,
        backoff: Backoff,
        streams: OpenStreams,
    ) -> None:
        self._streams = streams
        self._codec = codec
        self._store = store
        self._conversations = conversations
        self._batches = batches
        self._sync = sync
        self._status = status
        self._backoff = backoff

    async def read(self, conversation_id: str, before_seq: int | None, limit: int) -> list[Message]:
        """The newest entries below `before_seq`, ascending; fetches until there are `limit` or no more exist.

        Entries that have no place yet (a hole, a pull under way, an app that does not take its events) are fetched
        for this answer alone while connected, and left out while not. While the server has another log than this
        device, all is fetched for this answer alone. The caller sets the deadline.

        Raises:
            NotFoundError: No such conversation, or no member of it.
            ClosedError: The client stopped.
        """
        attempt = 0
        while True:
            conversation = await self._conversation(conversation_id)
            try:
                return await self._read(conversation, before_seq, limit)
            except _RenewedError:
                pass
            try:
                return await self._read_elsewhere(conversation_id, before_seq, limit)
            except _RenewedError:
                attempt += 1
                await anyio.sleep(self._backoff.delay_s(attempt))

    def held(self, conversation_id: str, before_seq: int | None, limit: int) -> list[Message]:
        """What this device holds without a hole of the newest entries below `before_seq`, ascending; asks nobody.

        Raises:
            NotFoundError: This device knows of no such conversation.
        """
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            raise NotFoundError("no such conversation on this device")
        end = min(_end(before_seq, conversation.timeline.head), conversation.timeline.prefix)
        messages, _ = self._held(conversation, end, limit)
        return self._blanked(conversation_id, conversation.timeline.epoch, messages)

    async def fetch(self, conversation_id: str, after_seq: int, end_seq: int) -> tuple[list[Message], int]:
        """The first entries of (after_seq, end_seq], as the log reads now, and up to where they are all; one page.

        The log is the one that the server has, also while this device holds another one. What it does not have any
        more counts as read. Needs a connection, and waits for one.

        Raises:
            NotFoundError: No such conversation, or no member of it.
            ChatkitError: What the request raises.
        """
        page = await self._page(conversation_id, after_seq, end_seq, history=False)
        messages = [message for message in all_readable(self._codec, page) if message.seq <= end_seq]
        covered_seq = end_seq if page.up_to_seq >= page.head_seq else min(end_seq, page.up_to_seq)
        return self._blanked(conversation_id, page.epoch, messages), covered_seq

    async def _conversation(self, conversation_id: str) -> Conversation:
        """The conversation; waits for the first heads if this device has no record of it."""
        while True:
            conversation = self._conversations.get(conversation_id)
            if conversation is not None:
                return conversation
            if self._status.connected and self._conversations.complete:
                raise NotFoundError("no such conversation")
            self._status.check_running()
            await self._status.wait_changed()

    async def _read(self, conversation: Conversation, before_seq: int | None, limit: int) -> list[Message]:
        """From the store, and what it has not from the server. Raises _RenewedError."""
        end = _end(before_seq, conversation.timeline.head)
        newest, end = await self._above_prefix(conversation, end, limit)
        older = await self._up_to_prefix(conversation, end, limit - len(newest))
        return self._blanked(conversation.id, conversation.timeline.epoch, older + newest)

    async def _above_prefix(
        self, conversation: Conversation, end: int, limit: int
    ) -> tuple[list[Message], int]:
        """The newest entries above the prefix and up to `end`, and where the older ones end."""
        prefix = conversation.timeline.prefix
        if not self._status.connected or conversation.left:
            return [], min(end, prefix)
        if conversation.renewal is not None:
            raise _RenewedError
        found, end = await _downwards(partial(self._window, conversation), prefix, end, limit)
        return found[-limit:], end

    async def _up_to_prefix(self, conversation: Conversation, end: int, limit: int) -> list[Message]:
        held, floor = self._held(conversation, end, limit)
        if len(held) < limit and not conversation.left:
            window, bottom = partial(self._kept_window, conversation), conversation.first_seq - 1
            older, _ = await _downwards(window, bottom, min(floor, end), limit - len(held))
            held = older + held
        return held[-limit:]

    def _held(self, conversation: Conversation, end: int, limit: int) -> tuple[list[Message], int]:
        """The newest stored ones up to `end`, and below which seq this device holds no longer all."""
        floor = self._store.floor(conversation.id)
        found = self._store.messages(conversation.id, end + 1, limit)
        return [message for message in found if message.seq > floor], floor

    async def _read_elsewhere(
        self, conversation_id: str, before_seq: int | None, limit: int
    ) -> list[Message]:
        """All from the server, whose log is another one than the one held. Raises _RenewedError."""
        page = await self._page(conversation_id, 0, 1)
        window = partial(self._entries, conversation_id, page.epoch)
        found, _ = await _downwards(window, 0, _end(before_seq, page.head_seq), limit)
        return self._blanked(conversation_id, page.epoch, found[-limit:])

    async def _kept_window(self, conversation: Conversation, start: int, end: int) -> list[Message]:
        """As `_window`, and kept in the store."""
        fetched = await self._window(conversation, start, end)
        self._batches.keep(conversation, start, end, fetched)
        return fetched

    async def _window(self, conversation: Conversation, start: int, end: int) -> list[Message]:
        """Every visible entry of (start, end] of the log that is held, fetched. Raises _RenewedError."""
        epoch = conversation.timeline.epoch
        messages = await self._entries(conversation.id, epoch, start, end)
        same_log = conversation.renewal is None and conversation.timeline.epoch == epoch
        if not same_log or self._conversations.get(conversation.id) is not conversation:
            raise _RenewedError
        return self._blanked(conversation.id, epoch, messages)

    async def _entries(self, conversation_id: str, epoch: str, start: int, end: int) -> list[Message]:
        """Every visible entry of (start, end] of one log, fetched. Raises _RenewedError if the server has another."""
        messages: list[Message] = []
        last_seq = start
        while last_seq < end:
            page = await self._page(conversation_id, last_seq, end)
            if page.epoch != epoch or page.head_seq < end:
                raise _RenewedError
            messages += all_readable(self._codec, page)
            last_seq = page.up_to_seq
        return [message for message in messages if message.seq <= end]

    async def _page(
        self, conversation_id: str, last_seq: int, end: int, *, history: bool = True
    ) -> ev.SyncPage:
        """A page that begins after `last_seq`, of no more entries than fit up to `end`; needs a connection.

        Raises:
            ProtocolError: It covers nothing, though the log goes on.
        """
        limit = min(end - last_seq, ev.PAGE_MAX)
        page = await self._status.over_connections(
            partial(self._sync.fetch, conversation_id, last_seq, limit, history=history)
        )
        if page.up_to_seq <= last_seq < page.head_seq:
            raise ProtocolError("a page of history covers nothing")
        return page

    def _blanked(self, conversation_id: str, epoch: str, messages: list[Message]) -> list[Message]:
        """As they read now: recalls of this log that came while the entries were fetched win."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.renewal is not None or conversation.timeline.epoch != epoch:
            return messages
        recalled = conversation.recalled_lately
        shown = [tombstone(message) if message.seq in recalled else message for message in messages]
        return self._marked(conversation_id, shown)

    def _marked(self, conversation_id: str, messages: list[Message]) -> list[Message]:
        """With what is held of what was said of them later."""
        if not messages:
            return messages
        naming = self._store.naming(conversation_id, messages[0].seq, messages[-1].seq)
        return [self._streams.shown(it) for it in marked(messages, [*messages, *naming])]


async def _downwards(
    window: Callable[[int, int], Awaitable[list[Message]]], bottom: int, end: int, limit: int
) -> tuple[list[Message], int]:
    """The newest entries of (bottom, end], `limit` or more if there are so many, and where the older ones end."""
    found: list[Message] = []
    span = limit
    while len(found) < limit and end > bottom:
        start = max(bottom, end - span)
        fetched = await window(start, end)
        found = fetched + found
        end, span = start, span if fetched else 2 * span  # long parts may not be visible at all
    return found, end


def _end(before_seq: int | None, head_seq: int) -> int:
    """The highest seq that is asked for and may exist."""
    return head_seq if before_seq is None else min(before_seq - 1, head_seq)
