"""Older entries on demand: from the local store, completed by SYNC pages below what it holds."""

from __future__ import annotations

import anyio

from ..core.timeline import tombstone
from ..errors import ConnectionLostError, NotFoundError, ProtocolError
from ..types import Message
from ..wire import events as ev
from .conversations import Conversation
from .parts import Parts
from .session import Session


class _RenewedError(Exception):
    """The log, or what this device knows of it, was replaced while it was read."""


class History:
    """Reads of the past of one client."""

    def __init__(self, parts: Parts, session: Session) -> None:
        self._parts = parts
        self._session = session

    async def read(self, conversation_id: str, before_seq: int | None, limit: int) -> list[Message]:
        """The newest entries below `before_seq`, ascending; fetches until there are `limit` or no more exist.

        Entries that are not placed yet (a hole, a pull under way, an app that does not take its events) are fetched
        for this answer alone while connected, and left out while not. Raises NotFoundError, or ClosedError when the
        client stopped. The caller sets the deadline.
        """
        while True:
            conversation = await self._conversation(conversation_id)
            before = conversation.timeline.head + 1
            if before_seq is not None:
                before = min(before_seq, before)
            try:
                newest, end = await self._not_placed(conversation, before - 1, limit)
                older = await self._read(conversation, end + 1, limit - len(newest))
                return _blanked(conversation, older + newest)
            except _RenewedError:
                await anyio.lowlevel.checkpoint()

    async def _conversation(self, conversation_id: str) -> Conversation:
        """The conversation; waits for the first heads if this device has no record of it."""
        while True:
            conversation = self._parts.conversations.get(conversation_id)
            if conversation is not None:
                return conversation
            if self._session.connected and self._parts.receiver.heads_complete:
                raise NotFoundError("no such conversation")
            await self._session.wait_connected()
            await anyio.sleep(self._parts.config.gap_wait_s)

    async def _not_placed(
        self, conversation: Conversation, end: int, limit: int
    ) -> tuple[list[Message], int]:
        """The newest entries above the prefix and up to `end`, and where the older ones end."""
        found: list[Message] = []
        if not self._session.connected or conversation.left:
            return found, min(end, conversation.timeline.prefix)
        span = limit
        while len(found) < limit and end > conversation.timeline.prefix:
            start = max(conversation.timeline.prefix, end - span)
            fetched = await self._window(conversation, start, end)
            found = fetched + found
            end, span = start, span if fetched else 2 * span
        return found[-limit:], end

    async def _read(self, conversation: Conversation, before: int, limit: int) -> list[Message]:
        floor = self._parts.store.floor(conversation.id)
        found = self._parts.store.messages(conversation.id, before, limit)
        held = [message for message in found if message.seq > floor]
        end, span = min(floor, before - 1), limit
        while len(held) < limit and end >= conversation.first_seq and not conversation.left:
            start = max(0, end - span)
            fetched = await self._window(conversation, start, end)
            self._keep(conversation, start, end, fetched)
            held = fetched + held
            end, span = start, span if fetched else 2 * span  # long parts may not be visible at all
        return held[-limit:]

    async def _window(self, conversation: Conversation, start: int, end: int) -> list[Message]:
        """Every visible entry of (start, end]."""
        epoch, last_seq = conversation.timeline.epoch, start
        messages: list[Message] = []
        while last_seq < end:
            page = await self._page(conversation.id, last_seq, end - last_seq)
            known = self._parts.conversations.get(conversation.id)
            if page.epoch != epoch or conversation.timeline.epoch != epoch or known is not conversation:
                raise _RenewedError
            if page.up_to_seq <= last_seq:
                raise ProtocolError("a page of history covers nothing")
            messages += self._parts.receiver.all_readable(page.messages)
            last_seq = page.up_to_seq
        return _blanked(conversation, [message for message in messages if message.seq <= end])

    async def _page(self, conversation_id: str, last_seq: int, count: int) -> ev.SyncPage:
        while True:
            await self._session.wait_connected()
            try:
                return await self._parts.syncer.fetch(conversation_id, last_seq, min(count, ev.PAGE_MAX))
            except ConnectionLostError:
                await anyio.lowlevel.checkpoint()

    def _keep(self, conversation: Conversation, start: int, end: int, messages: list[Message]) -> None:
        """Store a window that touches what is stored already; others would leave a hole."""
        if self._parts.receiver.failure is not None or self._parts.store.floor(conversation.id) != end:
            return
        change = conversation.change()
        change.floor = start
        change.messages = messages
        self._parts.store.save([change])


def _blanked(conversation: Conversation, messages: list[Message]) -> list[Message]:
    """Recalls that came while the entries were fetched win."""
    recalled = conversation.recalled_lately
    return [tombstone(message) if message.seq in recalled else message for message in messages]
