"""Calls of the app's functions: a cancellation that one makes itself ends nothing but the call."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import anyio

from .._event_loop import is_cancelled
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
    try:
        returned = function(*args)
        return await returned if isawaitable(returned) else returned
    except anyio.get_cancelled_exc_class() as error:
        if is_cancelled():
            raise
        raise ClientError(f"{name} was cancelled") from error
