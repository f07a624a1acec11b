"""Requests over the WebSocket with an answer of their own, matched by `ref`: SYNC, RECALL, AUTH_REFRESH, STREAM_PART.

Answers go straight to the one who asked. Every wait has a deadline. What the app asks for (RECALL, STREAM_PART) is
bounded; the client's own requests always pass: SYNC has a window of its own, and one login is renewed at a time.
`ConnectionStatus` says whether there is a connection to ask over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from msgspec import UNSET
from msgspec.structs import replace

from .._auto_reset_event import AutoResetEvent
from ..core.backoff import retry_after_of
from ..errors import (
    ChatkitError,
    ClosedError,
    ConnectionLostError,
    DeadlineExceededError,
    PartOutOfOrderError,
    QueueFullError,
    refusal,
)
from ..transport.failure import said
from ..wire import events as ev
from ._retry import ask_repeatedly, retrying

Asking = ev.Sync | ev.Recall | ev.AuthRefresh | ev.StreamPartCommand
Answer = ev.SyncPage | ev.MsgAck | ev.AuthOk | ev.StreamAck
_T = TypeVar("_T")

EXPLANATION_MAX = 600
"""Characters of the reason that an error repeats."""


class ConnectionStatus:
    """Whether a login holds now, and why the client has stopped for good.

    Attributes:
        connected: A login holds.
        stopped: Why there will be no further connection; None while there may be one.
        failure: The fault of our own, or of the set-up, that stopped the client; None otherwise.
        last_failure: Why the last try failed, or the last connection ended; None while a login holds.
    """

    def __init__(self) -> None:
        self.connected = False
        self.stopped: Exception | None = None
        self.failure: Exception | None = None
        self.last_failure: Exception | None = None
        self._stop_text = ""
        self._changed = AutoResetEvent()

    def change(self, connected: bool) -> None:
        """A login holds from now on, or no longer."""
        self.connected = connected
        if connected:
            self.last_failure = None
        self._changed.set()

    @property
    def explanation(self) -> str:
        """What an error says of the connection: that there is one, or why there is none."""
        if self.connected:
            return "connected"
        if self.last_failure is None:
            return "not connected yet"
        return f"not connected: {said(self.last_failure, EXPLANATION_MAX)}"

    def stop(self, text: str, reason: Exception) -> None:
        """There will be no further connection."""
        self._stop_text, self.stopped = text, reason
        self._changed.set()

    def wake(self) -> None:
        """Let those who wait for a change look again."""
        self._changed.set()

    async def wait_changed(self) -> None:
        """Return after the next change of this, or `wake`."""
        await self._changed.wait()

    async def wait_connected(self) -> None:
        """Return once a login holds.

        Raises:
            ClosedError: The client has stopped for good; its cause says why.
        """
        while not self.connected:
            self.check_running()
            await self._changed.wait()

    def check_running(self) -> None:
        """Raises ClosedError if the client has stopped for good, with the reason as its cause."""
        if self.stopped is not None:
            raise ClosedError(self._stop_text) from self.stopped

    async def over_connections(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Make a request that is safe to repeat, again for as often as the connection breaks under it.

        Has no bound of its own: the caller sets the deadline. Raises what the request and `ask_repeatedly` raise.
        """
        return await ask_repeatedly(retrying(_is_lost_connection), self._when_connected, request)

    async def _when_connected(self, request: Callable[[], Awaitable[_T]]) -> _T:
        await self.wait_connected()
        return await request()


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, ConnectionLostError)


class _Waiting:
    __slots__ = ("answer", "done", "error", "of_app")

    def __init__(self, of_app: bool) -> None:
        self.of_app = of_app
        self.done = anyio.Event()
        self.answer: Answer | None = None
        self.error: ChatkitError | None = None


class Requests:
    """The open requests of one client.

    Args:
        requests_max: Bound of the app's requests that wait for their answer.
        wake: Set when there is something to send.
    """

    def __init__(self, requests_max: int, wake: AutoResetEvent) -> None:
        self._requests_max = requests_max
        self._wake = wake
        self._waiting: dict[str, _Waiting] = {}
        self._to_send: dict[str, ev.ClientEvent] = {}
        self._count = 0
        self._connected = False

    def connected(self) -> None:
        """From here on requests can be made."""
        self._connected = True

    def disconnected(self) -> None:
        """No answer can come any more: every open request fails with ConnectionLostError."""
        self._connected = False
        self._to_send.clear()
        for waiting in self._waiting.values():
            waiting.error = ConnectionLostError("the connection was lost before the answer came")
            waiting.done.set()
        self._waiting.clear()

    def take(self) -> list[ev.ClientEvent]:
        """What is to be sent now."""
        taken = list(self._to_send.values())
        self._to_send.clear()
        return taken

    async def ask(self, event: Asking, timeout_s: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            RefusedError: The server's refusal.
            ConnectionLostError: There is no connection, or it broke; whether the request took effect is unknown.
            DeadlineExceededError: No answer in `timeout_s`; likewise.
            QueueFullError: Too many requests of the app wait.
        """
        if not self._connected:
            raise ConnectionLostError("not connected")
        of_app = isinstance(event, ev.Recall | ev.StreamPartCommand)
        if of_app and sum(waiting.of_app for waiting in self._waiting.values()) >= self._requests_max:
            raise QueueFullError(f"{self._requests_max} requests wait for their answer already")
        self._count += 1
        ref, waiting = f"q{self._count}", _Waiting(of_app)
        self._waiting[ref] = waiting
        self._to_send[ref] = replace(event, ref=ref)
        self._wake.set()
        try:
            with anyio.move_on_after(timeout_s):
                await waiting.done.wait()
        finally:
            self._waiting.pop(ref, None)
            self._to_send.pop(ref, None)
        return _outcome(waiting, timeout_s)

    def answered(self, event: ev.ServerEvent) -> bool:
        """Hand an answer to the one who asked. Returns whether it was one."""
        ref = getattr(event, "ref", UNSET)
        waiting = self._waiting.pop(ref, None) if isinstance(ref, str) else None
        if waiting is None:
            return False
        if isinstance(event, ev.ErrorEvent):
            waiting.error = error_of(event)
        elif isinstance(event, Answer):
            waiting.answer = event
        waiting.done.set()
        return True


def error_of(event: ev.ErrorEvent) -> ChatkitError:
    """The exception for an ERROR."""
    error = refusal(event.code, event.message, retryable=event.retryable, reason=event.reason)
    error.retry_after_s = retry_after_of(event.retry_after_ms)
    if isinstance(error, PartOutOfOrderError) and isinstance(event.expected_part, int):
        error.expected_part = event.expected_part
    return error


def _outcome(waiting: _Waiting, timeout_s: float) -> Answer:
    if waiting.error is not None:
        raise waiting.error
    if waiting.answer is None:
        raise DeadlineExceededError(f"no answer within {timeout_s:g} s")
    return waiting.answer
