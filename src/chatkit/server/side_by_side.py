"""Doing the same to many, side by side. Called by `erasure` and `restoration`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from ..errors import RefusedError

_Item = TypeVar("_Item")


async def for_each(work: Callable[[_Item], Awaitable[object]], items: Iterable[_Item]) -> None:
    """Do it to all at once, so that they share transactions. Raises the first refusal, once all have an outcome."""
    refusals: list[RefusedError] = []

    async def do(item: _Item) -> None:
        try:
            await work(item)
        except RefusedError as error:
            refusals.append(error)

    async with anyio.create_task_group() as tasks:
        for item in items:
            tasks.start_soon(do, item)
    if refusals:
        raise refusals[0]
