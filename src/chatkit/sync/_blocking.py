"""An async object in an event loop of its own thread, used by threads that block. Called by what is generated here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import partial
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from .._event_loop import current_loop
from ..errors import ClosedError, ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")
Async = TypeVar("Async", bound=AbstractAsyncContextManager[Any])


class Blocking(Generic[Async]):
    """What the blocking classes share: `with` starts a thread with an event loop, and ends it.

    Usable by several threads at once. Not across `fork`: enter it in the process that uses it.

    Args:
        made: The async object; entered and left in the event loop.
    """

    def __init__(self, made: Async) -> None:
        self._made = made
        self._stack: ExitStack | None = None
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        _refuse_running_loop(type(self).__name__)
        if self._stack is not None:
            raise ClosedError("entered already")
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._made))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        stack, self._portal = self._stack, None
        assert stack is not None, "entered before it is left"
        return stack.__exit__(exc_type, error, traceback)

    def _wait(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a call in the event loop. What interrupts the wait, such as Ctrl-C, is raised once that has ended."""
        portal, call = self._entered(), _Call(partial(function, *args, **kwargs))
        try:
            return portal.call(call.run)
        except BaseException:
            if not call.ended.is_set():
                portal.call(call.give_up)
            raise

    def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a plain call in the event loop."""
        return self._entered().call(partial(function, *args, **kwargs))

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, each awaited when it is asked for."""
        try:
            while True:
                try:
                    yield self._wait(items.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            aclose = getattr(items, "aclose", None)
            if aclose is not None and self._portal is not None:
                self._wait(aclose)

    def _entered(self) -> BlockingPortal:
        if self._portal is None:
            raise ClosedError(f"use {type(self).__name__} inside `with`")
        _refuse_running_loop(type(self).__name__)
        return self._portal


class _Call(Generic[T]):
    """A call in the event loop that can be given up while a thread waits for it."""

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._scope: anyio.CancelScope | None = None
        self.ended = anyio.Event()

    async def run(self) -> T:
        try:
            with anyio.CancelScope() as self._scope:
                return await self._function()
        finally:
            self.ended.set()
        raise ClosedError("the call was given up")

    async def give_up(self) -> None:
        """Cancel it, and wait until it has ended. One that has not begun never will: the loop begins them in order."""
        if self._scope is not None:
            self._scope.cancel()
            await self.ended.wait()


def in_thread(function: Callable[P, object]) -> Callable[P, Awaitable[Any]]:
    """A callback of the caller's, run in a worker thread, where it may block and use the object.

    Each call has a thread of its own, however many run: it may wait for work of the object that needs a thread too,
    such as an upload.

    Raises:
        ConfigurationError: It is async, as far as that is seen before it is called.
    """
    if iscoroutinefunction(function) or (callable(function) and iscoroutinefunction(type(function).__call__)):
        raise ConfigurationError(
            "a callback here is a plain function; for `async def` use chatkit without .sync"
        )

    async def run(*args: P.args, **kwargs: P.kwargs) -> Any:
        call = partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1))

    return run


def _refuse_running_loop(name: str) -> None:
    try:
        current_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        f"chatkit.sync.{name} blocks, and an event loop runs here, which would stand still: use chatkit.{name} with"
        " `await`, or a thread (anyio.to_thread.run_sync)"
    )
