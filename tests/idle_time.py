"""An event loop whose clock goes on only while nothing happens: deadlines of tests with real sockets.

A wait that runs out moves it by as long as the wait; what the process does, and how long the machine lets it wait for
a core, takes no time. So a busy machine makes no deadline pass before its time. For both ends in one process: what
another process or a thread takes does count.
"""

from __future__ import annotations

import asyncio
import selectors


class _IdleSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        if not ready and timeout is not None and timeout > 0:
            self.now_s += timeout
        return ready


class IdleLoop(asyncio.SelectorEventLoop):
    """For `anyio_backend`: `("asyncio", {"loop_factory": IdleLoop})`."""

    def __init__(self) -> None:
        self._idle = _IdleSelector()
        super().__init__(self._idle)

    def time(self) -> float:
        """Seconds in which nothing happened."""
        return self._idle.now_s
