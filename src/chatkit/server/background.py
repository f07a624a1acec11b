"""The tasks that a server runs beside its host's: timers, the committer, and the work of single sessions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ..errors import InternalError, RefusedError
from ..wire import events as ev
from .session import Session

logger = logging.getLogger(__name__)


class Background:
    """A group of tasks that ends when `cancel` is called and not before."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None

    @property
    def running(self) -> bool:
        """Whether tasks may be started."""
        return self._tasks is not None

    async def run(self, begin: Callable[[], None], *, task_status: TaskStatus[None]) -> None:
        """Run the tasks that `begin` starts, and further ones, until `cancel`.

        Shielded, so that the host's own cancellation does not end them before the drain: accepted work is still
        committed, and nothing is ever started in a group that is cancelled already.
        """
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                begin()
                task_status.started()

    def cancel(self) -> None:
        """End all tasks; none is started any more."""
        if self._tasks is not None:
            tasks, self._tasks = self._tasks, None
            tasks.cancel_scope.cancel()

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task that lasts as long as the server; if it fails, the server does."""
        assert self._tasks is not None
        self._tasks.start_soon(function)

    def every(self, interval_s: float, function: Callable[[], Awaitable[None]]) -> None:
        """Call a function again and again; whatever goes wrong in it is logged."""
        assert self._tasks is not None
        self._tasks.start_soon(_repeat, interval_s, function)

    def spawn(self, session: Session, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a session's own work, `function(session, *args)`; what goes wrong in it ends that session alone."""
        assert self._tasks is not None
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
            logger.warning("background work was refused by storage: %s", error)
        except Exception:
            logger.exception("background work failed")
