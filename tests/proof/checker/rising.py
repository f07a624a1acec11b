"""The greatest number known at each moment: what cursors and heads are compared with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from math import inf


class Rising:
    """A maximum over time.

    Args:
        points: (when, value) in any order; `when` is a time or a place in the history.
    """

    def __init__(self, points: Iterable[tuple[float, int]] = ()) -> None:
        self._when: list[float] = []
        self._most: list[int] = []
        most = 0
        for when, value in sorted(points):
            if value > most:
                most = value
                self._when.append(when)
                self._most.append(most)

    def before(self, when: float) -> int:
        """The greatest value strictly before that moment; 0 if there was none."""
        place = bisect_left(self._when, when)
        return self._most[place - 1] if place else 0

    def since(self, value: int) -> float:
        """The first moment at which at least this value was known; minus infinity for 0, infinity if there was none."""
        if value <= 0:
            return -inf
        place = bisect_left(self._most, value)
        return self._when[place] if place < len(self._when) else inf
