"""The connection that comes back by itself: connect, log in, serve, and decide what the end of a connection means.

The one loop that reconnects; `_runtime` runs it in the background. Whether there is a connection, and why there will be
none any more, is in `ConnectionStatus`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio
import msgspec

from .._auto_reset_event import AutoResetEvent
from ..errors import (
    ConnectionLostError,
    DeadlineExceededError,
    ProtocolError,
    TokenExpiredError,
    TokenRevokedError,
    UnavailableError,
)
from ..ports import Clock
from ..transport.base import ABNORMAL, ConnectFailedError, Connector, Transport, TransportClosedError
from ..transport.failure import said
from ..wire import events as ev
from ..wire.codec import Codec
from ._retry import Backoff, retry_after_s_of
from ._sleep import LOOK_EVERY_S, SleepDetector
from ._token import TokenSource
from .config import ClientConfig
from .connection import Connection, LoginFailedError, hello, log_in
from .event_queue import EventQueue
from .events import Connecting, Disconnected, Reconnecting
from .inbox import Batches
from .outbox import Outbox
from .reports import ClientReports
from .requests import EXPLANATION_MAX, ConnectionStatus
from .store.base import refused_for_now

logger = logging.getLogger(__name__)

LATE_HELLOS_MAX = 3
"""So often in a row a HELLO may have been late on its way; whoever never gets one through has another fault."""

HELLO_LATE_S = 60.0
"""For so long a HELLO of a try that was given up may still arrive, and replace the connection made after it.

Besides its way and its wait for storage this covers a node that must find out by itself that another one took the
HELLO: it looks at its devices every 25 s, and storage may refuse it the first look.
"""

CLOCKS_APART_S = 120.0
"""Further apart the server's clock or ours is wrong, and "expired" says nothing of the token."""

ONLY_TOKEN_S = 60.0
"""The only token there is, called expired by such a clock, is tried again after this time or later."""

HURRIED_S = 0.1
"""Even a try that the app wants at once comes so long after the one before."""

STORM_TRIES = 3
"""After an end that all clients share, the first wait is as wide as after so many failed tries: 4 s by default."""

CONNECT_GRACE_S = 1.0
"""A connector has so much longer than `connect_timeout_s`, to say itself what it waited for."""

LOST_CLOSE_S = 0.5
"""For closing what is lost already; only an orderly end waits for the other side."""


class Ended(msgspec.Struct):
    """How one connection ended.

    Attributes:
        opened: WELCOME had come.
        by_resume: The login was tried with a resume token.
        lasted_s: From WELCOME on.
        retry_after_s: What the server, or the contract, asks to wait.
    """

    cause: Exception
    code: int
    reason: str
    opened: bool = False
    by_resume: bool = False
    lasted_s: float = 0.0
    retry_after_s: float | None = None

    @property
    def token_refused(self) -> bool:
        """The login was refused: it needs another token."""
        return 4100 <= self.code <= 4199

    @property
    def final(self) -> bool:
        """The server wants no other try."""
        return 4200 <= self.code <= 4299


class _StoppedError(Exception):
    """There is no point in going on."""

    def __init__(self, text: str, reason: Exception) -> None:
        super().__init__(text)
        self.reason = reason


