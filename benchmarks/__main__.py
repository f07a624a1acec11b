"""`python -m benchmarks` (or `make bench`): the first figures, one line of JSON each."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from importlib.metadata import version
from typing import Any

from .node import node
from .workloads import Group, Pairs, idle


def report(name: str, figures: dict[str, Any]) -> None:
    print(json.dumps({"workload": name, **figures}), flush=True)


async def main(seconds: float) -> None:
    """Each workload against a server of its own."""
    print(
        f"chatkit {version('chatkit')}, Python {platform.python_version()}, {platform.machine()}", flush=True
    )
    with node() as server:
        report("1:1, 100 pairs, window 16", await Pairs(server, 100, 16, "sat").run(seconds / 3, seconds))
    with node() as server:
        report("1:1, 1 pair, window 1", await Pairs(server, 1, 1, "one").run(1, seconds / 2))
    with node() as server:
        report("group of 50, window 16", await Group(server, 50, 16, "g50").run(2000))
    with node() as server:
        report("group of 500, window 16", await Group(server, 500, 16, "g500").run(200))
    with node() as server:
        report("2000 idle connections", await idle(server, 2000))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 9.0))
