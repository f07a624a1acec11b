"""`python -m tests.proof.mutants [NAME ...]`: hunt every planted bug with the simulator, and say what caught it.

Without a name, all of them. Ends with 0 if each was caught, 1 if one was not, 2 if there is no planted bug of a name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from .catalogue import MUTANTS
from .plant import Mutant, plant

SEEDS_MAX = 200
_SEEDS_AT_ONCE = 20
PATIENCE_S = 600.0
"""For one hunt of up to 200 seeds, of real time; a mutant that hangs the loop is caught by this, and says so."""


@dataclass(frozen=True)
class Catch:
    """How a hunt ended; `invariant` is empty if nothing was found."""

    name: str
    seeds: int = 0
    invariant: str = ""
    story: str = ""


def hunt(mutant: Mutant, seeds: int) -> Catch:
    """Plant a bug in this process and run seeds until one finds it."""
    plant(mutant)
    if mutant.of_prover:
        return _hunt_in_the_proof(mutant, seeds)
    from tests.proof.simulation.run import simulate

    for seed in range(seeds):
        outcome = simulate(seed)
        if outcome.violations:
            first = outcome.violations[0]
            return Catch(mutant.name, seed + 1, first.invariant, str(first))
        if outcome.alarms:
            return Catch(mutant.name, seed + 1, "alarm", outcome.alarms[0])
    return Catch(mutant.name, seeds)


def _hunt_in_the_proof(mutant: Mutant, seeds: int) -> Catch:
    """Rehearse the checker, then run seeds until the proof finds that it proves nothing."""
    from tests.proof import rehearsal
    from tests.proof.simulation.__main__ import run_seeds, unproven

    blind = rehearsal.not_found()
    if blind:
        return Catch(mutant.name, 1, "rehearsal", f"not found: {blind[0]}")
    totals = run_seeds(())
    for first in range(0, seeds, _SEEDS_AT_ONCE):
        totals.merge(run_seeds(range(first, first + _SEEDS_AT_ONCE)))
        if totals.bad:
            return Catch(mutant.name, totals.seeds, "alarm", totals.bad[0].story.splitlines()[0])
        wrong = unproven(totals)
        if wrong:
            return Catch(mutant.name, totals.seeds, wrong[0].partition(":")[0], wrong[0])
    return Catch(mutant.name, totals.seeds)


def hunt_apart(mutant: Mutant, seeds: int) -> Catch:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.proof.mutants", "--here", mutant.name, "--seeds", str(seeds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Catch(mutant.name, seeds, "alarm", f"the run did not end in {PATIENCE_S:g} s")
    return catch_of(mutant, done)


def catch_of(mutant: Mutant, done: subprocess.CompletedProcess[str]) -> Catch:
    """What a process of `--here` found. One that was killed found nothing."""
    if done.returncode < 0:
        return Catch(mutant.name, story=f"the hunt was killed by signal {-done.returncode}")
    if done.returncode != 0:
        return Catch(mutant.name, 1, "alarm", done.stderr.strip().splitlines()[-1])
    return Catch(**json.loads(done.stdout))


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every bug was caught, by an invariant that may catch it."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="which ones (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="seeds for each at most (default 200)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--here", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in (*options.names, options.here) if name is not None and name not in MUTANTS]
    if unknown:
        parser.error(f"there is no planted bug {unknown[0]}")
    if options.here:
        print(json.dumps(asdict(hunt(MUTANTS[options.here], options.seeds))))
        return 0
    return _hunt_all([MUTANTS[name] for name in options.names or MUTANTS], options.seeds, options.workers)


def _hunt_all(mutants: Sequence[Mutant], seeds: int, workers: int) -> int:
    began_s = time.monotonic()
    print(f"{'planted bug':36}{'caught by':>10}{'seeds':>7}  first words of the report")
    verdicts: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        for mutant, catch in zip(mutants, pool.map(lambda it: hunt_apart(it, seeds), mutants), strict=True):
            verdict = _judge(mutant, catch)
            verdicts[verdict] += 1
            mark = "" if verdict == "caught" else f"  <- {verdict}"
            print(
                f"{mutant.name:36}{catch.invariant or '-':>10}{catch.seeds:>7}  {catch.story[:70]}{mark}",
                flush=True,
            )
    print(f"{verdicts['caught']} of {len(mutants)} caught in {time.monotonic() - began_s:.0f} s")
    return 0 if verdicts["caught"] == len(mutants) else 1


def _judge(mutant: Mutant, catch: Catch) -> str:
    if not catch.invariant:
        return "NOT CAUGHT"
    return "caught" if catch.invariant in mutant.caught_by else f"EXPECTED {' or '.join(mutant.caught_by)}"


if __name__ == "__main__":
    sys.exit(main())
