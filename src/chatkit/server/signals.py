"""SIGTERM and SIGINT drain the servers of this process first, and reach the host's own server after that.

ASGI servers close their sockets before they end the lifespan, so a drain that begins with the lifespan's end comes too
late. Where the host's server has a handler for SIGTERM, the signal is kept back here, the chat servers drain, and
then the same signal is raised again for whoever had it before. The process has one set of signal handlers, so there is
one `_Interception` for all servers in it. Only asyncio's loops (uvloop among them), and only in the main thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

logger = logging.getLogger(__name__)

Drain = Callable[[], Awaitable[None]]

EXIT_WAIT_S: Final = 5.0
"""How long a host's server may take to leave the chat server once it has the signal; then the process is ended.

Several of them wait without a bound for connections whose peers do not read.
"""

_LOOKS_S: Final = (0.01, 1.0)
"""Pauses between two looks at who handles the signals: the first, and the longest."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def keep_back(drain: Drain) -> bool:
    """Have `drain` awaited before the host's server hears of SIGTERM or SIGINT, until `forget`.

    Returns:
        Whether that is so: not outside the main thread, not on trio, and not where nobody handles SIGTERM.
    """
    global _interception
    if _interception is None:
        if not _can_intercept():
            return False
        _interception = _Interception(asyncio.get_running_loop())
    _interception.drains[drain] = None
    _interception.renew()
    return True


async def stay_between(drain: Drain) -> None:
    """Keep the signals back also from handlers that are set later, and from a loop that was stopped and run again."""
    pause_s, longest_s = _LOOKS_S
    while True:
        await anyio.sleep(pause_s)
        keep_back(drain)
        pause_s = min(2 * pause_s, longest_s)


def forget(drain: Drain) -> None:
    """The server is left: its drain is not wanted any more. The handlers of before are put back with the last one."""
    global _interception
    if _interception is not None:
        _interception.drains.pop(drain, None)
        if not _interception.drains:
            _interception.end()
            _interception = None


def _can_intercept() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    return callable(signal.getsignal(signal.SIGTERM))


class _Interception:
    """Stands between the kernel and the handlers that were there before, both kinds: `signal.signal`'s, and a loop's.

    A loop hears of signals by bytes on the wake-up descriptor, so that descriptor is replaced too; what is not kept
    back is passed on byte by byte.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.drains: dict[Drain, None] = {}
        self._loop = loop
        self._held: list[int] = []
        self._draining: asyncio.Task[None] | None = None
        self._exit: asyncio.TimerHandle | None = None
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        loop.add_reader(self._reader, self._on_bytes)
        self._handlers_before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._active = True

    def renew(self) -> None:
        """Take the place of whoever handles the signals now."""
        if not self._active:
            return
        found = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        if found != self._writer.fileno():
            self._wakeup_before = found
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not _ignore:
                self._handlers_before[number] = handler
                signal.signal(number, _ignore)

    def end(self) -> None:
        """Put everything back as it was."""
        self._release()
        if self._exit is not None:
            self._exit.cancel()

    def _release(self) -> None:
        if self._active:
            self._active = False
            found = signal.set_wakeup_fd(-1)
            ours = found == self._writer.fileno()
            signal.set_wakeup_fd(self._wakeup_before if ours else found, warn_on_full_buffer=False)
            for number, handler in self._handlers_before.items():
                if signal.getsignal(number) is _ignore:
                    signal.signal(number, handler)
            self._loop.remove_reader(self._reader)
            self._reader.close()
            self._writer.close()

    def _on_bytes(self) -> None:
        for number in self._reader.recv(4096):
            if number in _SIGNALS:
                self._on_signal(number)
            elif self._wakeup_before >= 0:
                os.write(self._wakeup_before, bytes([number]))

    def _on_signal(self, number: int) -> None:
        """The first one starts the drain; a second one says that the host is not to wait for it."""
        self._held.append(number)
        if self._draining is None:
            logger.info("%s: draining", signal.Signals(number).name)
            self._draining = self._loop.create_task(self._drain())
        else:
            self._pass_on()

    async def _drain(self) -> None:
        failures = await asyncio.gather(*(drain() for drain in self.drains), return_exceptions=True)
        for failure in failures:
            if isinstance(failure, BaseException):
                logger.error("a drain failed", exc_info=failure)
        self._pass_on()

    def _pass_on(self) -> None:
        """Let whoever had the signals before have them."""
        if not self._active:
            return
        self._release()
        self._exit = self._loop.call_later(EXIT_WAIT_S, self._force_exit)
        for number in self._held:
            signal.raise_signal(number)

    def _force_exit(self) -> None:
        """The host's server has not left the chat server: it waits for a connection, without a bound."""
        logger.warning("a connection keeps the process from its end after %g s; it is ended now", EXIT_WAIT_S)
        signal.signal(self._held[0], signal.SIG_DFL)
        signal.raise_signal(self._held[0])


_interception: _Interception | None = None


def _ignore(number: int, frame: Any) -> None:
    """The wake-up descriptor has told already."""
