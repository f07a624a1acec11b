"""Between this node and the others: what happened here goes to the bus, what comes from there to hub and receipts.

Exists only where a bus is set. Nothing here is needed for anything to be right: what the bus loses, `follower` finds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import msgspec

from ..bus.base import Bus, BusEvent, Message
from ..core.backoff import next_delay
from ..ports import Random
from ..storage.base import Advanced, Entry
from . import hints
from .doubts import Doubts, JoinReason
from .hub import Hub
from .receipts import Receipts
from .session import Session

logger = logging.getLogger(__name__)

_PAYLOAD_BYTES_MAX = 8 * 1024  # larger entries are read from the log by whoever needs them
_HINTS_MAX = 64  # in one message: with payloads of that size it stays well below the bus's bound
_RETRY_S = 1.0  # upper bound of the first wait after the bus failed; it doubles with each further failure
_RETRY_MAX_S = 30.0


class Relay:
    """This node's voice and ear on the bus.

    Args:
        random: Spreads the tries to take up a bus that failed.
    """

    def __init__(self, bus: Bus, hub: Hub, receipts: Receipts, doubts: Doubts, random: Random) -> None:
        self._bus = bus
        self._hub = hub
        self._receipts = receipts
        self._doubts = doubts
        self._leaving: dict[str, list[hints.Hint]] = {}
        self._random = random
        self._failures = 0
        self._unreadable = 0
        self._by_hint: dict[type[hints.Hint], Callable[[Any], None]] = {
            hints.Logged: lambda hint: hub.publish(hint.entry, None),
            hints.Grown: self._grown,
            hints.Moved: lambda hint: receipts.note(hint.advanced, None),
            hints.Typed: lambda hint: hub.tell_typing(hint.conversation_id, hint.user_id),
            hints.Entered: self._entered,
            hints.Opened: self._opened,
        }

    # --- to the others: gathered, and sent by `flush` ---

    def logged(self, entry: Entry, origin: Session | None) -> None:
        """An entry was stored; `origin` is the session that sent it, if any."""
        if origin is not None and entry.conversation_id not in origin.offered:
            self._doubts.joined(entry.conversation_id, [origin.user_id], "JOINED")
        small = len(entry.payload) <= _PAYLOAD_BYTES_MAX
        hint = hints.Logged(entry) if small else hints.Grown(entry.conversation_id)
        self._gather(hints.topic_of(entry.conversation_id), hint)

    def renewed(self, conversation_id: str) -> None:
        """A log got a new epoch."""
        self._gather(hints.topic_of(conversation_id), hints.Grown(conversation_id))

    def moved(self, advanced: Advanced) -> None:
        """A user's cursors moved."""
        self._gather(hints.topic_of(advanced.conversation_id), hints.Moved(advanced))

    def typed(self, conversation_id: str, user_id: str) -> None:
        """A user of this node is writing."""
        self._gather(hints.topic_of(conversation_id), hints.Typed(conversation_id, user_id))

    def entered(self, conversation_id: str, user_ids: Sequence[str], reason: JoinReason) -> None:
        """Users became members of a conversation."""
        self._gather(hints.NODES, hints.Entered(conversation_id, tuple(user_ids), reason))

    def opened(self, user_id: str, device_id: str) -> None:
        """A device opened a session here."""
        self._gather(hints.NODES, hints.Opened(user_id, device_id))

    def flush(self) -> None:
        """Send what was gathered: one message per topic, or a few."""
        leaving, self._leaving = self._leaving, {}
        for topic, gathered in leaving.items():
            for start in range(0, len(gathered), _HINTS_MAX):
                self._bus.publish(topic, hints.encode(gathered[start : start + _HINTS_MAX]))

    def _gather(self, topic: str, hint: hints.Hint) -> None:
        self._leaving.setdefault(topic, []).append(hint)

    # --- from the others ---

    async def run(self) -> None:
        """Take what the bus brings until cancelled; whatever goes wrong, wait and begin again.

        Everything is looked at once when the bus fails, and once when it brings something again; in between the checks
        by time find what the other nodes do.
        """
        self._bus.subscribe(hints.NODES)
        while True:
            try:
                async for event in self._bus.events():
                    self._hear(event)
            except Exception as error:
                self._report(error)
            else:
                logger.warning("the bus ended")
            self._failures += 1
            if self._failures == 1:
                self._lost()
            chance = self._random.random()
            await anyio.sleep(next_delay(self._failures, chance, base_s=_RETRY_S, max_s=_RETRY_MAX_S))

    async def look_for_unreadable(self) -> None:
        """Have everything looked at if hints could not be read; called about once a second, which bounds the looks."""
        unreadable, self._unreadable = self._unreadable, 0
        if unreadable:
            logger.warning("%d hints of the bus could not be read", unreadable)
            self._lost()

    def _report(self, error: Exception) -> None:
        if self._failures:
            logger.warning("the bus failed again: %r", error)
        else:
            logger.error("the bus failed", exc_info=error)

    def _hear(self, event: BusEvent) -> None:
        if self._failures or not isinstance(event, Message):
            self._lost()
        self._failures = 0
        if isinstance(event, Message):
            self._take(event.data)

    def _take(self, data: bytes) -> None:
        try:
            message = hints.split(data)
        except msgspec.MsgspecError:
            self._unreadable += 1
            return
        for raw in message:
            self._take_one(raw)
        self._receipts.flush()

    def _take_one(self, raw: msgspec.Raw) -> None:
        try:
            hint = hints.decode(raw)
        except msgspec.MsgspecError:
            self._unreadable += 1
            return
        try:
            self._by_hint[type(hint)](hint)
        except Exception:
            logger.exception("the hint %s failed", type(hint).__name__)

    def _lost(self) -> None:
        self._doubts.logs_and_changes()
        self._doubts.all_devices()

    def _grown(self, hint: hints.Grown) -> None:
        if self._hub.audience(hint.conversation_id) is not None:
            self._doubts.log(hint.conversation_id)

    def _entered(self, hint: hints.Entered) -> None:
        outside = self._hub.outsiders(hint.conversation_id, hint.user_ids)
        if outside:
            self._doubts.joined(hint.conversation_id, outside, hint.reason)

    def _opened(self, hint: hints.Opened) -> None:
        if self._hub.session(hint.user_id, hint.device_id) is not None:
            self._doubts.device(hint.user_id, hint.device_id)
