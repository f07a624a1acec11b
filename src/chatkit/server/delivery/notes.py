"""What a job has to tell the store of its claims: which devices come again, and what providers said. No I/O is here."""

from __future__ import annotations

from typing import Final

from ...core.log.trail import PROVIDER_ID_CHARS_MAX
from ...push.base import REASON_CHARS_MAX, Dead, Delivered, Refused, Result, Retry, Unknown
from ...storage.base import Claim, Finished, LaterDelivery, PushAnswer, PushRecord
from .planning import Place, Task, place_of

_ANSWERS: Final[dict[type[Result], PushAnswer]] = {
    Delivered: "TAKEN",
    Retry: "RETRY",
    Dead: "DEAD",
    Refused: "REFUSED",
    Unknown: "UNKNOWN",
}


class Notes:
    """Collects them, by the place of each claim."""

    def __init__(self) -> None:
        self._later: dict[Place, list[LaterDelivery]] = {}
        self._pushes: dict[Place, list[PushRecord]] = {}

    def again(self, claim: Claim, later: LaterDelivery) -> None:
        """A device comes again, or was given up."""
        self._later.setdefault(place_of(claim), []).append(later)

    def said(self, task: Task, result: Result, at_ms: int) -> None:
        """A provider was handed a push, and this is what became of it."""
        target = task.target
        record = PushRecord(
            target.user_id,
            target.device_id,
            task.choice.about.seq,
            target.provider,
            at_ms,
            next(answer for kind, answer in _ANSWERS.items() if isinstance(result, kind)),
            _plain(getattr(result, "provider_id", None) or "", PROVIDER_ID_CHARS_MAX),
            _plain(getattr(result, "reason", ""), REASON_CHARS_MAX),
        )
        self._pushes.setdefault(place_of(task.claim), []).append(record)

    def finished(self, claim: Claim, at_ms: int) -> Finished:
        """The claim, with what was collected of it."""
        place = place_of(claim)
        return Finished(claim, at_ms, tuple(self._later.get(place, ())), tuple(self._pushes.get(place, ())))


def _plain(text: object, chars_max: int) -> str:
    """What a provider says as one line of bounded length; it may say anything."""
    line = "".join(char if char.isprintable() else " " for char in str(text)[: 2 * chars_max])
    return " ".join(line.split())[:chars_max]
