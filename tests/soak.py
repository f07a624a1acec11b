"""`python -m tests.soak [--rounds 50] [--seed N] [--load light]`: SIGKILL under load, many times on one file."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.blackbox.kill_harness import HEAVY, LIGHT, Harness
from tests.blackbox.server_process import ServerProcess

LOADS = {"heavy": HEAVY, "light": LIGHT}


def main() -> int:
    """Run the rounds; 0 when everything held, 1 with the reason when not, the files kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="how many kills (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the moments of the kills (default 1)")
    parser.add_argument("--load", choices=LOADS, default="heavy", help="how much is sent (default heavy)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chatkit-soak-"))
    started = time.monotonic()
    try:
        harness = Harness(ServerProcess(folder), options.seed, report, LOADS[options.load])
        totals = harness.run(options.rounds)
    except AssertionError as failure:
        print(f"FAILED: {failure}\nfiles: {folder}", file=sys.stderr)
        return 1
    print(
        f"{totals.rounds} kills in {time.monotonic() - started:.0f} s: {totals.sent} messages attempted, "
        f"{totals.acked} acknowledged before a kill and all there once, {totals.unknown_stored} stored without an "
        f"answer, {totals.unknown_lost} not stored and sent again; {totals.careful} sends, recalls, reads, "
        "confirmations and changes of members one by one, all as acknowledged. No gap, no double, identical answers."
    )
    return 0


def report(line: str) -> None:
    """One line a round, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
