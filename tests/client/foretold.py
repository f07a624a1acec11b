"""Time, random numbers and ids that a client's test can foretell."""

from __future__ import annotations

from chatkit.ports import Ports
from chatkit.testing.virtual_time import VirtualClock


class FixedRandom:
    """The same number every time."""

    def __init__(self, number: float = 0.5) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


class CountingIds:
    """1, 2, 3 and so on."""

    def __init__(self) -> None:
        self._count = 0

    def token_bytes(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(count, "big")


def foretold_ports(number: float = 0.5) -> Ports:
    """Ports of a test on a virtual loop."""
    return Ports(VirtualClock(), FixedRandom(number), CountingIds())
