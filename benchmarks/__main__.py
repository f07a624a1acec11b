"""`python -m benchmarks [SECONDS]` (or `make bench`): the first figures, one line of JSON each."""

from __future__ import annotations

import asyncio
import json
import platform
import sys

from .node import node
from .tree import HERE, Tree
from .workloads import WORKLOADS


async def main(seconds: float) -> None:
    """Each workload against a server of its own."""
    print(
        f"chatkit {Tree(HERE).commit}, Python {platform.python_version()}, {platform.machine()}", flush=True
    )
    for name, workload in WORKLOADS.items():
        with node() as server:
            print(json.dumps({"workload": name, **await workload(server, seconds)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 9.0))
