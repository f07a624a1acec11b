"""The connection that heals itself: connect, log in, serve, and decide what the end of a connection means.

The one loop that reconnects. Called by `client`, which runs it in the background and reads its state.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from ..core.backoff import next_delay
from ..errors import (
    ChatkitError,
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    ProtocolError,
    TokenExpiredError,
    TokenRevokedError,
    UnavailableError,
)
from ..transport.base import Connector, Transport, TransportClosedError
from ..wire import events as ev
from .base import refused_for_now
from .events import Connected, Connecting, Disconnected, Reconnecting
from .link import Link, LoginFailedError, hello, log_in
from .parts import Parts
from .tokens import TokenSource

ABNORMAL = 1006
HELLO_LATE_S = 60.0
"""For so long a HELLO of a try that was given up may still arrive, and replace the connection made after it.

Besides its way and its wait for storage this covers a node that must find out by itself that another one took the
HELLO: it looks at its devices every 25 s, and storage may refuse it the first look.
"""

LOST_CLOSE_S = 0.5
"""For closing what is lost already; only an orderly end waits for the other side."""


class _Ended(msgspec.Struct):
    """How one connection ended.

    Attributes:
        opened: WELCOME had come.
        by_resume: The login was tried with a resume token.
        lasted_s: From WELCOME on.
        hint_s: What the server asked to wait.
    """

    cause: Exception
    code: int
    reason: str
    opened: bool = False
    by_resume: bool = False
    lasted_s: float = 0.0
    hint_s: float | None = None

    @property
    def token_refused(self) -> bool:
        return 4100 <= self.code <= 4199

    @property
    def final(self) -> bool:
        return 4200 <= self.code <= 4299


class _StoppedError(Exception):
    """There is no point in going on."""

    def __init__(self, text: str, reason: Exception) -> None:
        super().__init__(text)
        self.reason = reason


class Session:
    """One client's line to the server.

    Args:
        parts: What every connection serves.
        connector: Opens connections.
        tokens: Where the login comes from.
        device_id: This device.
    """

    def __init__(self, parts: Parts, connector: Connector, tokens: TokenSource, device_id: str) -> None:
        self._parts = parts
        self._connector = connector
        self._tokens = tokens
        self._device_id = device_id
        self._resume_token: str | None = None
        self._attempt = 0
        self._hello_lost_at_s: float | None = None
        self._changed = anyio.Event()
        self.connected = False
        self.stopped: Exception | None = None
        self.failure: Exception | None = None
        self._stop_text = ""

    async def run(self) -> None:
        """Keep connected until cancelled, or until there is no point in going on: then `stopped` says why.

        A fault of our own, or of the set-up, ends here too and is kept in `failure`.
        """
        try:
            await self._loop()
        except _StoppedError as stopped:
            self._stop(str(stopped), stopped.reason)
        except Exception as fault:
            self.failure = fault
            self._parts.mailbox.put(Disconnected(ABNORMAL, str(fault), False))
            self._stop(f"the client has stopped: {fault}", fault)

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

    async def _loop(self) -> None:
        while True:
            self._parts.mailbox.put(Connecting(self._attempt + 1))
            ended = await self._connection()
            delay_s = self._next(ended)
            self._parts.mailbox.put(Reconnecting(self._attempt, delay_s, ended.cause))
            await anyio.sleep(delay_s)

    async def _connection(self) -> _Ended:
        """One connection from its opening to its end; the login is at hand before it is opened."""
        by_resume = self._resume_token is not None
        refusal = self._parts.recover()
        if refusal is not None:
            return _ended(refusal)
        try:
            proof = await self._proof()
        except ConfigurationError:
            raise
        except Exception as error:  # the app's token callable may raise anything
            return _ended(error)
        try:
            with anyio.fail_after(self._parts.config.connect_timeout_s):
                transport = await self._connector.connect(self._parts.codec.subprotocol)
        except TimeoutError:
            return _ended(DeadlineExceededError("connecting took too long"))
        except ConnectionLostError as error:
            return _ended(error)
        try:
            ended = await self._logged_in(transport, proof, by_resume=by_resume)
        except BaseException:  # the app's own end, or a fault: an orderly close
            await _close(transport, self._parts.config.close_timeout_s)
            raise
        await _close(transport, min(LOST_CLOSE_S, self._parts.config.close_timeout_s))
        return ended

    async def _logged_in(self, transport: Transport, proof: ev.Hello, *, by_resume: bool) -> _Ended:
        try:
            with anyio.fail_after(self._parts.config.hello_timeout_s):
                welcome, first = await log_in(transport, self._parts.codec, proof)
        except TimeoutError:
            self._hello_lost_at_s = self._parts.ports.clock.now_s()
            return _ended(DeadlineExceededError("no WELCOME in time"), by_resume=by_resume)
        except (ConnectionLostError, ProtocolError) as error:
            ended = _ended(error, by_resume=by_resume)
            if ended.code == ABNORMAL:
                self._hello_lost_at_s = self._parts.ports.clock.now_s()
            return ended
        try:
            self._bind(welcome)
        except UnavailableError as error:  # the store cannot be written to now
            if not refused_for_now(error):
                raise
            return _ended(error)
        return await self._serve(transport, welcome, first)

    async def _proof(self) -> ev.Hello:
        if self._resume_token is not None:
            return hello(self._device_id, resume_token=self._resume_token)
        return hello(self._device_id, token=await self._tokens.get())

    async def _serve(
        self, transport: Transport, welcome: ev.Welcome, first: Sequence[ev.ServerEvent]
    ) -> _Ended:
        parts = self._parts
        link = Link(parts, self._tokens, transport, welcome)
        since_s = parts.ports.clock.now_s()
        parts.connected(welcome.user_id, welcome.limits)
        self._set_connected(True)
        parts.mailbox.put(Connected(welcome.session_id, welcome.resumed))
        cause: Exception = AssertionError("a link ends only by raising")
        try:
            await link.run(first)
        except (ConnectionLostError, ProtocolError, DeadlineExceededError, UnavailableError) as error:
            cause = error
        finally:
            self._set_connected(False)
            parts.disconnected()
        lasted_s = parts.ports.clock.now_s() - since_s
        return _ended(self._stored(cause), opened=True, lasted_s=lasted_s, hint_s=link.reconnect_after_s)

    def _stored(self, cause: Exception) -> Exception:
        """Why the connection ended. A refusal of the store explains it, and is mended here; another fault is raised."""
        failure = self._parts.receiver.failure
        if failure is None:
            return cause
        if not refused_for_now(failure):
            raise failure
        self._parts.recover()  # if the store refuses that as well, the next try begins with it
        return failure

    def _bind(self, welcome: ev.Welcome) -> None:
        """The login's user must be the one this client and its store began with."""
        if self._parts.receiver.user_id not in ("", welcome.user_id):
            raise ConfigurationError("the token now belongs to another user; use one client for each user")
        self._parts.store.bind(welcome.user_id, welcome.device_id)
        self._resume_token = welcome.resume_token

    def _next(self, ended: _Ended) -> float:
        """Seconds until the next try. Raises _StoppedError if there is none."""
        if ended.token_refused:
            self._resume_token = None
        final = ended.final and not self._replaced_by_itself(ended)
        pointless = ended.token_refused and not (ended.opened or ended.by_resume or self._tokens.renewable)
        if ended.opened or final or pointless:
            will_retry = not (final or pointless)
            self._parts.mailbox.put(Disconnected(ended.code, ended.reason, will_retry))
        if final or pointless:
            raise _StoppedError(f"the client has stopped: {ended.code} {ended.reason}", _typed(ended))
        if ended.opened and ended.lasted_s >= self._parts.config.stable_after_s:
            self._attempt = 0
        if ended.token_refused and ended.by_resume and not ended.opened:
            return 0.0  # the token is tried at once; only the short cut was refused
        self._attempt += 1
        return self._delay_s(ended)

    def _replaced_by_itself(self, ended: _Ended) -> bool:
        """Whether the newer session may be our own HELLO of a try given up just before. Believed once for each."""
        lost_at_s, now_s = self._hello_lost_at_s, self._parts.ports.clock.now_s()
        if ended.code != ev.CloseCode.REPLACED or lost_at_s is None:
            return False
        self._hello_lost_at_s = None
        return now_s - lost_at_s <= HELLO_LATE_S

    def _delay_s(self, ended: _Ended) -> float:
        hint_s = ended.hint_s
        if hint_s is None and isinstance(ended.cause, ChatkitError):
            hint_s = ended.cause.retry_after_s
        return next_delay(
            self._attempt,
            self._parts.ports.random.random(),
            hint_s,
            base_s=self._parts.config.backoff_base_s,
            max_s=self._parts.config.backoff_max_s,
        )

    def _stop(self, text: str, reason: Exception) -> None:
        self._stop_text, self.stopped = text, reason
        self._parts.sender.stopped(reason)
        self._parts.mailbox.close()
        self._wake_waiters()

    def _set_connected(self, connected: bool) -> None:
        self.connected = connected
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _ended(
    cause: Exception,
    *,
    opened: bool = False,
    by_resume: bool = False,
    lasted_s: float = 0.0,
    hint_s: float | None = None,
) -> _Ended:
    code, reason = ABNORMAL, str(cause)
    if isinstance(cause, TransportClosedError | LoginFailedError):
        code, reason = cause.close_code, cause.reason
    if isinstance(cause, LoginFailedError) and cause.refused is not None:
        reason = reason or str(cause.refused)
    return _Ended(cause, code, reason, opened, by_resume, lasted_s, hint_s)


def _typed(ended: _Ended) -> Exception:
    """What stopped the client, as the contract names it."""
    if isinstance(ended.cause, LoginFailedError) and ended.cause.refused is not None:
        return ended.cause.refused
    if ended.code == ev.CloseCode.TOKEN_EXPIRED:
        return TokenExpiredError(ended.reason)
    return TokenRevokedError(ended.reason) if ended.token_refused else ended.cause


async def _close(transport: Transport, timeout_s: float) -> None:
    with anyio.move_on_after(timeout_s, shield=True):
        await transport.aclose()
