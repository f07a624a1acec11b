"""List the scenarios, or play some: `python -m tests.proof.scenarios [NAME ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..checker import report
from ..simulation.plan import Storage
from . import SCENARIOS, PromiseBrokenError, TrapNotSetOffError, run_scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for; 0 if everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.scenarios", description=__doc__)
    names = [*SCENARIOS, "all"]
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to play, or all; none: list them")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds (default 1)")
    parser.add_argument("--store", choices=("memory", "sqlite"), default="memory", help="default memory")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]}")
    if not options.names:
        return _list()
    wanted = list(SCENARIOS) if "all" in options.names else options.names
    seeds = range(options.seed, options.seed + options.seeds)
    wrong = [name for name in wanted for seed in seeds if not _played(name, seed, options.store)]
    return 1 if wrong else 0


def _list() -> int:
    for name, scenario in SCENARIOS.items():
        print(f"{name}\n    {scenario.line}")
    return 0


def _played(name: str, seed: int, store: Storage) -> bool:
    try:
        outcome = run_scenario(name, seed, store)
    except (PromiseBrokenError, TrapNotSetOffError) as error:
        _tell(name, seed, f"{type(error).__name__}: {error}")
        return False
    _tell(name, seed, "good" if outcome.good else "BAD")
    for alarm in outcome.alarms:
        print(f"    alarm: {alarm}")
    if outcome.verdict.violations:
        print(report(outcome.history, outcome.verdict.violations[0]))
    return outcome.good


def _tell(name: str, seed: int, what: str) -> None:
    print(f"{name} seed {seed}: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
