"""Random numbers from one seed: named streams, so that one more draw in one of them never shifts another."""

from __future__ import annotations

import random

from ..ports import Clock, Ports
from .virtual_time import VirtualClock

Stream = random.Random
"""A source of draws, made by `Rng.stream`."""


class SeededIds:
    """`chatkit.ports.Ids` drawn from a seed, so that anybody can predict them. For tests only."""

    def __init__(self, source: Stream) -> None:
        self._source = source

    def token_bytes(self, count: int) -> bytes:
        """The stream's next bytes."""
        return self._source.randbytes(count)


class Rng:
    """A seed, and the streams that are drawn from it by name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, name: str) -> Stream:
        """The stream of this name from its beginning; the same in every process."""
        return Stream(f"{self.seed} {name}")

    def ports(self, name: str, clock: Clock | None = None) -> Ports:
        """Time, random numbers and ids of one part of a run.

        Args:
            name: Whose; two parts must not share one, or they make the same ids.
            clock: The loop's time by default.
        """
        return Ports(
            clock or VirtualClock(), self.stream(f"{name} random"), SeededIds(self.stream(f"{name} ids"))
        )
