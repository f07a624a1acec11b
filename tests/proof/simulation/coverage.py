"""What a set of runs has tried: each operation with each result, each fault with each operation under way.

A cell that stays empty over many seeds is a case that nobody tests. Cells that cannot be filled are named here, with
the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from chatkit.testing.history import Call, Incident

from ..dumps import CompleteHistory
from .plan import FAULTS

RESULTS = ("ok", "fail", "info")

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "send": RESULTS,
    "recall": RESULTS,
    "history": RESULTS,
    "mark_read": ("ok", "fail"),  # kept locally: it never waits
    "typing": ("ok",),  # never queued, never answered
    "create": RESULTS,
    "add": RESULTS,
    "remove": RESULTS,
    "page": RESULTS,
    "list": ("ok", "info"),  # one's own list is refused to nobody
    "renew_epoch": RESULTS,
}
"""Which results each operation can have."""

IN_FLIGHT = ("send", "recall", "history", "create", "add", "remove", "page")
"""Operations that last: a fault can strike while they are under way."""


class Coverage:
    """Counts of what happened, summed over runs."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self.struck: Counter[tuple[str, str]] = Counter()

    def add(self, history: CompleteHistory) -> None:
        """Count one run."""
        self.results.update((call.op, call.result or "info") for call in history.calls)
        for incident in history.incidents:
            if incident.what in FAULTS:
                self.struck.update(
                    (incident.what, call.op) for call in history.calls if _overlap(call, incident)
                )

    def merge(self, other: Coverage) -> None:
        """Add the counts of another."""
        self.results.update(other.results)
        self.struck.update(other.struck)

    def empty_cells(self) -> list[str]:
        """What was never tried, in words."""
        return [
            *(f"{op} x {result}" for op, result in _expected_results() if not self.results[op, result]),
            *(f"{fault} x {op}" for fault, op in _expected_strikes() if not self.struck[fault, op]),
        ]

    def table(self) -> str:
        """Both tables, for people."""
        lines = [f"{'operation x result':24}" + "".join(f"{result:>9}" for result in RESULTS)]
        for op, possible in OPERATIONS.items():
            cells = [str(self.results[op, it]) if it in possible else "-" for it in RESULTS]
            lines.append(f"{op:24}" + "".join(f"{cell:>9}" for cell in cells))
        lines.append("")
        lines.append(f"{'fault x under way':24}" + "".join(f"{op:>9}" for op in IN_FLIGHT))
        for fault in FAULTS:
            lines.append(f"{fault:24}" + "".join(f"{self.struck[fault, op]:>9}" for op in IN_FLIGHT))
        return "\n".join(lines)


def _expected_results() -> Iterator[tuple[str, str]]:
    return ((op, result) for op, possible in OPERATIONS.items() for result in possible)


def _expected_strikes() -> Iterator[tuple[str, str]]:
    return ((fault, op) for fault in FAULTS for op in IN_FLIGHT)


def _overlap(call: Call, incident: Incident) -> bool:
    """Whether a call was under way when something struck, or while it lasted."""
    ended_s = incident.at_s if incident.until_s is None else incident.until_s
    return call.at_s <= ended_s and (call.returned_s is None or call.returned_s >= incident.at_s)
