"""Fixtures for every test: async tests run on asyncio through anyio's own plugin; what passes is judged."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies

pytest_plugins = ["tests.proof.judging"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A command of `chatkit` that a test runs in this process sets a level; the next test finds the one before."""
    levels = {logger: logger.level for logger in map(logging.getLogger, ("chatkit", "chatkit.client"))}
    yield
    for logger, level in levels.items():
        logger.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What only waits for a deadline of the server (`blackbox/test_wait.py`) comes last, when it has passed."""
    items.sort(key=lambda item: item.path.name == "test_wait.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Fifteen thousand tests are no garbage before the end: without this, each full collection looks at all of them."""
    use_of_hypothesis()
    gc.collect()
    gc.freeze()


@hypothesis.settings(max_examples=1, database=None)
@hypothesis.given(strategies.none())
def use_of_hypothesis(nothing: None) -> None:
    """It asks the collector who holds the generator that it makes at its first use, and frozen things do not say."""
