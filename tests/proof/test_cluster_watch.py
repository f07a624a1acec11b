"""Rules that are hastened for a fault of minutes are rules still, with every time in them shorter."""

from __future__ import annotations

import subprocess
from pathlib import Path

from chatkit.observability.prometheus import RULES

from ..observability import promtool
from .cluster.pictures import Mark, draw
from .cluster.watch import hastened


def test_times_are_divided_and_thresholds_are_not() -> None:
    rule = "expr: rate(x[5m]) > 60 and y offset 30m > 0 and max_over_time(z[1d])\n    for: 10m\n"

    assert hastened(rule, 10) == (
        "expr: rate(x[30s]) > 60 and y offset 180s > 0 and max_over_time(z[1d])\n    for: 60s\n"
    )


def test_hastened_rules_are_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(hastened(RULES.read_text(), 10))

    ran = subprocess.run([promtool.find(), "check", "rules", str(file)], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_picture_has_its_samples_beside_it_and_says_what_fired(tmp_path: Path) -> None:
    line = [[float(at), float(at % 7)] for at in range(1000, 1060)]
    samples = {"a second": {"sent": line}, "alerts": {"Later": line[30:], "Earlier": line[10:20]}}

    fired = draw(samples, [Mark("node", 1010.0, 1030.0)], "node", tmp_path / "out")

    assert fired == ["Earlier", "Later"]
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == ["node.json", "node.png"]
    assert (tmp_path / "out/node.png").read_bytes().startswith(b"\x89PNG")
