"""`python -m tests.proof.simulation`: many seeds on all cores, or one of them again with its story."""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from chatkit.ports import SystemClock
from chatkit.testing.transcripts import transcript

from .. import rehearsal
from ..checker import INVARIANTS, report
from .coverage import Coverage
from .delays import DELAY_MAX_S
from .plan import Plan
from .run import Outcome, simulate

COVERED_FROM = 500
"""From so many seeds on, an empty cell of the table is a failure."""

JUDGED_FROM = 20
"""From so many seeds on, an invariant that was held against nothing is a failure."""

_CHUNK = 10
_SHOWN_MAX = 5


class Bad(msgspec.Struct):
    """A seed that went wrong, and its story."""

    seed: int
    story: str


class Totals(msgspec.Struct):
    """Sums over the seeds of one worker, or of all."""

    seeds: int = 0
    virtual_s: float = 0.0
    calls: int = 0
    frames: int = 0
    converged_most_s: float = 0.0
    deliveries: int = 0
    delay_most_s: float = 0.0
    facts: Counter[str] = msgspec.field(default_factory=Counter)
    bad: list[Bad] = msgspec.field(default_factory=list)
    coverage: Coverage = msgspec.field(default_factory=Coverage)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.seeds += 1
        self.virtual_s += outcome.seconds
        self.calls += len(outcome.history.calls)
        self.frames += len(outcome.history.frames)
        self.converged_most_s = max(self.converged_most_s, outcome.converged_s or 0.0)
        self.deliveries += len(outcome.delays_s)
        self.delay_most_s = max(self.delay_most_s, *outcome.delays_s.values(), 0.0)
        self.facts.update(outcome.facts)
        self.coverage.add(outcome.history, outcome.plan.faults)
        if not outcome.good:
            self.bad.append(Bad(outcome.plan.seed, story(outcome)))

    def merge(self, other: Totals) -> None:
        """Add another worker's."""
        self.seeds += other.seeds
        self.virtual_s += other.virtual_s
        self.calls += other.calls
        self.frames += other.frames
        self.converged_most_s = max(self.converged_most_s, other.converged_most_s)
        self.deliveries += other.deliveries
        self.delay_most_s = max(self.delay_most_s, other.delay_most_s)
        self.facts.update(other.facts)
        self.coverage.merge(other.coverage)
        self.bad += other.bad


def story(outcome: Outcome) -> str:
    """What is wrong with a run, for people."""
    lines = [f"alarm: {alarm}" for alarm in outcome.alarms[:_SHOWN_MAX]]
    if outcome.violations:
        names = Counter(violation.invariant for violation in outcome.violations)
        lines.append("broken: " + ", ".join(f"{name} ({count})" for name, count in names.items()))
        lines.append(report(outcome.history, outcome.violations[0]))
    return "\n".join(lines)


def run_seeds(seeds: Sequence[int], *, dead_bus: bool = False) -> Totals:
    """Run some seeds in this process."""
    totals = Totals()
    gc.disable()  # a history is no garbage before it is judged: looking for some meanwhile costs a fifth of the time
    try:
        for seed in seeds:
            totals.add(simulate(seed, dead_bus=dead_bus))
            gc.collect()
    finally:
        gc.enable()
    return totals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 if everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed and tell its story")
    parser.add_argument("--transcript", metavar="FILE", help="with --seed: write all that happened to a file")
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds (default 500)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: the cores)"
    )
    parser.add_argument(
        "--same", type=int, metavar="N", help="run N seeds in two processes and compare their traces"
    )
    parser.add_argument(
        "--digests", action="store_true", help="print the digest of each seed's trace, nothing else"
    )
    parser.add_argument(
        "--dead-bus",
        action="store_true",
        help="no faults, but nodes never hear of each other: is it soon enough?",
    )
    options = parser.parse_args(arguments)
    if options.transcript is not None and options.seed is None:
        parser.error("--transcript needs --seed: which run is to be written down?")
    seeds = range(options.first, options.first + options.seeds)
    if options.seed is not None:
        return _one(options.seed, options.transcript, dead_bus=options.dead_bus)
    if options.digests:
        return _digests(seeds)
    if options.same is not None:
        return _same(options.first, options.same)
    return _many(seeds, options.workers, dead_bus=options.dead_bus)


def _one(seed: int, file: str | None, *, dead_bus: bool) -> int:
    outcome = simulate(seed, dead_bus=dead_bus)
    if file is not None:
        Path(file).write_text(transcript(outcome.history, sys.maxsize), encoding="utf-8")
    print(_describe(outcome.plan))
    for incident in outcome.history.incidents:
        until = "" if incident.until_s is None else f" until {incident.until_s:.3f}"
        print(f"  {incident.at_s:8.3f}{until:16} {incident.what} {incident.detail}")
    converged = (
        "never" if outcome.converged_s is None else f"{outcome.converged_s:.2f} s after the last fault"
    )
    print(f"{len(outcome.history.calls)} calls, {len(outcome.history.frames)} frames, converged {converged}")
    print(f"trace {outcome.digest}")
    print("good" if outcome.good else story(outcome))
    return 0 if outcome.good else 1


