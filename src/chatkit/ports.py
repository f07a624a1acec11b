"""The only way to time and chance: three small ports and their system versions.

Everything in chatkit that needs the time, a random number or an unguessable token is handed one of these;
nothing else asks the operating system (a test walks the syntax tree of the package and holds this). That is
what lets one seed replay a whole run. Waiting is done with anyio, whose clock is the event loop's.
"""

from __future__ import annotations

import os
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now_s(self) -> float:
        """Monotonic seconds, for measuring waits; the zero is arbitrary."""

    def now_ms(self) -> int:
        """Unix milliseconds, for stamps that leave the process; may jump."""


class Random(Protocol):
    """Where jitter comes from. Not for secrets."""

    def random(self) -> float:
        """A float in [0, 1)."""


class Ids(Protocol):
    """Where unguessable bytes come from."""

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes that nobody can predict."""


class SystemClock:
    """The machine's clocks."""

    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def now_ms(self) -> int:
        """Unix milliseconds of the wall clock."""
        return time.time_ns() // 1_000_000


class SystemRandom:
    """The interpreter's random numbers."""

    def random(self) -> float:
        """A float in [0, 1)."""
        return random.random()  # noqa: S311 -- jitter is no secret


class SystemIds:
    """The operating system's random bytes."""

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes from the kernel."""
        return os.urandom(count)


class Ports:
    """The three ports as one value, so that they are handed on together.

    Args:
        clock: The machine's clocks by default.
        random: The interpreter's random numbers by default.
        ids: The kernel's random bytes by default.
    """

    __slots__ = ("clock", "ids", "random")

    def __init__(
        self, clock: Clock | None = None, random: Random | None = None, ids: Ids | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.random = random or SystemRandom()
        self.ids = ids or SystemIds()
