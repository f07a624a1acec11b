"""Tells the delivery queue which conversations have work. Called by `publisher`, once an entry is stored.

The outbox in the store is the truth: what is not put here, or is lost by the queue, workers find there some time later.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio
import msgspec

from ..._auto_reset_event import AutoResetEvent
from ...errors import RefusedError
from ...ports import Clock
from ...queue.base import Queue
from ...storage.base import Entry

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 10_000
"""Conversations that wait to be put; further ones are left to the workers' own look."""

WINDOW_MS: Final = 1_000
"""One item stands for all entries of a conversation within this time."""

_PAUSE_S: Final = 1.0


class WorkItem(msgspec.Struct, frozen=True, array_like=True):
    """Entries of a conversation from `at_ms` on, for `WINDOW_MS`."""

    conversation_id: str
    at_ms: int


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(WorkItem).decode


class QueueFeed:
    """Puts conversations with new entries into a queue, each at most once within `WINDOW_MS`.

    Args:
        queue: Opened, and open as long as the feed runs.
        clock: For what is old.
    """

    def __init__(self, queue: Queue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._waiting: dict[str, WorkItem] = {}
        self._covered_ms: dict[str, int] = {}
        self._wake = AutoResetEvent()
        self._dropped = 0

    def stored(self, entry: Entry) -> None:
        """An entry is durable. Never waits."""
        name, now_ms = entry.conversation_id, self._clock.now_ms()
        if self._covered_ms.get(name, 0) > now_ms:
            return
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
            return
        if len(self._covered_ms) >= 2 * WAITING_MAX:
            self._covered_ms = {it: until for it, until in self._covered_ms.items() if until > now_ms}
        self._covered_ms[name] = now_ms + WINDOW_MS
        self._waiting[name] = WorkItem(name, now_ms)
        self._wake.set()

    async def run(self) -> None:
        """Put what waits, until cancelled."""
        while True:
            await self._wake.wait()
            while self._waiting:
                await self._put(next(iter(self._waiting)))

    async def _put(self, name: str) -> None:
        item = self._waiting.pop(name)
        try:
            await self._queue.put(encode(item), name)
        except RefusedError as error:  # full, or its server is away
            logger.warning("the delivery queue takes nothing: %s; workers find the work later", error)
            await anyio.sleep(_PAUSE_S)
        except Exception:  # a bug there must not end the server
            logger.exception("the delivery queue does not take %s", name)
            await anyio.sleep(_PAUSE_S)
        if self._dropped:
            logger.warning("%d conversations were not put into the delivery queue", self._dropped)
            self._dropped = 0
