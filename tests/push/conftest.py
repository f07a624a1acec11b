"""Push tests use real sockets: deadlines pass while nothing happens (`IdleLoop`). Nothing may be left when one ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.idle_time import IdleLoop


def _ours() -> set[asyncio.Task[Any]]:
    """Tasks that are none of the test runner's."""
    return {task for task in asyncio.all_tasks() if "TestRunner" not in repr(task.get_coro())}


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": IdleLoop}


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    before = _ours()
    yield
    with anyio.move_on_after(5.0):
        while _ours() - before:
            await anyio.sleep(0.005)
    assert _ours() - before == set()
