"""The bounded queue between a member that publishes and the connection that carries it; for buses with a server."""

from __future__ import annotations

from collections import deque

PENDING_MAX = 10_000
"""Messages that wait to be sent, by default."""

PENDING_BYTES_MAX = 16 * 1024 * 1024
"""Their bytes, by default."""

_BATCH_MAX = 256
_BATCH_BYTES = 256 * 1024

Outgoing = tuple[str, bytes]
"""The name to publish on, and the frame."""


class Outbound:
    """What was published and not sent yet.

    Args:
        pending_max: Messages that may wait.
        bytes_max: Bytes of their frames.
    """

    def __init__(self, pending_max: int = PENDING_MAX, bytes_max: int = PENDING_BYTES_MAX) -> None:
        self._pending_max, self._bytes_max = pending_max, bytes_max
        self._waiting: deque[Outgoing] = deque()
        self._bytes = 0

    def offer(self, name: str, frame: bytes) -> bool:
        """Queue a frame. Returns whether there was room."""
        if len(self._waiting) >= self._pending_max or self._bytes + len(frame) > self._bytes_max:
            return False
        self._waiting.append((name, frame))
        self._bytes += len(frame)
        return True

    def take(self) -> list[Outgoing]:
        """The oldest that wait, as many as go well together; empty if nothing waits."""
        batch: list[Outgoing] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_MAX and size < _BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][1])
        self._bytes -= size
        return batch

    def clear(self) -> int:
        """Drop what waits. Returns how many there were."""
        count = len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return count
