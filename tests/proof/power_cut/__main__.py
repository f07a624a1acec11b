"""`python -m tests.proof.power_cut`: cut the power thousands of times, and tell what was lost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio

from .fault_sweep import Sweep, sweep
from .proof import Proof, prove, scratch_folder

_RUNS_PER_LINE: Final = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if what was expected was found."""
    asked = _parsed(arguments)
    with scratch_folder() as folder:
        return anyio.run(_run, asked, folder)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.power_cut", description=__doc__)
    parser.add_argument(
        "--states", type=int, default=2000, help="how many states power cuts leave (default 2000)"
    )
    parser.add_argument("--seed", type=int, default=1, help="draws everything (default 1)")
    parser.add_argument("--synchronous", choices=["FULL", "NORMAL", "OFF"], default="FULL")
    parser.add_argument("--expect-loss", action="store_true", help="succeed only if something was lost")
    parser.add_argument(
        "--faults", action="store_true", help="instead, fail every call of one send in every way"
    )
    return parser.parse_args(arguments)


async def _run(asked: argparse.Namespace, folder: Path) -> int:
    if asked.faults:
        found = await sweep(folder, seed=asked.seed)
        print(_sweep_summary(found))
        return 1 if found.findings else 0
    proof = await prove(
        folder, states=asked.states, seed=asked.seed, synchronous=asked.synchronous, progress=_show_progress
    )
    print(_summary(proof, asked.synchronous))
    return 0 if (proof.lost > 0 if asked.expect_loss else proof.sound) else 1


def _show_progress(proof: Proof) -> None:
    if proof.runs % _RUNS_PER_LINE == 0:
        print(f"{proof.states} states of {proof.runs} runs, {proof.lost} with loss", file=sys.stderr)


def _summary(proof: Proof, synchronous: str) -> str:
    lines = [
        f"synchronous {synchronous}: {proof.states} states ({proof.distinct} distinct) of {proof.runs} runs "
        f"in {proof.seconds:.1f} s",
        f"  the runs: {proof.batches} batches with {proof.commands} commands acknowledged, "
        f"{proof.writes} writes, {proof.syncs} syncs",
        f"  states with acknowledged loss: {proof.lost}",
        f"  states found damaged: {proof.damaged}",
        f"  states that broke any invariant: {proof.wrong}",
    ]
    return "\n".join([*lines, *(f"  - {example}" for example in proof.examples)])


def _sweep_summary(found: Sweep) -> str:
    lines = [f"{found.faults.total()} faults, {found.states} power cuts after them"]
    lines += [
        f"  {kind}: {count} calls, {found.refused[kind]} sends refused"
        for kind, count in found.faults.items()
    ]
    lines += [f"  findings: {len(found.findings)}"]
    return "\n".join([*lines, *(f"  - {finding}" for finding in found.findings[:20])])


if __name__ == "__main__":
    sys.exit(main())
