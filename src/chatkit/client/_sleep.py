"""Noticing that the machine slept. What was connected before may be dead, and no timer has moved meanwhile."""

from __future__ import annotations

from ..ports import Clock

LOOK_EVERY_S = 2.0
"""How often to look. Timers stand still with the machine, so this is also how soon after its waking it is noticed."""

SLEPT_S = 5.0
"""A smaller jump of the wall clock is a correction. A greater one costs one PING, whatever its reason."""


class SleepDetector:
    """Compares the wall clock, which goes on while the machine sleeps, with the monotonic one, which does not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = self._wall_ahead_s()

    def slept(self) -> bool:
        """Whether the machine slept since the last call."""
        before_s, self._ahead_s = self._ahead_s, self._wall_ahead_s()
        return self._ahead_s - before_s > SLEPT_S

    def _wall_ahead_s(self) -> float:
        return self._clock.now_ms() / 1000 - self._clock.now_s()
