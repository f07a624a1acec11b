"""When a provider is left alone, and how long to wait after a failure: for all adapters, pure but for clock and jitter.

After some failures in a row the breaker opens: nothing is sent for a while. Then one push is tried, and what becomes of
it decides. Nothing loops here, so tenacity has no place: whoever sent the push is told when to come back.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from ..core.backoff import next_delay
from ..ports import Ports
from .base import Result, Retry, Unknown

FAILURES_MAX = 5
"""So many in a row open a breaker."""

OPEN_S = 10.0
"""How long it stays open the first time; doubled at each try that fails, up to `OPEN_MAX_S`."""

OPEN_MAX_S = 300.0
BACKOFF_BASE_S = 2.0
BACKOFF_MAX_S = 300.0
WAIT_MIN_S = 1.0
"""No push is worth a second try earlier."""

RETRY_AFTER_MAX_S = 3600.0
"""The longest wait that a provider can ask for; up to half of it is added."""

TRACKED_MAX = 1000
"""Failing services that are remembered at a time, the newest."""


class _State(msgspec.Struct):
    """What is remembered of one service that failed."""

    failures: int = 0
    opened: int = 0
    until_s: float = 0.0
    tried: bool = False


class Breakers:
    """One breaker for each service that a provider sends to: one for all, or one for each host that devices name.

    Args:
        ports: Clock and jitter.
        failures_max: Failures in a row that open one.
        open_s: Seconds that it stays open the first time.
    """

    def __init__(self, ports: Ports, *, failures_max: int = FAILURES_MAX, open_s: float = OPEN_S) -> None:
        self._clock = ports.clock
        self._random = ports.random
        self._failures_max = failures_max
        self._open_s = open_s
        self._failing: OrderedDict[str, _State] = OrderedDict()

    def wait_s(self, service: str) -> float | None:
        """Seconds until the service may be tried; None if it may be now. One that is open admits one try at a time.

        Whoever is given None says later what became of it, by `saw` or `left`.
        """
        state = self._failing.get(service)
        if state is None or not state.opened:
            return None
        left_s = state.until_s - self._clock.now_s()
        if left_s > 0:
            return max(WAIT_MIN_S, left_s) * (1 + self._random.random() / 2)
        if state.tried:
            return WAIT_MIN_S + self._random.random() * WAIT_MIN_S
        state.tried = True
        return None

    def saw(self, service: str, result: Result, *, was_asked: bool) -> Result:
        """Note what became of a push. Returns the result with the time to wait, where there is one to wait for.

        Args:
            service: Where it went.
            result: What became of it.
            was_asked: Whether the service was asked at all; what is refused here tells nothing of it.
        """
        if not _failed(result):
            if was_asked:
                self._failing.pop(service, None)
            else:
                self.left(service)
            return self._timed(result, 1)
        state = self._state(service)
        state.failures += 1
        if state.tried or (not state.opened and state.failures >= self._failures_max):
            self._open(state)
        return self._timed(result, state.failures)

    def left(self, service: str) -> None:
        """Note that a push was given up by its sender, which tells nothing of the service."""
        state = self._failing.get(service)
        if state is not None:
            state.tried = False

    def _state(self, service: str) -> _State:
        state = self._failing.setdefault(service, _State())
        self._failing.move_to_end(service)
        if len(self._failing) > TRACKED_MAX:
            self._failing.popitem(last=False)
        return state

    def _open(self, state: _State) -> None:
        state.tried = False
        open_s = min(self._open_s * 2 ** min(state.opened, 16), OPEN_MAX_S)
        state.until_s = self._clock.now_s() + open_s
        state.opened += 1

    def _timed(self, result: Result, failures: int) -> Result:
        if not isinstance(result, Retry | Unknown):
            return result
        return msgspec.structs.replace(result, after_s=self._backoff_s(failures, result.after_s))

    def _backoff_s(self, failures: int, asked_s: float) -> float:
        wait_s = next_delay(
            failures,
            self._random.random(),
            asked_s,
            base_s=BACKOFF_BASE_S,
            max_s=BACKOFF_MAX_S,
            retry_after_max_s=RETRY_AFTER_MAX_S,
        )
        return max(WAIT_MIN_S, wait_s)


def _failed(result: Result) -> bool:
    return isinstance(result, Unknown) or (isinstance(result, Retry) and result.failed)
