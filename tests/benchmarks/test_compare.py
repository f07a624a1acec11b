"""`benchmarks.compare` interleaves, and judges each figure by its own direction."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.compare import compared, lower_is_better, schedule, table, tree_of
from benchmarks.tree import CannotMeasureError


def test_both_sides_run_next_to_each_other_in_an_order_that_turns() -> None:
    assert list(schedule(["a", "b"], 2)) == [
        (0, "a", "before"),
        (0, "a", "after"),
        (0, "b", "before"),
        (0, "b", "after"),
        (1, "a", "after"),
        (1, "a", "before"),
        (1, "b", "after"),
        (1, "b", "before"),
    ]


def verdict(figure: str, before: list[float], after: list[float]) -> tuple[float, bool]:
    (row,) = compared({("w", figure): {"before": before, "after": after}}, 0.1)
    assert ("WORSE" in table([row])) is row["worse"]
    return row["ratio"], row["worse"]


def test_lower_is_better_but_for_rates() -> None:
    assert lower_is_better("server_cpu_us_per_message")
    assert not lower_is_better("messages_per_s")
    assert verdict("ack_ms_p50", [1.0], [1.11]) == (1.11, True)
    assert verdict("messages_per_s", [1.0], [1.11]) == (1.11, False)
    assert verdict("messages_per_s", [1.0], [0.9]) == (0.9, True)
    assert verdict("server_cpu_share", [0.5], [1.0]) == (2.0, False)


def test_medians_are_compared_and_the_tolerance_is_no_fault() -> None:
    assert verdict("ack_ms_p95", [1.0, 9.0, 1.0], [1.1, 1.0, 50.0]) == (1.1, False)


def test_a_worse_figure_with_overlapping_runs_is_marked_as_such() -> None:
    apart = compared({("w", "ack_ms_p50"): {"before": [1.0, 1.2], "after": [1.3, 1.5]}}, 0.1)
    overlapping = compared({("w", "ack_ms_p50"): {"before": [1.0, 1.4], "after": [1.3, 1.9]}}, 0.1)

    assert apart[0]["worse"]
    assert "WORSE?" not in table(apart)
    assert overlapping[0]["worse"]
    assert "WORSE?" in table(overlapping)


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotMeasureError, match="neither a folder nor a revision"),
        tree_of("no-such-revision"),
    ):
        pass
    with pytest.raises(CannotMeasureError, match="holds no src/chatkit"), tree_of(str(tmp_path)):
        pass
