"""`python -m tests.proof.backups [--rounds 10] [--seed 1] [--way command]`: backups under load, put back after a kill.

0 if after each of them the log is whole, every client converges and nothing is told twice; the files are kept if not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from .rounds import Round, Rounds
from .ways import ByCommand, ByLitestream, Way

WAYS: dict[str, Callable[[Path], Way]] = {"command": ByCommand, "litestream": ByLitestream}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds; 0 if everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.backups", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how many backups (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="draws who is away, and the moments (default 1)")
    parser.add_argument(
        "--way", choices=WAYS, default="command", help="how backups are made (default command)"
    )
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="chatkit-backups-"))
    rounds = Rounds(folder, WAYS[options.way](folder), seed=options.seed)
    told: list[Round] = []

    def tell(it: Round) -> None:
        told.append(it)
        print(
            f"round {len(told)}: {it.acked} messages acknowledged before the backup, all there; {it.lost} acknowledged "
            f"later and lost, the first {it.lost_s:.1f} s before the "
            f"kill; {it.resent} unanswered ones sent again; {it.taken_back} entries taken back on "
            f"screens; ready after {it.ready_s:.1f} s, all equal after {it.converged_s:.1f} s",
            flush=True,
        )

    anyio.run(rounds.run, options.rounds, tell)
    for line in rounds.wrong:
        print(f"WRONG: {line}")
    if rounds.wrong:
        print(f"files: {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"{len(told)} backups put back: each log whole, every client as the log, nothing told twice")
    return 0


if __name__ == "__main__":
    sys.exit(main())
