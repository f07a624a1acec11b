"""The server dies at each named place between a request and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fail_points import FAIL_POINTS, KEYS, FailPoint, kill_at
from .syscalls import Files


@pytest.mark.parametrize("point", FAIL_POINTS, ids=str)
def test_a_death_leaves_all_or_nothing(point: FailPoint, files: Files, tmp_path: Path) -> None:
    left = kill_at(point, files.prepared(), tmp_path / "server")
    assert left == list(KEYS[: point.stored])
