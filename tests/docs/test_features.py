"""The page of features names tests that there are."""

from __future__ import annotations

import re

import pytest

from .snippets import ROOT

ROWS = re.findall(
    r"^\| (?P<feature>[^|*]+) \| (?P<has>yes|part|no) \| (?P<held>.+) \|$",
    (ROOT / "docs" / "features.md").read_text("utf-8"),
    flags=re.M,
)


def test_there_are_rows() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize(("feature", "has", "held"), ROWS, ids=[row[0] for row in ROWS])
def test_what_holds_a_feature_is_there(feature: str, has: str, held: str) -> None:
    if has != "yes":
        assert len(held.split()) > 2, "a reason"
        return
    named = re.fullmatch(r"`(?P<path>[\w/.]+)(?:::(?P<test>\w+))?`", held)
    assert named is not None, held
    path = ROOT / named["path"]
    assert path.exists(), path
    if named["test"]:
        assert re.search(rf"def {named['test']}\(", path.read_text("utf-8")), held
