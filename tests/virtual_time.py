"""An asyncio loop whose time jumps to the next timer as soon as nothing is ready: waits cost nothing and never vary.

Used by naming it as the backend: `("asyncio", {"loop_factory": virtual_loop})`. A loop that waits for ever raises.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping

from chatkit.ports import Ports

START_MS = 1_700_000_000_000


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits and no timer runs: the test would hang")
        self.now_s += timeout
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def virtual_loop() -> asyncio.AbstractEventLoop:
    """A new loop at time 0."""
    return _VirtualLoop()


VIRTUAL: tuple[str, Mapping[str, object]] = ("asyncio", {"loop_factory": virtual_loop})
"""The backend to return from the fixture `anyio_backend`."""


class LoopClock:
    """The running loop's time."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ms(self) -> int:
        return START_MS + int(self.now_s() * 1000)


class FixedRandom:
    """The same chance every time."""

    def __init__(self, chance: float = 0.5) -> None:
        self.chance = chance

    def random(self) -> float:
        return self.chance


class CountingIds:
    """Ids that can be foretold."""

    def __init__(self) -> None:
        self._count = 0

    def token_bytes(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(count, "big")


def virtual_ports(chance: float = 0.5) -> Ports:
    """Clock, chance and ids of a test on a virtual loop."""
    return Ports(LoopClock(), FixedRandom(chance), CountingIds())
