"""Older entries on demand: from the local store, completed by SYNC pages below what it holds."""

from __future__ import annotations

from functools import partial

import anyio

from ..core.timeline import tombstone
from ..errors import NotFoundError, ProtocolError
from ..types import Message
from ..wire import events as ev
from ..wire.codec import Codec
from .conversation import Conversation, Conversations
from .inbox import Batches
from .requests import ConnectionStatus
from .store.base import LocalStore
from .sync import Sync
from .validate import all_readable


class RenewedError(Exception):
    """The log, or what this device knows of it, was replaced while it was read."""


class History:
    """Reads of the past of one client.

    Args:
        codec: Decodes payloads.
        store: Where what is held is read.
        conversations: How far each of them is held.
        batches: Store what was fetched.
        sync: Fetches pages.
        status: Whether there is a connection to fetch over.
    """

    def __init__(
        self,
        codec: Codec,
        store: LocalStore,
        conversations: Conversations,
        batches: Batches,
        sync: Sync,
        status: ConnectionStatus,
    ) -> None:
        self._codec = codec
        self._store = store
        self._conversations = conversations
        self._batches = batches
        self._sync = sync
        self._status = status

    async def read(self, conversation_id: str, before_seq: int | None, limit: int) -> list[Message]:
        """The newest entries below `before_seq`, ascending; fetches until there are `limit` or no more exist.

        Entries that have no place yet (a hole, a pull under way, an app that does not take its events) are fetched
        for this answer alone while connected, and left out while not. The caller sets the deadline.

        Raises:
            NotFoundError: No such conversation, or no member of it.
            ClosedError: The client stopped.
        """
        while True:
            conversation = await self._conversation(conversation_id)
            before = conversation.timeline.head + 1
            if before_seq is not None:
                before = min(before_seq, before)
            try:
                newest, end = await self._above_prefix(conversation, before - 1, limit)
                older = await self._read(conversation, end + 1, limit - len(newest))
                return _blanked(conversation, older + newest)
            except RenewedError:
                await anyio.lowlevel.checkpoint()

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

    async def _above_prefix(
        self, conversation: Conversation, end: int, limit: int
    ) -> tuple[list[Message], int]:
        """The newest entries above the prefix and up to `end`, and where the older ones end."""
        found: list[Message] = []
        if not self._status.connected or conversation.left:
            return found, min(end, conversation.timeline.prefix)
        span = limit
        while len(found) < limit and end > conversation.timeline.prefix:
            start = max(conversation.timeline.prefix, end - span)
            fetched = await self.window(conversation, start, end)
            found = fetched + found
            end, span = start, span if fetched else 2 * span
        return found[-limit:], end

    async def _read(self, conversation: Conversation, before: int, limit: int) -> list[Message]:
        floor = self._store.floor(conversation.id)
        found = self._store.messages(conversation.id, before, limit)
        held = [message for message in found if message.seq > floor]
        end, span = min(floor, before - 1), limit
        while len(held) < limit and end >= conversation.first_seq and not conversation.left:
            start = max(0, end - span)
            fetched = await self.window(conversation, start, end)
            self._batches.keep(conversation, start, end, fetched)
            held = fetched + held
            end, span = start, span if fetched else 2 * span  # long parts may not be visible at all
        return held[-limit:]

    async def window(self, conversation: Conversation, start: int, end: int) -> list[Message]:
        """Every visible entry of (start, end], fetched; needs a connection.

        Raises:
            RenewedError: The log was replaced meanwhile.
            NotFoundError: No member any more.
        """
        epoch, last_seq = conversation.timeline.epoch, start
        messages: list[Message] = []
        while last_seq < end:
            limit = min(end - last_seq, ev.PAGE_MAX)
            fetch = partial(self._sync.fetch, conversation.id, last_seq, limit)
            page = await self._status.over_connections(fetch)
            known = self._conversations.get(conversation.id)
            if page.epoch != epoch or conversation.timeline.epoch != epoch or known is not conversation:
                raise RenewedError
            if page.up_to_seq <= last_seq:
                raise ProtocolError("a page of history covers nothing")
            messages += all_readable(self._codec, page.messages)
            last_seq = page.up_to_seq
        return _blanked(conversation, [message for message in messages if message.seq <= end])


def _blanked(conversation: Conversation, messages: list[Message]) -> list[Message]:
    """Recalls that came while the entries were fetched win."""
    recalled = conversation.recalled_lately
    return [tombstone(message) if message.seq in recalled else message for message in messages]
