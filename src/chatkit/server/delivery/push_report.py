"""What instruments are told of pushes: once for all that were handed to a provider together. Called by `job`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from ...observability.instrument import Instruments, PushedBatch, PushOutcome
from ...ports import Clock
from ...push.base import Dead, Delivered, Push, Refused, Result, Retry, Unknown
from .planning import Task

Kind = Literal["delivered", "retry", "dead", "refused", "unknown", "cancelled"]

_KINDS: Final[dict[type[Result], Kind]] = {
    Delivered: "delivered",
    Retry: "retry",
    Dead: "dead",
    Refused: "refused",
    Unknown: "unknown",
}


class PushReports:
    """Tells instruments what became of pushes, if any of them listens."""

    def __init__(self, instruments: Instruments, clock: Clock) -> None:
        self._on_pushed = instruments.on_pushed
        self._clock = clock

    def now_s(self) -> float:
        """The time that reports are in."""
        return self._clock.now_s()

    def sent(
        self,
        provider: str,
        part: Sequence[tuple[Task, Push]],
        results: Sequence[tuple[Task, Result]],
        began_s: float,
    ) -> None:
        """What was looked at together was sent, or was not wanted any more: that has no result."""
        if self._on_pushed is None:
            return
        by_device = {task.device: result for task, result in results}
        outcomes = [_outcome(task, push, by_device.get(task.device)) for task, push in part]
        now_s, now_ms = self._clock.now_s(), self._clock.now_ms()
        self._on_pushed(PushedBatch(provider, outcomes, began_s, now_s, now_ms))


def _outcome(task: Task, push: Push, result: Result | None) -> PushOutcome:
    kind: Kind = next((name for of, name in _KINDS.items() if isinstance(result, of)), "cancelled")
    reason: str = getattr(result, "reason", "")
    target = task.target
    return PushOutcome(push.conversation_id, push.message_id, target.user_id, target.device_id, kind, reason)
