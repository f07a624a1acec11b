"""socket.io, measured by a script that is not here: one round of one workload, as the script measures itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .node import cores
from .tree import CannotMeasureError


def measure_peer(
    folder: Path,
    python: str,
    node_modules: Path | None,
    *workload: str,
    more: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The last figures that it prints.

    Args:
        folder: With its `bench_sio.py`.
        python: Interpreter for that.
        node_modules: With socket.io and what it stores by.
        workload: Its arguments.
        more: Of its environment.

    Raises:
        CannotMeasureError: It failed, or printed nothing.
    """
    server_core, load_core = cores()
    environment = {**os.environ, "SERVER_CORE": str(server_core), "GEN_CORE": str(load_core), **(more or {})}
    if node_modules is not None:
        environment["NODE_PATH"] = str(node_modules)
    done = subprocess.run(
        [python, str(folder / "bench_sio.py"), *workload],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"\{.*\}", done.stdout)
    if done.returncode != 0 or not found:
        raise CannotMeasureError(done.stdout + done.stderr)
    result: dict[str, Any] = json.loads(found[-1])
    return result