class ReconnectLoop:
    """One client's way to the server, over as many connections as it takes.

    Args:
        connector: Opens connections.
        serve: Makes a `Connection` of one that is open and logged in.
        tokens: Where the login comes from.
        device_id: This device.
        codec: Frames to events and back.
        config: Deadlines.
        clock: Times how long a connection lasts.
        backoff: Waits between tries.
        batches: Belong to the user of the first login; make memory what the store holds after it refused something.
        outbox: Nobody waits for an answer any longer once the client has stopped.
        events: Where the app learns what happens.
        status: Where everybody else does.
        reports: Tells instruments of each connection.

    Attributes:
        connection: The one that is served now; None between two.
    """

    def __init__(
        self,
        *,
        connector: Connector,
        serve: Callable[[Transport, ev.Welcome], Connection],
        tokens: TokenSource,
        device_id: str,
        codec: Codec,
        config: ClientConfig,
        clock: Clock,
        backoff: Backoff,
        batches: Batches,
        outbox: Outbox,
        events: EventQueue,
        status: ConnectionStatus,
        reports: ClientReports,
    ) -> None:
        self._connector = connector
        self._serve_with = serve
        self._tokens = tokens
        self._device_id = device_id
        self._codec = codec
        self._config = config
        self._clock = clock
        self._backoff = backoff
        self._batches = batches
        self._outbox = outbox
        self._events = events
        self._status = status
        self._reports = reports
        self._resume_token: str | None = None
        self._log_token: str | None = None
        self._attempt = 0
        self._hello_lost_at_s: float | None = None
        self._late_hellos = 0
        self._logged: set[str] = set()
        self._trying: anyio.CancelScope | None = None
        self._hurried = False
        self._hurry = AutoResetEvent()
        self.connection: Connection | None = None

    async def run(self) -> None:
        """Keep connected until cancelled, or until there is no point in going on: then the status says why.

        A fault of our own, or of the set-up, ends here too and is kept in the status.
        """
        try:
            await self._loop()
        except _StoppedError as stopped:
            self._stop(str(stopped), stopped.reason)
        except Exception as fault:
            self._status.failure = fault
            self._events.put(Disconnected(ABNORMAL, str(fault), False))
            self._stop(f"the client has stopped: {fault}", fault)

    async def _loop(self) -> None:
        while True:
            self._events.put(Connecting(self._attempt + 1))
            ended = await self._connect()
            delay_s = self._next(ended)
            self._events.put(Reconnecting(self._attempt, delay_s, ended.cause))
            await self._wait(delay_s, ended)

    def hurry(self) -> None:
        """Leave out the wait before the next try, but not what a server asked to wait. A try under way goes on."""
        self._hurried = True
        self._hurry.set()

    def reconnect(self) -> None:
        """Give up the connection or the try that there is, and `hurry`."""
        self.hurry()
        if self.connection is not None:
            self.connection.drop()
        if self._trying is not None:
            self._trying.cancel()

    async def _wait(self, delay_s: float, ended: Ended) -> None:
        """The wait before the next try; `hurry`, or that the machine slept, cuts it to what the server asked for."""
        now_s, detector = self._clock.now_s(), SleepDetector(self._clock)
        until_s, least_s = now_s + delay_s, max(_asked_s(ended) or 0.0, HURRIED_S)
        while (left_s := until_s - self._clock.now_s()) > 0:
            if self._hurried or detector.slept():
                until_s = min(until_s, now_s + least_s)
                self._hurried = False
                self._tokens.hurry()
            else:
                await self._hurry.wait(min(left_s, LOOK_EVERY_S))
        self._hurried = False

    async def _connect(self) -> Ended:
        """One connection from its opening to its end; the login is at hand before it is opened."""
        refusal = self._batches.recover()
        if refusal is not None:
            return _ended(refusal)
        by_resume = self._resume_token is not None
        transport: Transport | None = None
        try:
            with self._until_reconnect():
                proof = await self._proof()
        except Exception as error:  # the app's token callable may raise anything, or give what is no token
            return _ended(error)
        try:
            try:
                with self._until_reconnect():
                    transport = await self._open()
                    welcome, first = await self._log_in(transport, proof)
            except (ConnectionLostError, DeadlineExceededError, ProtocolError) as error:
                ended = _ended(error, by_resume=by_resume and transport is not None)
            else:
                ended = await self._serve(transport, welcome, first)
        except BaseException:  # the app's own end, or a fault: an orderly close
            await _close(transport, self._config.close_timeout_s)
            raise
        await _close(transport, min(LOST_CLOSE_S, self._config.close_timeout_s))
        return ended

    @contextmanager
    def _until_reconnect(self) -> Iterator[None]:
        """A part of a try that `reconnect` cuts short. Raises ConnectionLostError if it did."""
        with anyio.CancelScope() as scope:
            self._trying = scope
            try:
                yield
            finally:
                self._trying = None
        if scope.cancel_called:
            raise ConnectionLostError("the app asked for another connection")

    async def _open(self) -> Transport:
        with anyio.move_on_after(self._config.connect_timeout_s + CONNECT_GRACE_S):
            return await self._connector.connect(self._codec.subprotocol)
        raise DeadlineExceededError("connecting took too long")

    async def _proof(self) -> ev.Hello:
        if self._resume_token is not None:
            return hello(self._device_id, self._log_token, resume_token=self._resume_token)
        self._tokens.presented = await self._tokens.get()
        return hello(self._device_id, self._log_token, token=self._tokens.presented)

    async def _log_in(
        self, transport: Transport, proof: ev.Hello
    ) -> tuple[ev.Welcome, Sequence[ev.ServerEvent]]:
        answered = False
        try:
            with anyio.move_on_after(self._config.hello_timeout_s):
                welcome, first = await log_in(transport, self._codec, proof)
                answered = True
                return welcome, first
            raise DeadlineExceededError("no WELCOME in time")
        except LoginFailedError as failed:
            answered = failed.close_code != ABNORMAL
            raise
        finally:
            if not answered:
                self._hello_lost_at_s = self._clock.now_s()

    async def _serve(
        self, transport: Transport, welcome: ev.Welcome, first: Sequence[ev.ServerEvent]
    ) -> Ended:
        self._late_hellos = 0
        try:
            self._batches.bind(welcome.user_id, welcome.device_id)
        except UnavailableError as error:  # the store cannot be written to now
            if not refused_for_now(error):
                raise
            return _ended(error)
        self._resume_token = welcome.resume_token
        self._hurried = False
        connection = self.connection = self._serve_with(transport, welcome)
        since_s = self._clock.now_s()
        self._reports.connected(resumed=welcome.resumed)
        cause: Exception = AssertionError("a connection ends only by raising")
        try:
            await connection.run(first)
        except (ConnectionLostError, ProtocolError, DeadlineExceededError, UnavailableError) as error:
            cause = error
        finally:
            self.connection = None
            self._log_token = connection.log_token or self._log_token
        lasted_s = self._clock.now_s() - since_s
        cause = self._explained(cause)
        return _ended(cause, opened=True, lasted_s=lasted_s, retry_after_s=connection.reconnect_after_s)

    def _explained(self, cause: Exception) -> Exception:
        """Why the connection ended. What broke a batch explains it; a fault of our own is raised."""
        failure = self._batches.failure
        if failure is None:
            return cause
        if not (refused_for_now(failure) or isinstance(failure, ProtocolError)):
            raise failure
        self._batches.recover()  # if the store refuses that as well, the next try begins with it
        return failure

    def _next(self, ended: Ended) -> float:
        """Seconds until the next try. Raises _StoppedError if there is none."""
        self._status.last_failure = ended.cause
        if ended.opened:
            self._reports.disconnected(ended.code)
        else:
            self._reports.connect_failed(ended.cause)
        if ended.token_refused:
            self._resume_token = None
        if ended.token_refused and (ended.opened or not ended.by_resume):
            self._tokens.refused(self._tokens.presented)
        final = ended.final and not (self._replaced_by_itself(ended) or self._came_late(ended))
        spent = ended.token_refused and not (ended.opened or ended.by_resume or self._tokens.renewable)
        pointless = spent and not self._is_by_clock(ended)
        if spent:
            ended.retry_after_s = max(_asked_s(ended) or 0.0, ONLY_TOKEN_S)
        will_retry = not (final or pointless)
        self._log(ended, will_retry)
        if ended.opened or not will_retry:
            self._events.put(Disconnected(ended.code, ended.reason, will_retry))
        if not will_retry:
            raise _StoppedError(f"the client has stopped: {ended.code} {ended.reason}", _typed(ended))
        if ended.opened and ended.lasted_s >= self._config.stable_after_s:
            self._attempt = 0
            self._logged.clear()
        if ended.token_refused and ended.by_resume and not ended.opened:
            return 0.0  # the token is tried at once; only the short cut was refused
        self._attempt += 1
        return self._delay_s(ended)

    def _is_by_clock(self, ended: Ended) -> bool:
        """Whether a token was called expired by a clock that is far from ours: one of the two will be set right."""
        server_ms = ended.cause.server_ms if isinstance(ended.cause, LoginFailedError) else None
        if ended.code != ev.CloseCode.TOKEN_EXPIRED or server_ms is None:
            return False
        return abs(server_ms - self._clock.now_ms()) > CLOCKS_APART_S * 1000

    def _log(self, ended: Ended, will_retry: bool) -> None:
        """One warning for each kind of failure since the last stable connection, however many tries there are.

        One for the failure that is the last, too.
        """
        words = said(ended.cause, EXPLANATION_MAX)
        if ended.opened:
            logger.info("the connection ended: %s", words)
        elif not will_retry:
            logger.warning("no connection, and no further try: %s", words)
        elif (kind := _kind(ended.cause)) not in self._logged:
            self._logged.add(kind)
            logger.warning("no connection, trying again: %s", words)

    def _came_late(self, ended: Ended) -> bool:
        """Whether our HELLO, which leaves at once, was late on its way. Believed a few times in a row."""
        if ended.code != ev.CloseCode.HELLO_MISSING or ended.opened:
            return False
        self._late_hellos += 1
        return self._late_hellos <= LATE_HELLOS_MAX

    def _replaced_by_itself(self, ended: Ended) -> bool:
        """Whether the newer session may be our own HELLO of a try given up just before. Believed once for each."""
        lost_at_s, now_s = self._hello_lost_at_s, self._clock.now_s()
        if ended.code != ev.CloseCode.REPLACED or lost_at_s is None:
            return False
        self._hello_lost_at_s = None
        return now_s - lost_at_s <= HELLO_LATE_S

    def _delay_s(self, ended: Ended) -> float:
        attempt = self._attempt + (STORM_TRIES if _is_storm(ended) else 0)
        return self._backoff.delay_s(attempt, _asked_s(ended))

    def _stop(self, text: str, reason: Exception) -> None:
        self._outbox.stopped(reason)
        self._events.close()
        self._status.stop(text, reason)


