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
    """The log was replaced while it was read."""


class History:
    """Reads of the past of one client."""

    def __init__(self, parts: Parts, session: Session) -> None:
        self._parts = parts
        self._session = session

    async def read(self, conversation_id: str, before_seq: int | None, limit: int) -> list[Message]:
        """The newest entries below `before_seq`, ascending; fetches until there are `limit` or no more exist.

        Raises NotFoundError, or whatever stopped the client. The caller sets the deadline.
        """
        while True:
            conversation = await self._conversation(conversation_id)
            end = conversation.timeline.prefix + 1
            before = end if before_seq is None else min(before_seq, end)
            try:
                return await self._read(conversation, before, limit)
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
            if page.epoch != epoch or conversation.timeline.epoch != epoch:
                raise _RenewedError
            if page.up_to_seq <= last_seq:
                raise ProtocolError("a page of history covers nothing")
            messages += self._parts.receiver.older(page)
            last_seq = page.up_to_seq
        recalled = conversation.recalled_lately
        return [
            tombstone(message) if message.seq in recalled else message
            for message in messages
            if message.seq <= end
        ]

    async def _page(self, conversation_id: str, last_seq: int, count: int) -> ev.SyncPage:
        while True:
            await self._session.wait_connected()
            try:
                return await self._parts.syncer.fetch(conversation_id, last_seq, min(count, ev.PAGE_MAX))
            except ConnectionLostError:
                await anyio.lowlevel.checkpoint()

    def _keep(self, conversation: Conversation, start: int, end: int, messages: list[Message]) -> None:
        """Store a window that touches what is stored already; others would leave a hole."""
        if self._parts.store.floor(conversation.id) != end:
            return
        change = conversation.change()
        change.floor = start
        change.messages = messages
        self._parts.store.save([change])
