"""`python -m benchmarks.compare REVISION_OR_PATH`: the workloads before and after, in one sitting.

Before is another tree (a path with a `.venv`), or a revision that is checked out into a temporary git worktree, set up
with `make setup` and removed at the end. After is the tree this command is in. Every workload is run against both, one
right after the other, and every other round begins with the other one, so that a machine that grows slower or noisier
does so for both. A server runs with its own tree's interpreter and code; the load is this tree's code for both. Servers
and load have a core each where there are two.

Of each figure the medians are compared. The exit code is 1 if one is worse by more than the tolerance, 2 if something
could not be measured. The default of 10 % is there because these machines vary: single runs of one tree differ by some
20 %, and a median takes only part of that away. A figure beyond it whose runs of both sides overlap is marked `WORSE?`:
it fails too, and more runs on a quieter machine tell. How much of the two cores other processes had is printed with
each run and at the end: above some 5 % the rates and waits say little, CPU times and memory still something.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .node import node
from .pinned import cores, others_cpu_s
from .tree import HERE, CannotMeasureError, Tree
from .workloads import WORKLOADS

SIDES = ("before", "after")
WORKLOAD_TIMEOUT_S = 60
OTHERS = "cpu_share_of_others"
NOT_JUDGED = frozenset({"server_cpu_share", OTHERS})
"""Neither more nor less of it is better: a faster server may be busy for as long."""

Samples = dict[tuple[str, str], dict[str, list[float]]]
"""By workload and figure: the values of each side, in order of the rounds."""


@contextlib.contextmanager
def tree_of(named: str) -> Iterator[Tree]:
    """The tree at a path, or that of a revision for as long as the block lasts.

    Raises:
        CannotMeasureError: It is neither, or the path holds no tree that can run.
        subprocess.CalledProcessError: The revision could not be checked out or set up.
    """
    if Path(named).is_dir():
        yield Tree(Path(named))
        return
    git = ["git", "-C", str(HERE)]
    found = subprocess.run(
        [*git, "rev-parse", "--verify", "--quiet", f"{named}^{{commit}}"], capture_output=True, text=True
    )
    if found.returncode:
        raise CannotMeasureError(f"{named} is neither a folder nor a revision")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "before"
        try:
            subprocess.run(
                [*git, "worktree", "add", "--quiet", "--detach", path, found.stdout.strip()], check=True
            )
            subprocess.run(
                ["make", "--silent", "-C", path, "setup", f"PYTHON={sys.executable}"],
                check=True,
                stdout=sys.stderr,
            )
            yield Tree(path)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", path], check=True)


def schedule(names: Sequence[str], runs: int) -> Iterator[tuple[int, str, str]]:
    """Round, workload and side, in the order of running: both sides next to each other, in turned order each round."""
    for turn in range(runs):
        for name in names:
            for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
                yield turn, name, side


async def measure(trees: dict[str, Tree], names: Sequence[str], runs: int, seconds: float) -> Samples:
    """Run everything; progress goes to standard error."""
    samples: Samples = {}
    for turn, name, side in schedule(names, runs):
        with node(trees[side]) as server:
            others_s, began = others_cpu_s(server), time.monotonic()
            try:
                async with asyncio.timeout(WORKLOAD_TIMEOUT_S + 3 * seconds):
                    figures = await WORKLOADS[name](server, seconds)
            except TimeoutError:
                raise CannotMeasureError(f"{name}, {side}: not done in time") from None
            took_s = len(set(cores())) * (time.monotonic() - began)
            figures[OTHERS] = round((others_cpu_s(server) - others_s) / took_s, 3)
        print(
            f"round {turn + 1} of {runs}, {name}, {side}: {json.dumps(figures)}", file=sys.stderr, flush=True
        )
        for figure, value in figures.items():
            if not isinstance(value, dict):  # parts of another figure
                samples.setdefault((name, figure), {side: [] for side in SIDES})[side].append(value)
    return samples


def lower_is_better(figure: str) -> bool:
    """Rates are better when higher; times and sizes when lower."""
    return not figure.endswith("_per_s")


def compared(samples: Samples, tolerance: float) -> list[dict[str, Any]]:
    """Each figure's medians, all its values, after / before, and whether that is worse by more than `tolerance`."""
    rows = []
    for (workload, figure), values in samples.items():
        before, after = (statistics.median(values[side]) for side in SIDES)
        lower, judged = lower_is_better(figure), figure not in NOT_JUDGED
        ratio = after / before if before else 1.0
        worse = ratio > 1 + tolerance if lower else ratio < 1 / (1 + tolerance)
        rows.append(
            {
                "workload": workload,
                "figure": figure,
                "before": before,
                "after": after,
                "ratio": round(ratio, 3),
                "better": ("lower" if lower else "higher") if judged else "neither",
                "worse": judged and worse,
                "overlap": min(values["before"]) <= max(values["after"])
                and min(values["after"]) <= max(values["before"]),
                "values": values,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a figure, with the least and the greatest value of each side."""
    lines, workload = [], ""
    for row in rows:
        if row["workload"] != workload:
            workload = row["workload"]
            lines.append(
                f"\n{workload:<34}{'before':>10} {'(range)':<20}{'after':>10} {'(range)':<20}after/before"
            )
        cells = "".join(
            f"{row[side]:>10g} {f'({min(values):g}..{max(values):g})':<20}"
            for side, values in row["values"].items()
        )
        better = {"lower": "lower is better", "higher": "", "neither": "not judged"}[row["better"]]
        verdict = ("WORSE?" if row["overlap"] else "WORSE") if row["worse"] else ""
        lines.append(f"  {row['figure']:<32}{cells}{row['ratio']:>8.3f}  {better:<16}{verdict}".rstrip())
    return "\n".join(lines)


def placement() -> str:
    """Where servers and load run, in words."""
    for_server, for_load = cores()
    apart = f"servers on core {for_server}, load on core {for_load}"
    return (
        apart if for_server != for_load else f"servers and load share core {for_server}: figures of both mix"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", metavar="REVISION_OR_PATH")
    parser.add_argument("--runs", type=int, default=3, help="rounds (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="measured in each 1:1 workload (default 6)"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="only workloads whose name holds this; repeatable",
    )
    parser.add_argument("--tolerance", type=float, default=10.0, help="per cent (default 10)")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    options = parser.parse_args()
    options.names = [
        name for name in WORKLOADS if not options.only or any(part in name for part in options.only)
    ]
    if not options.names or options.runs < 1 or options.seconds <= 0 or options.tolerance < 0:
        parser.error(f"nothing to measure; workloads: {'; '.join(WORKLOADS)}")
    return options


def main() -> int:
    """Compare, print, and say by the exit code whether anything is worse."""
    options = arguments()
    with tree_of(options.before) as before:
        trees = {"before": before, "after": Tree(HERE)}
        about = {
            "before": before.commit,
            "after": trees["after"].commit,
            "placement": placement(),
            "load_average": os.getloadavg()[0],
            "runs": options.runs,
            "seconds": options.seconds,
            "tolerance": options.tolerance,
        }
        print(json.dumps(about), file=sys.stderr, flush=True)
        samples = asyncio.run(measure(trees, options.names, options.runs, options.seconds))
    rows = compared(samples, options.tolerance / 100)
    worse = [row for row in rows if row["worse"]]
    if options.json:
        print(json.dumps({**about, "figures": rows}, indent=1))
    else:
        print(
            f"before {about['before']}, after {about['after']}; {about['placement']}; medians of {options.runs}"
        )
        print(table(rows))
        others = [
            share
            for (_, figure), it in samples.items()
            if figure == OTHERS
            for side in SIDES
            for share in it[side]
        ]
        print(
            f"\nother processes had {statistics.median(others):.0%} of the cores (at most {max(others):.0%} in a run)"
        )
        print(f"{len(worse) or 'no'} figure(s) worse by more than {options.tolerance:g} %")
    return 1 if worse else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # so that servers and the worktree go as well
    try:
        sys.exit(main())
    except CannotMeasureError as error:
        print(error, file=sys.stderr)
    except Exception:  # the exit code of a traceback would say that a figure is worse
        traceback.print_exc()
    sys.exit(2)
