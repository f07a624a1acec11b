"""A bot as the whole process: an event loop of its own, ended by signals; a failure is one line. Called by `bot`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Awaitable, Callable

import anyio

from .._event_loop import current_loop
from .._one_line import one_line
from ..errors import (
    ChatkitError,
    ConfigurationError,
    TokenExpiredError,
    TokenRevokedError,
    UnauthenticatedError,
)

FAILED = 1
MISUSED = 2
"""Exit codes, as those of the command line."""


def run_until_signalled(serve: Callable[[], Awaitable[None]], stop: Callable[[], None]) -> None:
    """Run `serve` in a new event loop; SIGINT and SIGTERM call `stop`. Returns when it has ended.

    Raises:
        ConfigurationError: This thread has a running event loop.
        SystemExit: In the main thread, for what `serve` raised of chatkit, which is its cause: whoever operates the
            process needs the line that was written to stderr, and no traceback. Outside of it that error itself.
    """
    _refuse_running_loop()
    is_process = threading.current_thread() is threading.main_thread()
    failures: list[Exception] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            if is_process:
                await tasks.start(_watch, stop)
            try:
                await serve()
            except Exception as error:  # a group would wrap it
                failures.append(error)
            tasks.cancel_scope.cancel()

    anyio.run(main)
    if not failures:
        return
    error = failures[0]
    if is_process and isinstance(error, ChatkitError):
        raise _exit(error) from error
    raise error


def _exit(error: ChatkitError) -> SystemExit:
    """Say in one line what is wrong, and which code to end with."""
    print(f"the bot has ended: {one_line(str(error))}{_remedy(error.__cause__)}", file=sys.stderr)
    # the client finds some of it, such as a file of another user, once it is connected, and stops for good
    is_misused = isinstance(error, ConfigurationError) or isinstance(error.__cause__, ConfigurationError)
    return SystemExit(MISUSED if is_misused else FAILED)


def _remedy(reason: BaseException | None) -> str:
    """What to change where a login was refused; empty if the words of the refusal have to do."""
    match reason:
        case TokenExpiredError():
            return (
                ": start it with a new one, which lasts longer (`chatkit token --ttl SECONDS`), or with"
                " CHATKIT_TOKEN_FILE, a file that you renew"
            )
        case TokenRevokedError():
            return ""
        case UnauthenticatedError():
            return (
                ": it may be signed with another secret than the server's (CHATKIT_JWT_SECRET of both), or"
                " CHATKIT_URL is another server"
            )
    return ""


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
