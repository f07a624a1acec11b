"""How often something may happen: the generic cell rate algorithm, by key.

One number per key: the time at which a steady flow at the allowed rate would be due next. It needs no timer and no
bucket to refill. A key whose number has passed is as good as unknown and is forgotten, so the memory is bounded by
the keys that were busy within the last full burst.

Source: ITU-T I.371, annex A (virtual scheduling)
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

_KeyT = TypeVar("_KeyT", bound=Hashable)


class Rate(msgspec.Struct, frozen=True):
    """So many per second in the long run, and so many at once after a rest.

    Attributes:
        per_s: The steady rate, above 0.
        burst: Most at once, at least 1.
    """

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if not self.per_s > 0 or self.burst < 1:
            raise ValueError(f"a rate needs per_s above 0 and a burst of at least 1, not {self!r}")


class RateLimiter(Generic[_KeyT]):
    """Admits what comes under each key within a rate; None admits everything."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._due_s: dict[_KeyT, float] = {}
        self._sweep_at = 1024

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._due_s)

    def admit(self, key: _KeyT, now_s: float, cost: float = 1.0) -> float:
        """Count this under the key if it is within the rate.

        Args:
            key: Who does it, or where.
            now_s: Monotonic.
            cost: How many of the rate it takes. More than the whole burst is admitted after a full rest only.

        Returns:
            0.0 if it was admitted; else the seconds after which it would be, and nothing was counted.
        """
        wait_s = self.wait_s(key, now_s, cost)
        if wait_s == 0.0:
            self.count(key, now_s, cost)
        return wait_s

    def wait_s(self, key: _KeyT, now_s: float, cost: float = 1.0) -> float:
        """As `admit`, but nothing is counted."""
        rate = self._rate
        if rate is None:
            return 0.0
        due_s = max(now_s, self._due_s.get(key, now_s))
        wait_s = due_s + (min(cost, rate.burst) - rate.burst) / rate.per_s - now_s
        return wait_s if wait_s > 1e-9 else 0.0

    def count(self, key: _KeyT, now_s: float, cost: float = 1.0) -> None:
        """Count this under the key, whether it is within the rate or not."""
        if self._rate is None:
            return
        self._due_s[key] = max(now_s, self._due_s.get(key, now_s)) + cost / self._rate.per_s
        if len(self._due_s) > self._sweep_at:
            self._sweep(now_s)

    def give_back(self, key: _KeyT, cost: float = 1.0) -> None:
        """Of what was counted, this did not happen."""
        if self._rate is not None and key in self._due_s:
            self._due_s[key] -= cost / self._rate.per_s

    def _sweep(self, now_s: float) -> None:
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if due_s > now_s}
        self._sweep_at = max(1024, 2 * len(self._due_s))
