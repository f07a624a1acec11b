"""promtool, which evaluates the rules on recorded series: that of Debian's package `prometheus` (scripts/promtool)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatkit.observability.prometheus import RULES

BESIDE = Path(sys.executable).parent


def find() -> str:
    """Its path; without one the test is skipped on a laptop and fails where CI=true."""
    found = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}:{BESIDE}")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no promtool: scripts/promtool")
        pytest.skip("there is no promtool: scripts/promtool gets it from Debian's package prometheus")
    return found


def check_alerts(kept: Mapping[str, Any], firing: Mapping[int, Iterable[str]], folder: Path) -> None:
    """Hold the alerts that fire at these seconds of a recording to those expected, by name, and no others."""
    expected = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{at_s}s",
            "exp_samples": [{"labels": f'{{alertname="{it}"}}', "value": 1} for it in sorted(names)],
        }
        for at_s, names in firing.items()
    ]
    run_tests(kept, expected, folder)


def run_tests(kept: Mapping[str, Any], expected: Sequence[object], folder: Path) -> None:
    """Evaluate expressions on a kept recording, with the rules; raises AssertionError with promtool's words."""
    every = f"{kept['every_s']}s"
    test = {"interval": every, "input_series": kept["series"], "promql_expr_test": expected}
    file = folder / "rules_test.yml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": every, "tests": [test]}))
    ran = subprocess.run([find(), "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
