"""`python -m benchmarks` (or `make bench`): what chatkit costs, beside what people use today, in one sitting.

Each round measures each line of the table, its sides one right after the other on fresh servers; every other round
begins with the other end. Rivals are installed first, of stated versions (`rivals/`): python-socketio from PyPI;
socket.io from npm where there is Node.js, whose better-sqlite3 may be compiled for minutes. A rival that cannot be had
is left out, and the report says why. PostgreSQL comes from pip.

Prints every figure, then each aim beside what was found, and writes a report with all of it, raw data and pictures.
The exit code says whether it could be measured, and nothing about aims: on a busy machine they mean little.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import plots, report
from .report import Results, Sample
from .table import LINES, Line, Sitting
from .tree import CannotMeasureError


def prepared(lines: dict[str, Line], console: Console) -> dict[tuple[str, str], str]:
    """Install what the sides need. Returns why one cannot be measured, by the names of its line and itself."""
    missing: dict[tuple[str, str], str] = {}
    for name, line in lines.items():
        for side, it in line.sides.items():
            try:
                it.prepare()
            except CannotMeasureError as error:
                missing[name, side] = str(error)
                console.print(f"{name}, {side}: left out: {error}")
    return missing


def schedule(results: Results, rounds: int) -> Iterator[tuple[int, str, str]]:
    """Round, line and side, in the order of running."""
    for turn in range(rounds):
        for name, line in results.lines.items():
            sides = [side for side in line.sides if (name, side) not in results.missing]
            for side in sides if turn % 2 == 0 else sides[::-1]:
                yield turn, name, side


def measure(results: Results, sitting: Sitting, rounds: int, raw: Path, console: Console) -> None:
    """Run everything."""
    todo = list(schedule(results, rounds))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(todo))
        for turn, name, side in todo:
            progress.update(task, description=f"round {turn + 1}: {name}, {side}")
            sample = Sample(name, side, turn, results.lines[name].sides[side].measure(sitting))
            results.samples.append(sample)
            report.write_sample(sample, raw)
            console.print(f"{name}, {side}: {json.dumps(sample.figures)}", highlight=False, soft_wrap=True)
            progress.advance(task)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute: one short round of the lines that change most"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(LINES),
        metavar="LINE",
        help=f"of {', '.join(LINES)}; repeatable",
    )
    parser.add_argument("--rounds", type=int, help="of every line (default 3; 1 with --quick)")
    parser.add_argument(
        "--seconds", type=float, help="that a load is measured for (default 6; 2 with --quick)"
    )
    parser.add_argument(
        "--stored",
        type=int,
        default=10_000_000,
        metavar="MESSAGES",
        help="in the longest log (default 10000000, which take 3 GB and some minutes to fill)",
    )
    parser.add_argument("--out", type=Path, help="new folder for the report (default: bench/ and the time)")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.seconds is None:
        options.seconds = 2.0 if options.quick else 6.0
    if options.out is None:
        options.out = Path("bench") / time.strftime("%Y-%m-%dT%H-%M-%S")
    if options.rounds < 1 or options.seconds <= 0 or options.stored < 10_000:
        parser.error("at least one round, some seconds, and 10,000 messages")
    options.lines = {
        name: line
        for name, line in LINES.items()
        if (not options.only or name in options.only) and (not options.quick or line.is_quick)
    }
    if not options.lines:
        parser.error("--quick measures none of these lines")
    return options


def main() -> int:
    """Measure, print, and write."""
    options, console = arguments(), Console(stderr=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        options.out.mkdir(parents=True)
    except FileExistsError:
        raise CannotMeasureError(
            f"{options.out} is there already; what was measured is not written over"
        ) from None
    raw = options.out / "raw.jsonl"
    with console.status("installing rivals, which may take minutes the first time"):
        missing = prepared(options.lines, console)
    results = Results(options.lines, missing, "a quick round is too short" if options.quick else "")
    with tempfile.TemporaryDirectory() as folder:
        part = 0.25 if options.quick else 1.0
        sitting = Sitting(Path(folder), options.seconds, part, options.stored)
        described = report.about(sitting, options.rounds)
        try:
            measure(results, sitting, options.rounds, raw, console)
        finally:  # what was measured counts, also when it is interrupted
            if results.samples:
                path = report.write(results, described, options.out)
                plots.draw(results, options.out)
                print("\n".join(report.reached(results)))
                print(f"report, raw data and pictures: {path.parent}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # so that servers go as well
    try:
        sys.exit(main())
    except CannotMeasureError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
