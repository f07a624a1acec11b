"""What a sitting has found: raw data, a table with ratios, the machine and the versions, in words that stand alone."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from .rivals import installed
from .table import OTHERS, Aim, Line, Sitting
from .tree import HERE, Tree
from .workloads import Figures

OTHERS_MAX = 0.2
"""Of the cores: with more than that for other processes no aim is judged."""

LAYERS = {
    "loop_user": "event loop",
    "loop_kernel": "kernel, for the event loop",
    "threads_user": "other threads",
    "threads_kernel": "kernel, for other threads",
    "database": "database",
}
"""By the names of `running.Cpu`."""


@dataclass(frozen=True)
class Sample:
    """One round of one side."""

    line: str
    side: str
    round: int
    figures: Figures


@dataclass(frozen=True)
class Judged:
    """An aim beside what was found: the median of the rounds, the least and the most."""

    aim: Aim
    found: float
    least: float
    most: float

    @property
    def is_reached(self) -> bool:
        """Whether it was."""
        return self.found <= self.aim.at_most


class Results:
    """The samples of a sitting, in order.

    Args:
        lines: What was measured, by name.
        missing: Why a side of a line was not: by both their names.
        objection: Why no aim is judged by it; empty: they are.
    """

    def __init__(
        self, lines: Mapping[str, Line], missing: Mapping[tuple[str, str], str], objection: str = ""
    ) -> None:
        self.lines = lines
        self.missing = missing
        self._objection = objection
        self.samples: list[Sample] = []

    def values(self, line: str, side: str) -> list[float]:
        """Of the figure that counts, in order of the rounds."""
        figure = self.lines[line].figure
        return [float(it.figures[figure]) for it in self.samples if (it.line, it.side) == (line, side)]

    def median(self, line: str, side: str) -> float | None:
        """None: this side was not measured."""
        values = self.values(line, side)
        return statistics.median(values) if values else None

    def objection(self, line: str) -> str:
        """Why an aim of a line is not judged; empty: it is."""
        shares = [it.figures[OTHERS] for it in self.samples if it.line == line and OTHERS in it.figures]
        if shares and statistics.median(shares) > OTHERS_MAX:
            return f"other processes had {statistics.median(shares):.0%} of the cores"
        return self._objection

    def layers(self, line: str) -> dict[str, dict[str, float]]:
        """By side and layer, medians in microseconds; empty where a line has none."""
        found: dict[str, dict[str, float]] = {}
        for side in self.lines[line].sides:
            each = [it.figures.get("layers_us") for it in self.samples if (it.line, it.side) == (line, side)]
            split = [it for it in each if it]
            if split:
                found[side] = {layer: statistics.median(it[layer] for it in split) for layer in LAYERS}
        return found

    def judged(self, line: str) -> Iterator[Judged]:
        """Each aim of a line whose sides were measured: both of a round stood side by side, whatever came later."""
        for aim in self.lines[line].aims:
            mine = self.values(line, aim.of)
            others = [1.0] * len(mine) if aim.to is None else self.values(line, aim.to)
            ratios = [one / other for one, other in zip(mine, others, strict=False)]
            if ratios:
                yield Judged(aim, statistics.median(ratios), min(ratios), max(ratios))


def about(sitting: Sitting, rounds: int) -> dict[str, object]:
    """The machine and the versions."""
    packages = ("uvicorn", "uvloop", "msgspec", "websockets", "anyio", "asyncpg")
    return {
        "chatkit": Tree(HERE).commit,
        "rounds": rounds,
        "seconds": sitting.seconds,
        "part_of_counts": sitting.part,
        "messages_in_the_longest_log": sitting.stored,
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{_distribution()}, kernel {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in packages},
        "rivals": installed.versions(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def write(results: Results, described: Mapping[str, object], out: Path) -> Path:
    """Write all of it into a folder; the raw data is there already. Returns the report."""
    (out / "about.json").write_text(json.dumps(described, indent=1) + "\n")
    report = out / "report.md"
    report.write_text("\n".join(_report(results, described)) + "\n")
    return report


def write_sample(sample: Sample, raw: Path) -> None:
    """Add a line to the raw data, at once: what was measured is kept, whatever comes."""
    with raw.open("a") as file:
        file.write(json.dumps(asdict(sample)) + "\n")


def _report(results: Results, described: Mapping[str, object]) -> Iterator[str]:
    yield "# What chatkit costs, beside what others cost"
    yield ""
    yield (
        "Servers (and their database) on one core, the load on another one; each side on a fresh server in turn, every "
        "message durable before it is acknowledged. Medians of the rounds with least and most; ratios likewise, "
        "of what stood side by side in a round: chatkit by the other, or where it grows, the largest by the least."
    )
    yield ""
    yield "| work | who | median | from - to | ratio | aim |"
    yield "|---|---|---|---|---|---|"
    for name, line in results.lines.items():
        yield from _rows(results, name, line)
    yield ""
    for name in results.lines:
        yield from _layers(results, name)
    yield "## The machine"
    yield ""
    yield from (f"- {key}: {_words(value)}" for key, value in described.items())
    shares = [it.figures[OTHERS] for it in results.samples if OTHERS in it.figures]
    if shares:
        yield (
            f"- other processes had {statistics.median(shares):.0%} of the two cores in the median, and at most "
            f"{max(shares):.0%} (what the kernel does by itself for disk and network counts as theirs): above some 5 % "
            "rates and waits say little, CPU something"
        )
    yield ""
    yield "A line again: `python -m benchmarks --only NAME`, NAME one of " + ", ".join(results.lines) + "."


def _rows(results: Results, name: str, line: Line) -> Iterator[str]:
    work = f"**{name}**: {line.title}; {line.unit}"
    for side in line.sides:
        values = results.values(name, side)
        if not values:
            yield f"| {work} | {side} | {results.missing.get((name, side), 'not measured')} | | | |"
            work = ""
            continue
        ratios, aims = [], []
        for it in results.judged(name):
            if side == (it.aim.to or it.aim.of):
                ratios += [f"{it.found:.2f} ({it.least:.2f} - {it.most:.2f})"] if it.aim.to else []
                verdict = "reached" if it.is_reached else "**not reached**"
                aims.append(f"{it.aim.at_most:g}: {'not judged' if results.objection(name) else verdict}")
        span = f"{min(values):g} - {max(values):g}"
        middle = f"{statistics.median(values):g}"
        yield f"| {work} | {side} | {middle} | {span} | {', '.join(ratios)} | {', '.join(aims)} |"
        work = ""


def _layers(results: Results, name: str) -> Iterator[str]:
    found = results.layers(name)
    if not found:
        return
    yield f"## Where it goes: {name}, {results.lines[name].unit}"
    yield ""
    yield "| who | " + " | ".join(LAYERS.values()) + " |"
    yield "|---" * (len(LAYERS) + 1) + "|"
    for side, layers in found.items():
        yield f"| {side} | " + " | ".join(f"{layers[layer]:.1f}" for layer in LAYERS) + " |"
    yield ""


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {it}" for name, it in value.items())
    return str(value)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())


def reached(results: Results) -> Sequence[str]:
    """A line of text for each aim."""
    lines = []
    for name in results.lines:
        for it in results.judged(name):
            to = f" of {it.aim.to}" if it.aim.to else f" {results.lines[name].unit}"
            verdict = "reached" if it.is_reached else "NOT reached"
            if results.objection(name):
                verdict = f"not judged: {results.objection(name)}"
            lines.append(f"{name}: {it.aim.of} {it.found:.2f}{to}, aim {it.aim.at_most:g}: {verdict}")
    return lines
