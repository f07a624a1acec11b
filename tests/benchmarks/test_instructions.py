"""`benchmarks.instructions` reads what callgrind writes, and says so when there is no callgrind."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.instructions import Counted, cost_by_object, counted_node, report
from benchmarks.tree import HERE, CannotMeasureError, Tree

PROFILE = """\
version: 1
events: Ir

ob=(1) /usr/lib/libpython3.so
fl=(1) ???
fn=(1) eval
0 100
cob=(2) /usr/lib/libsqlite3.so
cfn=(2) step
calls=3 0
0 700
+4 20

ob=(2)
fn=(2)
0 700

ob=(1)
fn=(3) dealloc
* 5

totals: 825
"""


def test_each_object_has_its_own_cost_and_not_that_of_what_it_calls() -> None:
    assert cost_by_object(PROFILE) == {"libpython3.so": 125, "libsqlite3.so": 700}


def test_a_profile_that_does_not_add_up_is_no_figure() -> None:
    with pytest.raises(CannotMeasureError, match="adds up to 825 and not to 826"):
        cost_by_object(PROFILE.replace("totals: 825", "totals: 826"))
    with pytest.raises(CannotMeasureError, match="None"):
        cost_by_object("events: Ir\n")


def test_without_valgrind_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(CannotMeasureError, match="valgrind, which is missing: scripts/valgrind"),
        counted_node(Tree(HERE)),
    ):
        pass


def test_two_sides_are_compared_round_by_round() -> None:
    def runs(*each: float) -> list[Counted]:
        return [Counted(it, {"python": it}) for it in each]

    lines = report("message", {"here": runs(100, 200, 400), "--metrics": runs(101, 204, 300)})

    assert lines[0] == "here: 200 instructions a message (100, 200, 400)"
    assert lines[-1] == "--metrics / here: 1.0100 (rounds: 1.0100, 1.0200, 0.7500)"


def test_a_recipe_for_valgrind_is_there() -> None:
    assert (Path(HERE) / "scripts" / "valgrind").stat().st_mode & 0o111
