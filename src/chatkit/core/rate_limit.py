"""How often something may happen: the generic cell rate algorithm, by key.

One number per key: the time at which a steady flow at the allowed rate would be due next. It needs no timer and no
bucket to refill. A key whose number has passed is as good as unknown and is forgotten, so the memory is bounded by
the keys that were busy within the last full burst.

Source: ITU-T I.371, annex A (virtual scheduling)
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Generic, TypeVar

import msgspec

from ..errors import ConfigurationError

_EXACT_S = 1e-9
"""Waits below this are errors of rounding."""

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
        if type(self.per_s) not in (int, float) or type(self.burst) is not int:
            raise ConfigurationError(
                f"a rate is a number per second and a whole number at once, not {self!r}"
            )
        if not 0 < self.per_s < inf or self.burst < 1:
            raise ConfigurationError(f"a rate needs per_s above 0 and a burst of at least 1, not {self!r}")


class RateLimiter(Generic[_KeyT]):
    """Admits what comes under each key within a rate; None admits everything."""

    def __init__(self, rate: Rate | None) -> None:
        self._burst = 0 if rate is None else rate.burst
        self._interval_s = 0.0 if rate is None else 1 / rate.per_s
        self._slack_s = self._burst * self._interval_s
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
        if not self._burst:
            return 0.0
        due_s = self._due_s.get(key, now_s)
        if due_s < now_s:
            due_s = now_s
        wait_s = due_s + min(cost, self._burst) * self._interval_s - self._slack_s - now_s
        if wait_s > _EXACT_S:
            return wait_s
        self._due_s[key] = due_s + cost * self._interval_s
        if len(self._due_s) > self._sweep_at:
            self._sweep(now_s)
        return 0.0

    def give_back(self, key: _KeyT, cost: float = 1.0) -> None:
        """Of what was counted, this did not happen."""
        if key in self._due_s:
            self._due_s[key] -= cost * self._interval_s

    def _sweep(self, now_s: float) -> None:
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if due_s > now_s}
        self._sweep_at = max(1024, 2 * len(self._due_s))
