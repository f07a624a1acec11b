"""The dashboard: its queries can be evaluated, and ask for nothing that is not there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from chatkit.observability.metrics import Metrics, watch_process
from chatkit.observability.prometheus import DASHBOARD, RULES

from . import promtool
from .shown import shown

DASH: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in DASH["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
QUERIES += [it["expr"] for it in DASH["annotations"]["list"]]


def names() -> set[str]:
    """Everything that may be asked for."""
    metrics = Metrics()
    watch_process(metrics)
    for gauge in metrics.figures:
        if hasattr(gauge, "set"):
            gauge.set(1)
    exposed = {name.partition("{")[0] for name in shown(metrics)}
    figures = {it.name for it in metrics.figures}
    recorded = set(re.findall(r"record: (\S+)", RULES.read_text()))
    return exposed | figures | {f"{it}_total" for it in figures} | recorded | {"ALERTS"}


def test_its_queries_ask_for_what_there_is() -> None:
    asked = {it for query in QUERIES for it in re.findall(r"\b(?:chatkit|process|ALERTS)[a-z0-9_:]*", query)}

    assert asked - {"chatkit"} <= names()
    assert len(asked) > 25


def test_its_queries_can_be_evaluated(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": it.replace("$instance", ".*").replace("$__rate_interval", "1m")}
        for number, it in enumerate(QUERIES)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    ran = subprocess.run([promtool.find(), "check", "rules", str(file)], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_figure_of_a_server_is_in_a_panel_or_a_rule() -> None:
    text = " ".join(QUERIES) + RULES.read_text()
    left_out = {"chatkit_build_info", "chatkit_connections_closed_total", "chatkit_conversations_online"}

    missing = {it.name for it in Metrics().figures if it.name not in text and "_client_" not in it.name}

    assert missing - left_out == {"chatkit_commit_queue_load"}


def test_its_panels_have_a_place_each() -> None:
    places = [tuple(panel["gridPos"][it] for it in "xy") for panel in DASH["panels"]]

    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASH["panels"]}) == len(DASH["panels"])
    assert all(panel["description"] for panel in PANELS)
