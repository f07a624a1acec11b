"""docs/metrics.md lists every figure as it is, and every alert; and docs/design speaks of it."""

from __future__ import annotations

import re
from pathlib import Path

from chatkit import Metrics
from chatkit.observability.prometheus import RULES

PAGE = (Path(__file__).parent.parent.parent / "docs/metrics.md").read_text("utf-8")


def rows(pattern: str) -> list[list[str]]:
    """The cells of the rows whose first one is so."""
    found = re.findall(rf"^\| (`{pattern}`) \|(.*)\|$", PAGE, re.MULTILINE)
    return [[first.strip("`"), *(it.strip() for it in rest.split(" | "))] for first, rest in found]


def test_every_figure_is_listed_with_its_label_and_meaning() -> None:
    listed = [row[:3] for row in rows(r"chatkit_\w+")]

    assert listed == [[it.name, f"`{it.label}`" if it.label else "", it.meaning] for it in Metrics().figures]


def test_every_alert_is_listed_with_its_severity_and_what_to_do() -> None:
    rules = RULES.read_text()
    alerts = re.findall(r"- alert: (\w+)[\s\S]*?severity: (\w+)", rules)

    listed = rows("Chatkit[A-Za-z]+")
    assert [tuple(row[:2]) for row in listed] == alerts
    assert all(row[2] and row[3] for row in listed)


def test_every_recorded_name_that_it_speaks_of_is_there() -> None:
    named = set(re.findall(r"`(chatkit:[a-z0-9_:]+)`", PAGE))

    assert len(named) >= 7
    assert named <= set(re.findall(r"record: (\S+)", RULES.read_text()))
