"""What the tests of the adapters to a server share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from chatkit.errors import OverloadedError, UnavailableError
from chatkit.queue.base import Item, Queue

WAIT_S = 60.0


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Real time; for the modules of the adapters."""
    return "asyncio", {"use_uvloop": True}


async def put_at_last(queue: Queue, data: bytes, key: str = "k") -> None:
    """Put again and again until it is taken, as one does that has something to tell."""
    with anyio.fail_after(WAIT_S):
        while True:
            try:
                return await queue.put(data, key)
            except (UnavailableError, OverloadedError):
                await anyio.sleep(0.05)


async def all_done(queue: Queue, count: int, limit: int = 100) -> list[Item]:
    """Take and finish work until so many different pieces were taken. Those that came twice are among it."""
    items: list[Item] = []
    with anyio.fail_after(WAIT_S):
        while len({item.data for item in items}) < count:
            got = await queue.take(limit)
            items += got
            await done_at_last(queue, got)
    return items


async def done_at_last(queue: Queue, items: Sequence[Item]) -> None:
    with anyio.fail_after(WAIT_S):
        while True:
            try:
                return await queue.done(items)
            except UnavailableError:
                await anyio.sleep(0.05)


async def lag_becomes(queue: Queue, wanted: int) -> None:
    with anyio.fail_after(WAIT_S):
        while await queue.lag() != wanted:
            await anyio.sleep(0.05)


async def put_many(queue: Queue, numbers: Sequence[int], at_once: int = 50) -> None:
    """Put numbers, many at the same time, each until it is taken."""
    waiting = list(numbers)

    async def some() -> None:
        while waiting:
            number = waiting.pop(0)
            await put_at_last(queue, b"%d" % number, f"conversation-{number % 97}")

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(some)
