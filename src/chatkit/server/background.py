"""The tasks that a server runs beside its host's: timers, the committer, and the work of single sessions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .._event_loop import OwnerTask
from ..errors import InternalError, RefusedError
from ..wire import events as ev
from .session import Session

logger = logging.getLogger(__name__)


class Background:
    """A group of tasks that ends when `close` or `cancel` is called and not before, unless one of its tasks fails.

    It runs in a task of its own: the host's cancellation does not end it before the drain, so that accepted work is
    still committed, and whoever opens it and whoever closes it may be different tasks.

    Args:
        failed: Called once if a task of the group fails, after all of them have ended.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._owner: OwnerTask | None = None
        self._started = anyio.Event()
        self._tasks: TaskGroup | None = None

    @property
    def running(self) -> bool:
        """Whether tasks may be started."""
        return self._tasks is not None

    async def open(self, begin: Callable[[], None]) -> None:
        """Run the tasks that `begin` starts, and further ones, from here on. Called once."""
        self._owner = OwnerTask()
        self._owner.start(partial(self.run, begin))
        with anyio.CancelScope(shield=True):  # it takes no time, and must not be left half begun
            await self._started.wait()

    async def close(self) -> None:
        """End all tasks, and return once they have ended. Raises the failure of one that had ended before."""
        assert self._owner is not None
        self.cancel()
        await self._owner.wait()

    def cancel(self) -> None:
        """End all tasks; none is started any more."""
        self._tasks = None
        if self._owner is not None:
            self._owner.cancel()

    async def run(self, begin: Callable[[], None]) -> None:
        """The tasks that `begin` starts, and further ones; what `open` has run in a task of its own."""
        try:
            async with anyio.create_task_group() as self._tasks:
                begin()
                self._started.set()
        except Exception:
            self._tasks = None
            logger.critical("a part of the server failed, and it stops; start it anew", exc_info=True)
            self._failed()
            raise
        finally:
            self._tasks = None
            self._started.set()

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task that lasts as long as the server; if it fails, the server does."""
        assert self._tasks is not None
        self._tasks.start_soon(function)

    def every(self, interval_s: float, function: Callable[[], Awaitable[None]]) -> None:
        """Call a function again and again; whatever goes wrong in it is logged."""
        assert self._tasks is not None
        self._tasks.start_soon(_repeat, interval_s, function)

    def spawn(self, session: Session, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a session's own work, `function(session, *args)`; what goes wrong in it ends that session alone.

        Work that is under way when the server stops may still ask for more: that ends the session.
        """
        if self._tasks is None:
            session.close(ev.CloseCode.OVERLOADED, "the server stops")
            return
        self._tasks.start_soon(_guard, session, function, *args)


Spawn = Callable[..., None]
"""`Background.spawn`, for services that start work of a session."""


async def _guard(session: Session, function: Callable[..., Awaitable[None]], *args: Any) -> None:
    try:
        await function(session, *args)
    except RefusedError as error:
        session.close(ev.CloseCode.OVERLOADED, str(error))
    except Exception:
        logger.exception("work for session %s failed", session.session_id)
        session.refuse(InternalError("the server failed"))
        session.close(ev.CloseCode.OVERLOADED, "the server failed")


async def _repeat(interval_s: float, function: Callable[[], Awaitable[None]]) -> None:
    while True:
        await anyio.sleep(interval_s)
        try:
            await function()
        except RefusedError as error:
            logger.warning("background work was refused for now: %s", error)
        except Exception:
            logger.exception("background work failed")
