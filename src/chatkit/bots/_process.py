"""A bot as the whole process: an event loop of its own, ended by signals. Called by `bot`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable

import anyio

from .._event_loop import current_loop
from ..errors import ConfigurationError


def run_until_signalled(serve: Callable[[], Awaitable[None]], stop: Callable[[], None]) -> None:
    """Run `serve` in a new event loop; SIGINT and SIGTERM call `stop`. Returns when it has ended, or raises its error.

    Raises:
        ConfigurationError: This thread has a running event loop.
    """
    _refuse_running_loop()
    failures: list[Exception] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            if threading.current_thread() is threading.main_thread():
                await tasks.start(_watch, stop)
            try:
                await serve()
            except Exception as error:  # a group would wrap it
                failures.append(error)
            tasks.cancel_scope.cancel()

    anyio.run(main)
    if failures:
        raise failures[0]


async def _watch(stop: Callable[[], None], *, task_status: anyio.abc.TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            stop()


def _refuse_running_loop() -> None:
    try:
        current_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        "bot.run() starts an event loop, and one is running here already: use `await bot.serve(...)`, or"
        " `async with bot.serving(...)` beside other work"
    )