def _describe(plan: Plan) -> str:
    return "\n".join(f"{name}: {getattr(plan, name)}" for name in plan.__struct_fields__)


def _digests(seeds: Iterable[int]) -> int:
    for seed in seeds:
        print(seed, simulate(seed).digest, flush=True)
    return 0


def _same(first: int, count: int) -> int:
    """Two processes with other hash seeds, so that an order that hangs on hashes shows."""
    command = [sys.executable, "-m", __package__, "--digests", "--first", str(first), "--seeds", str(count)]
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}
        )
        for hash_seed in ("1", "4242")
    ]
    traces = [process.communicate()[0].splitlines() for process in processes]
    different = [one for one, other in zip(*traces, strict=True) if one != other]
    print(f"{len(traces[0])} seeds in two processes with PYTHONHASHSEED 1 and 4242: {len(different)} differ")
    print("\n".join(different))
    return 1 if different or len(traces[0]) != count else 0


def _many(seeds: Sequence[int], workers: int, *, dead_bus: bool) -> int:
    blind = rehearsal.not_found()
    if blind:
        print(f"the checker did not find what was spoilt for it: {'; '.join(blind)}")
        return 1
    clock = SystemClock()
    began_s = clock.now_s()
    totals = Totals()
    for part in _spread(seeds, workers, dead_bus):
        totals.merge(part)
        for bad in part.bad:
            print(f"seed {bad.seed} is bad: {bad.story.splitlines()[0]}")
        _progress(totals, len(seeds), clock.now_s() - began_s)
    _summarise(totals, clock.now_s() - began_s, dead_bus=dead_bus)
    wrong = _unmeasured(totals) if dead_bus else unproven(totals)
    for line in wrong:
        print(line)
    return 1 if totals.bad or wrong else 0


def unproven(totals: Totals) -> list[str]:
    """What is wrong with the proof itself: over some runs faults without effect and invariants without facts."""
    empty = totals.coverage.empty_cells() if totals.seeds >= COVERED_FROM else []
    unjudged = [name for name in INVARIANTS if not totals.facts[name]] if totals.seeds >= JUDGED_FROM else []
    return [
        *(f"no effect: {it}" for it in totals.coverage.without_effect()),
        *(f"no facts: {it}, in {totals.seeds} seeds" for it in unjudged),
        *(f"never tried: {it}, in {totals.seeds} seeds" for it in empty),
    ]


def _unmeasured(totals: Totals) -> list[str]:
    """What is wrong with a proof about a dead bus: no message had to cross it."""
    crossed = totals.delay_most_s > 1.0
    return [] if crossed else [f"nothing had to wait for a look at the log, in {totals.seeds} seeds"]


def _spread(seeds: Sequence[int], workers: int, dead_bus: bool) -> Iterator[Totals]:
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(partial(run_seeds, dead_bus=dead_bus), chunks)


def _progress(totals: Totals, wanted: int, took_s: float) -> None:
    end = "\n" if totals.seeds == wanted or not sys.stdout.isatty() else "\r"
    print(
        f"{totals.seeds}/{wanted} seeds, {len(totals.bad)} bad, {60 * totals.seeds / took_s:.0f} a minute",
        end=end,
        flush=True,
    )


def _summarise(totals: Totals, took_s: float, *, dead_bus: bool) -> None:
    print(f"\n{totals.coverage.table()}\n")
    if dead_bus:
        print(
            f"{totals.deliveries} deliveries to devices that were online took {totals.delay_most_s:.2f} s at most; "
            f"{DELAY_MAX_S:g} s are allowed"
        )
    print("facts: " + ", ".join(f"{name} {count}" for name, count in sorted(totals.facts.items())))
    print(
        f"{totals.seeds} seeds in {took_s:.0f} s ({60 * totals.seeds / took_s:.0f} a minute): "
        f"{totals.virtual_s / 3600:.1f} virtual hours, {totals.calls} calls, {totals.frames} frames; "
        f"all devices converged at most {totals.converged_most_s:.1f} s after the last fault"
    )
    for bad in totals.bad[:_SHOWN_MAX]:
        print(f"\nseed {bad.seed}\n{bad.story}\nagain: {_again(bad.seed, dead_bus)}")
    if totals.bad:
        print(f"\nbad seeds: {' '.join(str(bad.seed) for bad in totals.bad)}")


def _again(seed: int, dead_bus: bool) -> str:
    return f"python -m {__package__} --dead-bus --seed {seed}" if dead_bus else f"make sim SEED={seed}"


if __name__ == "__main__":
    sys.exit(main())
