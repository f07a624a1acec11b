"""An event that is used up by whoever waited for it: how a task here waits for another to change something."""

from __future__ import annotations

import anyio


class AutoResetEvent:
    """Unset again once a wait has returned because of it; a `set` before the `wait` is not lost.

    With several waiters each of them returns at the next `set`, and must look again at what it waited for.
    """

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Let everybody who waits go on; if nobody does, the next wait returns at once."""
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return once it is set, which unsets it, or after `timeout_s` seconds."""
        event = self._event
        if timeout_s is None:  # a cancel scope would cost more than the wait
            await event.wait()
        else:
            with anyio.move_on_after(timeout_s):
                await event.wait()
        if event.is_set() and event is self._event:  # others may wait for the one that is unset
            self._event = anyio.Event()
