"""`python -m benchmarks.plugin [RUNS]`: what chatkit's pytest plugin costs a suite that does not use it.

pytest starts with it and without it, in turn; printed are the medians in milliseconds of CPU, and what the import of
the plugin's module takes. Compiled files are cached, as in a suite that runs for the second time.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from itertools import chain

MODULE = "chatkit.testing.pytest_plugin"
EMPTY = ["-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
OTHERS = [f"no:{plugin.name}" for plugin in entry_points(group="pytest11") if plugin.name != "chatkit"]
"""Other installed plugins would only blur the difference."""


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as suite:
        start_ms(suite)  # the first run writes compiled files
        pairs = [(start_ms(suite), start_ms(suite, "no:chatkit")) for _ in range(runs)]
        import_ms(suite)
        imported_ms = import_ms(suite)
    with_it, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    difference = statistics.median(one - other for one, other in pairs)
    print(f"pytest with the plugin     {with_it:7.1f} ms, median of {runs}")
    print(f"pytest without the plugin  {without:7.1f} ms")
    print(f"difference within a pair   {difference:7.1f} ms, median")
    print(f"import of the module       {imported_ms:7.1f} ms, once pytest is imported")


def start_ms(suite: str, *without: str) -> float:
    """CPU that pytest uses for a suite without tests: busy neighbours change it less than the time on the clock."""
    began_s = children_s()
    run(suite, *EMPTY, *chain.from_iterable(("-p", name) for name in (*OTHERS, *without)))
    return (children_s() - began_s) * 1000


def children_s() -> float:
    """CPU seconds of all ended processes that this one started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def import_ms(suite: str) -> float:
    """What the module and all of chatkit that it imports take."""
    output = run(suite, "-X", "importtime", "-c", f"import pytest, {MODULE}").stderr
    own_us = re.findall(r"import time: +(\d+) \| +\d+ \| +chatkit[\w.]*$", output, flags=re.M)
    return sum(map(int, own_us)) / 1000


def run(suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, with compiled files in the suite's folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = f"{suite}/compiled"
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=suite, capture_output=True, check=False, text=True, env=environment)


if __name__ == "__main__":
    main()