def _ended(
    cause: Exception,
    *,
    opened: bool = False,
    by_resume: bool = False,
    lasted_s: float = 0.0,
    retry_after_s: float | None = None,
) -> Ended:
    code, reason = ABNORMAL, str(cause)
    if isinstance(cause, TransportClosedError | LoginFailedError):
        code, reason = cause.close_code, cause.reason
    if isinstance(cause, LoginFailedError) and cause.refused is not None:
        reason = reason or str(cause.refused)
    return Ended(cause, code, reason, opened, by_resume, lasted_s, retry_after_s)


def _asked_s(ended: Ended) -> float | None:
    """What the server asked to wait, if it did."""
    return retry_after_s_of(ended.cause) if ended.retry_after_s is None else ended.retry_after_s


def _is_storm(ended: Ended) -> bool:
    """Whether everybody lost their connection at once and nobody spread the return, as when a proxy reloads."""
    return ended.opened and ended.retry_after_s is None and ended.code in (1001, 1012)


def _kind(cause: Exception) -> str:
    """What failures have in common that are one story in the log; there are few."""
    match cause:
        case ConnectFailedError():
            return f"{cause.kind} {cause.status}"
        case LoginFailedError():
            return f"login {cause.close_code} {cause.refused.code if cause.refused is not None else ''}"
    return type(cause).__name__


def _typed(ended: Ended) -> Exception:
    """What stopped the client, as the contract names it."""
    if isinstance(ended.cause, LoginFailedError) and ended.cause.refused is not None:
        return ended.cause.refused
    if ended.code == ev.CloseCode.TOKEN_EXPIRED:
        return TokenExpiredError(ended.reason)
    return TokenRevokedError(ended.reason) if ended.token_refused else ended.cause


async def _close(transport: Transport | None, timeout_s: float) -> None:
    if transport is None:
        return
    with anyio.move_on_after(timeout_s, shield=True):
        await transport.aclose()
