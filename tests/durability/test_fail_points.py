"""The server dies at each named place between a request and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .fail_points import FAIL_POINTS, KEYS, FailPoint, kill_at
from .syscalls import PARALLEL, Files

Kills = dict[FailPoint, Future[list[str]]]


@pytest.fixture(scope="module")
def kills(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kills]:
    """All of them under way, a few at a time."""
    folder, prepared = tmp_path_factory.mktemp("fail-points"), files.prepared()
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {
            point: pool.submit(kill_at, point, prepared, folder / str(number))
            for number, point in enumerate(FAIL_POINTS)
        }


@pytest.mark.parametrize("point", FAIL_POINTS, ids=str)
def test_a_death_leaves_all_or_nothing(point: FailPoint, kills: Kills) -> None:
    assert kills[point].result() == list(KEYS[: point.stored])
