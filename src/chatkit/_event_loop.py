"""What ties an object to the event loop it was entered in, a task that outlives whoever started it, and what ends one.

Called by server and client: both may be entered in one task and left in another, and neither can be used from a
second event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context

import anyio
import anyio.lowlevel

from .errors import ConfigurationError


def current_loop() -> object:
    """The event loop of the running task: an object that is the same for all tasks of a loop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # trio
        return anyio.lowlevel.current_token().native_token


def is_cancelled() -> bool:
    """Whether the running task is: by a scope, or in asyncio's own way."""
    if anyio.current_effective_deadline() == -math.inf:
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio, which has scopes alone
        return False
    return task is not None and task.cancelling() > 0


def for_callbacks(context: Context) -> Context:
    """The same context: callbacks of asyncio that run in it may use anyio, and start tasks, as tasks may."""
    try:
        import sniffio
    except ImportError:  # without it anyio asks asyncio itself
        return context
    context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


class LoopGuard:
    """Refuses calls from another event loop than the one it was made in: waiting there for an answer would hang.

    Args:
        what: Names the object for people.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._loop = current_loop()

    def check(self) -> None:
        """Raises ConfigurationError in another event loop."""
        try:
            is_ours = current_loop() is self._loop
        except RuntimeError:  # a thread without a loop
            is_ours = False
        if not is_ours:
            raise ConfigurationError(
                f"this {self._what} belongs to another event loop, and can be used only there. From a worker thread"
                " of that loop (a plain `def` endpoint) use anyio.from_thread.run(function, ...), from any other thread"
                " asyncio.run_coroutine_threadsafe(coroutine, loop), or loop.call_soon_threadsafe(function) for what is"
                f" not awaited; for a second asyncio.run make a new {self._what}"
            )


class OwnerTask:
    """One function in a task of the event loop's own: it may be ended and waited for by any task. Made in the loop."""

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._failure: BaseException | None = None
        self._task: object = None  # asyncio itself holds tasks weakly

    def start(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run the function; cancellation of the caller does not reach it. Called once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            from trio.lowlevel import spawn_system_task

            self._task = spawn_system_task(self._run, function, context=copy_context())
        else:
            self._task = loop.create_task(self._run(function))

    def cancel(self) -> None:
        """Have it end soon."""
        self._scope.cancel()

    async def wait(self) -> None:
        """Return once it has ended; raises what it raised."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def _run(self, function: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await function()
        except Exception as error:  # for whoever waits; raised here, nobody would hear of it
            self._failure = error
        finally:
            self._ended.set()
