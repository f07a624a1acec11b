"""A wake-up call between tasks that is never lost: `set` before `wait` lets the next `wait` return at once."""

from __future__ import annotations

import anyio


class Signal:
    """For one waiting task; many may set it."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the waiter, now or when it comes."""
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return once set, or after `timeout_s`; the call is used up."""
        if timeout_s is None:
            await self._event.wait()
        else:
            with anyio.move_on_after(timeout_s):
                await self._event.wait()
        self._event = anyio.Event()
