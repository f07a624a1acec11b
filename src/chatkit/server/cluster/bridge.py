"""Between this node and the others: what happened here goes to the bus, what comes from there to hub and receipts.

Exists only where a bus is set. Nothing here is needed for anything to be right: what the bus loses, `reconcile` finds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from msgspec.structs import astuple

from ...bus.base import Bus, BusEvent, Message
from ...core.backoff import next_delay
from ...ports import Random
from ...storage.base import Advanced, Entry
from ...types import JoinReason
from ..live.fanout import DELIVERIES_PER_TURN
from ..live.hub import Hub
from ..receipts import Receipts
from ..session import Session
from . import messages as cm
from .reconcile_queue import ReconcileQueue

logger = logging.getLogger(__name__)

_PAYLOAD_BYTES_MAX = 8 * 1024
"""Larger entries are read from the log by whoever needs them."""

MESSAGES_PER_FRAME = 64
"""With payloads of that size a frame stays well below the bus's bound."""

_RETRY_S = 1.0
"""Upper bound of the first wait after the bus failed; it doubles with each further failure."""

_RETRY_MAX_S = 30.0


class ClusterBridge:
    """What this node says and hears on the bus.

    Args:
        random: Spreads the tries to take up a bus that failed.
        on_revoked: Called when another node says that something was revoked.
        on_available: Called when another node says who is online there.
    """

    def __init__(
        self,
        bus: Bus,
        hub: Hub,
        receipts: Receipts,
        to_reconcile: ReconcileQueue,
        random: Random,
        on_revoked: Callable[[], None],
        on_available: Callable[[cm.UsersAvailable], None],
    ) -> None:
        self._bus = bus
        self._hub = hub
        self._receipts = receipts
        self._to_reconcile = to_reconcile
        self._leaving: dict[str, list[cm.ClusterMessage]] = {}
        self._random = random
        self._failures = 0
        self._unreadable = 0
        self._deliveries = 0
        self._by_kind: dict[type[cm.ClusterMessage], Callable[[Any], int | None]] = {
            cm.EntryStored: lambda message: hub.publish(message.entry, None),
            cm.LogChanged: self._log_changed,
            cm.CursorsMoved: lambda message: receipts.note(message.advanced, None),
            cm.UserTyping: lambda message: hub.push_typing(message.conversation_id, message.user_id),
            cm.StreamPart: lambda message: hub.push_part(message, None),
            cm.MembersJoined: self._members_joined,
            cm.ConversationUpdated: lambda message: hub.push_updated(
                message.conversation_id, user_id=message.user_id
            ),
            cm.ContentRefused: lambda message: hub.push_content_refused(*astuple(message)),
            cm.DeviceOpened: self._device_opened,
            cm.LoginsRevoked: lambda message: on_revoked(),
            cm.UsersAvailable: on_available,
        }

    # --- to the others: gathered, and sent by `flush` ---

    def stored(self, entry: Entry, origin: Session | None) -> None:
        """An entry was stored; `origin` is the session that sent it, if any."""
        if origin is not None and entry.conversation_id not in origin.last_pushed_seq:
            self._to_reconcile.joined(entry.conversation_id, [origin.user_id], "JOINED")
        small = len(entry.payload) <= _PAYLOAD_BYTES_MAX
        message = cm.EntryStored(entry) if small else cm.LogChanged(entry.conversation_id)
        self._gather(cm.topic_of(entry.conversation_id), message)

    def renewed(self, conversation_id: str) -> None:
        """A log got a new epoch."""
        self._gather(cm.topic_of(conversation_id), cm.LogChanged(conversation_id))

    def moved(self, advanced: Advanced) -> None:
        """A user's cursors moved."""
        self._gather(cm.topic_of(advanced.conversation_id), cm.CursorsMoved(advanced))

    def typed(self, conversation_id: str, user_id: str) -> None:
        """A user of this node is writing."""
        self._gather(cm.topic_of(conversation_id), cm.UserTyping(conversation_id, user_id))

    def part(self, part: cm.StreamPart) -> None:
        """An open stream grew."""
        self._gather(cm.topic_of(part.conversation_id), part)

    def joined(self, conversation_id: str, user_ids: Sequence[str], reason: JoinReason) -> None:
        """Users became members of a conversation."""
        self._gather(cm.NODES, cm.MembersJoined(conversation_id, tuple(user_ids), reason))

    def updated(self, conversation_id: str, user_id: str | None = None) -> None:
        """The title or the owner of a conversation changed; or what it is for this user."""
        self._gather(cm.topic_of(conversation_id), cm.ConversationUpdated(conversation_id, user_id))

    def content_refused(self, conversation_id: str, sender_id: str, client_msg_id: str, reason: str) -> None:
        """A held message of this sender was refused for good."""
        self._gather(cm.NODES, cm.ContentRefused(conversation_id, sender_id, client_msg_id, reason))

    def opened(self, user_id: str, device_id: str) -> None:
        """A device opened a session here."""
        self._gather(cm.NODES, cm.DeviceOpened(user_id, device_id))

    def revoked(self) -> None:
        """Something was revoked here."""
        self._gather(cm.NODES, cm.LoginsRevoked())

    def available(self, message: cm.UsersAvailable) -> None:
        """Users of this node came, went, or are still there."""
        self._gather(cm.NODES, message)

    def flush(self) -> None:
        """Send what was gathered: one frame per topic, or a few."""
        leaving, self._leaving = self._leaving, {}
        for topic, gathered in leaving.items():
            for start in range(0, len(gathered), MESSAGES_PER_FRAME):
                self._bus.publish(topic, cm.encode(gathered[start : start + MESSAGES_PER_FRAME]))

    def _gather(self, topic: str, message: cm.ClusterMessage) -> None:
        self._leaving.setdefault(topic, []).append(message)

    # --- from the others ---

    async def run(self) -> None:
        """Take what the bus brings until cancelled; whatever goes wrong, wait and begin again.

        Everything is looked at once when the bus fails, and once when it brings something again; in between the checks
        by time find what the other nodes do.
        """
        self._bus.subscribe(cm.NODES)
        while True:
            try:
                async with aclosing(self._bus.events()) as events:
                    async for event in events:
                        await self._hear(event)
            except Exception as error:
                self._report(error)
            else:
                logger.warning("the bus ended")
            self._failures += 1
            if self._failures == 1:
                self._to_reconcile.everything()
            spread = self._random.random()
            await anyio.sleep(next_delay(self._failures, spread, base_s=_RETRY_S, max_s=_RETRY_MAX_S))

    async def check_unreadable(self) -> None:
        """Have everything looked at if something could not be read; called once a second, which bounds the looks."""
        unreadable, self._unreadable = self._unreadable, 0
        if unreadable:
            logger.warning("%d frames or messages of the bus could not be read", unreadable)
            self._to_reconcile.everything()

    def _report(self, error: Exception) -> None:
        if self._failures:
            logger.warning("the bus failed again: %r", error)
        else:
            logger.error("the bus failed", exc_info=error)

    async def _hear(self, event: BusEvent) -> None:
        if self._failures or not isinstance(event, Message):
            self._to_reconcile.everything()
        self._failures = 0
        if isinstance(event, Message):
            await self._take_frame(event.data)

    async def _take_frame(self, frame: bytes) -> None:
        """Act on the messages of a frame in order; the loop gets its turn after enough deliveries.

        They are counted across frames: a bus may have the next frame at hand without a wait.
        """
        try:
            messages = cm.split(frame)
        except cm.UnreadableError:
            self._unreadable += 1
            return
        for message in messages:
            self._deliveries += 1 + self._take(message)
            if self._deliveries >= DELIVERIES_PER_TURN:
                self._deliveries = 0
                await anyio.lowlevel.checkpoint()
        await self._receipts.flush_all()

    def _take(self, raw: msgspec.Raw) -> int:
        """Act on one message. Returns how many pushes were offered."""
        try:
            message = cm.decode(raw)
        except cm.UnreadableError:
            self._unreadable += 1
            return 0
        try:
            return self._by_kind[type(message)](message) or 0
        except Exception:
            logger.exception("acting on %s failed", type(message).__name__)
            return 0

    def _log_changed(self, message: cm.LogChanged) -> None:
        if self._hub.audience(message.conversation_id) is not None:
            self._to_reconcile.log(message.conversation_id)

    def _members_joined(self, message: cm.MembersJoined) -> None:
        outside = self._hub.outsiders(message.conversation_id, message.user_ids)
        if outside:
            self._to_reconcile.joined(message.conversation_id, outside, message.reason)

    def _device_opened(self, message: cm.DeviceOpened) -> None:
        if self._hub.presence.session(message.user_id, message.device_id) is not None:
            self._to_reconcile.device(message.user_id, message.device_id)
