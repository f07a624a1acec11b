"""One connection from HELLO to its end: reader, writer, puller and watch, which all end together.

`log_in` says HELLO and waits for WELCOME; `Link.run` returns only by raising what ended the connection. What to do
then is `session`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

import anyio
from msgspec import UNSET

from .._auto_reset_event import AutoResetEvent
from ..core.backoff import hint_of, next_delay
from ..core.connection import CLIENT_RECEIVES, State
from ..errors import ChatkitError, ConnectionLostError, ProtocolError
from ..transport.base import Transport, TransportClosedError
from ..wire import events as ev
from ..wire.codec import Codec
from .checks import check_numbers
from .outgoing import frame
from .parts import Parts
from .requests import error_of
from .tokens import TokenSource

logger = logging.getLogger(__name__)

CLIENT = ev.ClientInfo(name="chatkit-python", version=version("chatkit-engine"))


HEARTBEAT_MIN_S = 0.05
"""Whatever a server says, the watch does not run hot."""


class LoginFailedError(ConnectionLostError):
    """The connection ended before WELCOME.

    Attributes:
        close_code: The WebSocket close code; 1006 if there was none.
        refused: The refusal that the server sent before, if any.
        retry_after_s: What the server asked to wait: by a GOAWAY, the refusal or the refused upgrade.
    """

    def __init__(
        self, closed: TransportClosedError, refused: ChatkitError | None, goaway: ev.GoAway | None
    ) -> None:
        hint_s = closed.retry_after_s
        if refused is not None and refused.retry_after_s is not None:
            hint_s = refused.retry_after_s
        if goaway is not None:
            hint_s = hint_of(goaway.reconnect_after_ms)
        super().__init__(f"login failed: {closed}", retry_after_s=hint_s)
        self.close_code = closed.close_code
        self.reason = closed.reason
        self.refused = refused


async def log_in(
    transport: Transport, codec: Codec, hello: ev.Hello
) -> tuple[ev.Welcome, Sequence[ev.ServerEvent]]:
    """Send HELLO and wait for WELCOME.

    Returns:
        The WELCOME, and the events that are to be served: a GOAWAY from before it, and those that came with it in
        the same frame.

    Raises:
        LoginFailedError: The connection ended instead.
        ProtocolError: The server sent what only a logged-in client may get.
    """
    refused: ChatkitError | None = None
    goaway: ev.GoAway | None = None
    try:
        await transport.send(frame(codec, [codec.encode(hello)]))
        while True:
            events = codec.server_events(await transport.receive())
            for place, event in enumerate(events):
                check_numbers(event)
                _check_legal(State.LOGGING_IN, event)
                if isinstance(event, ev.Welcome):
                    rest = events[place + 1 :]
                    return event, rest if goaway is None else [goaway, *rest]
                if isinstance(event, ev.GoAway):
                    goaway = event
                elif isinstance(event, ev.ErrorEvent):
                    refused = error_of(event)
    except TransportClosedError as closed:
        raise LoginFailedError(closed, refused, goaway) from closed


def _check_legal(state: State, event: ev.ServerEvent) -> None:
    if type(event) not in CLIENT_RECEIVES[state]:
        raise ProtocolError(f"the server sent {type(event).__name__} where it may not")


class Link:
    """An open connection.

    Attributes:
        reconnect_after_s: What a draining server asked for; None if it did not.
    """

    def __init__(self, parts: Parts, tokens: TokenSource, transport: Transport, welcome: ev.Welcome) -> None:
        self._parts = parts
        self._config = parts.config
        self._clock = parts.ports.clock
        self._tokens = tokens
        self._transport = transport
        self._heartbeat_s = max(welcome.heartbeat_ms / 1000, HEARTBEAT_MIN_S)
        self._received_at_s = self._clock.now_s()
        self._leave_by_s: float | None = None
        self._cause: Exception | None = None
        self._expiring = AutoResetEvent()
        self.reconnect_after_s: float | None = None

    async def run(self, first: Sequence[ev.ServerEvent]) -> None:
        """Serve the connection until it ends, beginning with the events that came with WELCOME.

        Raises:
            TransportClosedError: The connection ended, by whichever side.
            ConnectionLostError: No sign of life, or no answer to a message for too long.
            ProtocolError: The server sent what the contract does not allow.
        """
        self._apply(first)
        async with anyio.create_task_group() as group:
            for part in (self._read, self._write, self._parts.syncer.run, self._watch, self._refresh):
                group.start_soon(self._part, part, group.cancel_scope)
        assert self._cause is not None, "parts end only by raising"
        raise self._cause

    async def _part(self, part: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await part()
        except Exception as error:
            self._cause = self._cause or error
            scope.cancel()

    async def _read(self) -> None:
        while True:
            received = await self._transport.receive()
            self._received_at_s = self._clock.now_s()
            self._apply(self._parts.codec.server_events(received))

    def _apply(self, events: Sequence[ev.ServerEvent]) -> None:
        for event in events:
            check_numbers(event)
            _check_legal(State.OPEN, event)
        for event in self._parts.router.received(events):
            if isinstance(event, ev.GoAway):
                self._draining(event)
            else:
                self._expiring.set()
        self._parts.wake.set()

    def _draining(self, event: ev.GoAway) -> None:
        self.reconnect_after_s = hint_of(event.reconnect_after_ms)
        self._leave_by_s = self._clock.now_s() + self._config.goaway_wait_s
        self._parts.outgoing.sends_held = True

    async def _write(self) -> None:
        await self._parts.outgoing.run(self._transport)

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(self._heartbeat_s / 3)
            now_s = self._clock.now_s()
            if now_s - self._received_at_s > 2 * self._heartbeat_s:
                raise ConnectionLostError("the server gave no sign of life")
            oldest_s = self._parts.sender.oldest_sent_at_s
            if oldest_s is not None and now_s - oldest_s > self._config.ack_wait_s:
                raise ConnectionLostError("a message had no answer for too long")
            if self._leave_by_s is not None and now_s >= self._leave_by_s:
                raise ConnectionLostError("the server drains")
            self._parts.outgoing.ping()

    async def _refresh(self) -> None:
        """Renew the login each time the server says that it ends; a fixed token cannot be renewed."""
        while True:
            await self._expiring.wait()
            if self._tokens.renewable:
                await self._renew()

    async def _renew(self) -> None:
        attempt = 0
        while True:
            try:
                fresh = ev.AuthRefresh(token=await self._tokens.get())
                await self._parts.requests.ask(fresh, self._config.request_timeout_s)
                return
            except ConnectionLostError:
                raise
            except Exception as error:  # the app's callable may raise anything; the old login still holds
                attempt += 1
                logger.warning("the login could not be renewed (try %d): %r", attempt, error)
                await anyio.sleep(self._renew_delay_s(attempt, error))

    def _renew_delay_s(self, attempt: int, error: Exception) -> float:
        hint_s = error.retry_after_s if isinstance(error, ChatkitError) else None
        return next_delay(
            attempt,
            self._parts.ports.random.random(),
            hint_s,
            base_s=self._config.backoff_base_s,
            max_s=self._config.backoff_max_s,
        )


def hello(device_id: str, *, token: str | None = None, resume_token: str | None = None) -> ev.Hello:
    """The first event, with one of the two proofs."""
    return ev.Hello(
        device_id=device_id,
        token=UNSET if token is None else token,
        resume_token=UNSET if resume_token is None else resume_token,
        client=CLIENT,
    )
