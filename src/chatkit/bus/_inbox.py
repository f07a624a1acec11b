"""The bounded queue between a bus and its reader; what every adapter has."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator

from .._auto_reset_event import AutoResetEvent
from .base import BusEvent, Lost, Message

QUEUE_MAX = 10_000
"""Messages that wait for one member's reader, by default."""

QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of data that wait for one member's reader, by default."""


class Inbox:
    """What arrived and was not read yet.

    Args:
        queue_max: Messages that may wait.
        bytes_max: Bytes of their data.
    """

    def __init__(self, queue_max: int = QUEUE_MAX, bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self._queue_max, self._bytes_max = queue_max, bytes_max
        self._arrived: deque[Message] = deque()
        self._bytes = 0
        self._lost = False
        self._closed = False
        self._woken = AutoResetEvent()

    def offer(self, message: Message) -> None:
        """Queue a message for the reader; drop it if the queue is full."""
        size = len(message.data)
        if len(self._arrived) >= self._queue_max or self._bytes + size > self._bytes_max:
            self.lose()
            return
        self._arrived.append(message)
        self._bytes += size
        self._woken.set()

    def lose(self) -> None:
        """Tell the reader that something may have been lost."""
        self._lost = True
        self._woken.set()

    def close(self) -> None:
        """Drop what waits; `events` ends."""
        self._closed = True
        self._arrived.clear()
        self._woken.set()

    async def events(self) -> AsyncGenerator[BusEvent, None]:
        """What arrives, until `close`."""
        while not self._closed:
            while (self._arrived or self._lost) and not self._closed:
                yield self._next()
            if not self._closed:
                await self._woken.wait()

    def _next(self) -> BusEvent:
        """What was lost came after what waits, but comes first: a reader learns of it without delay."""
        if self._lost:
            self._lost = False
            return Lost()
        message = self._arrived.popleft()
        self._bytes -= len(message.data)
        return message
