"""What a set of runs has tried: each operation with each result, each fault with each operation that it changed.

A cell that stays empty over many seeds is a case that nobody tests. Cells that cannot be filled are named here, with
the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

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
    "review": RESULTS,
}
"""Which results each operation can have."""

IN_FLIGHT = ("send", "recall", "history", "create", "add", "remove", "page")
"""Operations that last: a fault can strike while they are under way."""


OFTEN = 20
"""From so many runs or strikes on, a fault that shows nothing is broken."""


class Coverage:
    """Counts of what happened, summed over runs."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self.struck: Counter[tuple[str, str]] = Counter()
        self.planned: Counter[str] = Counter()
        self.incidents: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()

    def add(self, history: CompleteHistory, planned: Sequence[str] = FAULTS) -> None:
        """Count one run with these faults in its plan; a fault strikes what is under way if it changed anything."""
        self.results.update((call.op, call.result or "info") for call in history.calls)
        self.planned.update(planned)
        self.incidents.update(it.what for it in history.incidents if it.what in FAULTS)
        for incident, changed in history.effects:
            self.effects[incident.what] += changed
            if changed:
                self.struck.update(
                    (incident.what, call.op) for call in history.calls if _overlap(call, incident)
                )

    def merge(self, other: Coverage) -> None:
        """Add the counts of another."""
        self.results.update(other.results)
        self.struck.update(other.struck)
        self.planned.update(other.planned)
        self.incidents.update(other.incidents)
        self.effects.update(other.effects)

    def without_effect(self) -> list[str]:
        """Faults that many runs had in their plan and that never struck, or that struck often and changed nothing."""
        silent = [it for it in FAULTS if self.planned[it] >= OFTEN and not self.incidents[it]]
        idle = [it for it in FAULTS if self.incidents[it] >= OFTEN and not self.effects[it]]
        return [
            *(f"{it}: planned in {self.planned[it]} runs, and never struck" for it in silent),
            *(f"{it}: struck {self.incidents[it]} times, and changed nothing" for it in idle),
        ]

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
        heads = ("runs", "strikes", "effects", *IN_FLIGHT)
        lines.append(f"{'fault x under way':24}" + "".join(f"{head:>9}" for head in heads))
        for fault in FAULTS:
            counts = (self.planned[fault], self.incidents[fault], self.effects[fault])
            row = (*counts, *(self.struck[fault, op] for op in IN_FLIGHT))
            lines.append(f"{fault:24}" + "".join(f"{cell:>9}" for cell in row))
        return "\n".join(lines)


def _expected_results() -> Iterator[tuple[str, str]]:
    return ((op, result) for op, possible in OPERATIONS.items() for result in possible)


def _expected_strikes() -> Iterator[tuple[str, str]]:
    return ((fault, op) for fault in FAULTS for op in IN_FLIGHT)


def _overlap(call: Call, incident: Incident) -> bool:
    """Whether a call was under way when something struck, or while it lasted."""
    ended_s = incident.at_s if incident.until_s is None else incident.until_s
    return call.at_s <= ended_s and (call.returned_s is None or call.returned_s >= incident.at_s)
