"""Calls of the app's functions, each in a task of its own: a cancellation it makes itself ends nothing but the call."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import anyio

from ..errors import ClientError


async def call(name: str, function: Callable[..., object], *args: object) -> Any:
    """Call it, and await what it returns if that can be awaited.

    Args:
        name: What it is, for the error.
        function: What to call.
        args: What to call it with.

    Raises:
        ClientError: It ended by a cancellation of its own making, as of something that it waited for.
        BaseException: Whatever it raised, also while the caller was cancelled.
    """
    calling = _Calling(function, args)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(calling.run)
    finally:
        if calling.error is not None:
            raise calling.error
    if calling.cancelled is not None:
        raise ClientError(f"{name} was cancelled") from calling.cancelled
    return calling.result


class _Calling:
    def __init__(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self._function = function
        self._args = args
        self.result: object = None
        self.error: BaseException | None = None
        self.cancelled: BaseException | None = None

    async def run(self) -> None:
        try:
            returned = self._function(*self._args)
            self.result = await returned if isawaitable(returned) else returned
        except anyio.get_cancelled_exc_class() as error:
            self.cancelled = error
            raise
        except BaseException as error:  # raised where it was called, and not in a group of errors
            self.error = error
