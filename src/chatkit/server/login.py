"""HELLO, AUTH_REFRESH and the end of a login: the only place where anything waits for the host's authenticator.

A resume token saves a login and nothing else: 256 random bits, stored as a digest, single use, bound to user and
device.
"""

from __future__ import annotations

import hashlib
import logging

import anyio
import msgspec
from msgspec import UNSET

from ..core.connection import State
from ..errors import (
    BadRequestError,
    RateLimitedError,
    RefusedError,
    TokenExpiredError,
    UnauthenticatedError,
    UnavailableError,
)
from ..ports import Ports
from ..storage.base import Done, OpenSession, RenewLogin, ResumeSession, SessionOpened
from ..types import Identity
from ..wire import events as ev
from .auth import Authenticator
from .background import Spawn
from .config import ServerConfig
from .engine import Engine
from .login_request import LoginRequest, RequestLogin
from .pending import PendingCommand
from .session import Session

logger = logging.getLogger(__name__)

_EXPIRY_WARNING_MS = 30_000


class _Proved(msgspec.Struct):
    """A login that holds.

    Attributes:
        at_ms: When it was last proved.
        warned: Whether TOKEN_EXPIRING was sent for it.
        refreshing: Whether an AUTH_REFRESH is under way.
    """

    at_ms: int
    warned: bool = False
    refreshing: bool = False


class Login:
    """Takes sessions from HELLO to WELCOME and watches over their logins."""

    def __init__(
        self,
        engine: Engine,
        authenticate: Authenticator,
        config: ServerConfig,
        ports: Ports,
        spawn: Spawn,
    ) -> None:
        self._engine = engine
        self._authenticate = authenticate
        self._config = config
        self._ports = ports
        self._spawn = spawn
        self._proved: dict[Session, _Proved] = {}

    @property
    def by_request(self) -> bool:
        """Whether a login may come without a token: by a cookie or a header."""
        return isinstance(self._authenticate, RequestLogin)

    async def identify(self, token: str, request: LoginRequest | None = None) -> Identity:
        """Who the token proves, or what else the request came with.

        Raises:
            UnauthenticatedError: Or a subclass: the token is refused.
            UnavailableError: The authenticator failed or took too long; a retry is safe.
        """
        try:
            with anyio.fail_after(self._config.hello_timeout_s):
                identity = await self._ask(token, request)
            _check_ids(identity)
        except RefusedError:
            raise
        except Exception as error:
            logger.exception("the authenticator failed")
            raise UnavailableError("login is not possible right now", retry_after_s=1.0) from error
        expires_ms = identity.expires_ms
        if expires_ms is not None and expires_ms + self._leeway_ms() <= self._ports.clock.now_ms():
            raise TokenExpiredError("the token has expired")
        return identity

    async def _ask(self, token: str, request: LoginRequest | None) -> Identity:
        if isinstance(self._authenticate, RequestLogin):
            whole = msgspec.structs.replace(request or LoginRequest(), token=token)
            return await self._authenticate.identify(whole)
        return await self._authenticate(token)

    async def hello(self, session: Session, event: ev.Hello) -> None:
        """Log a session in: WELCOME, joined to the live pushes; or closed with the code that says why."""
        try:
            await self._open(session, event)
        except UnauthenticatedError as error:
            expired = isinstance(error, TokenExpiredError)
            code = ev.CloseCode.TOKEN_EXPIRED if expired else ev.CloseCode.TOKEN_REVOKED
            _turn_away(session, event, error, code)
        except BadRequestError as error:
            _turn_away(session, event, error, ev.CloseCode.PROTOCOL_ERROR)
        except RefusedError as error:
            _turn_away(session, event, error, ev.CloseCode.OVERLOADED)

    def request_refresh(self, session: Session, event: ev.AuthRefresh) -> None:
        """AUTH_REFRESH: a new end for the open connection's login. Source: docs/protocol.md#auth_refresh

        Raises:
            RateLimitedError: One is under way.
        """
        proved = self._proved[session]
        if proved.refreshing:
            raise RateLimitedError("a refresh is under way", retry_after_s=1.0)
        proved.refreshing = True
        self._spawn(session, self._refresh, event, proved)

    async def _refresh(self, session: Session, event: ev.AuthRefresh, proved: _Proved) -> None:
        try:
            identity = await self.identify(event.token, session.request)
            if _is_foreign(session, identity):
                session.close(ev.CloseCode.TOKEN_REVOKED, "the token belongs to another user or device")
                return
            await self._engine.execute(self._renewal(session, identity), Done)
        except RefusedError as error:
            session.refuse(error, event.ref)
            return
        finally:
            proved.refreshing = False
        if not session.closed:
            self._hold(session, identity)
            session.answer(ev.AuthOk(expires_ts=identity.expires_ms, ref=event.ref))

    def _renewal(self, session: Session, identity: Identity) -> RenewLogin:
        now_ms = self._ports.clock.now_ms()
        return RenewLogin(session.user_id, session.device_id, identity.expires_ms, identity.scope, now_ms)

    def watch(self, session: Session) -> None:
        """Warn before a login ends, and end the session after it. Called about once a second."""
        identity, proved = session.identity, self._proved.get(session)
        if identity is None or proved is None or identity.expires_ms is None:
            return
        now_ms = self._ports.clock.now_ms()
        if now_ms >= identity.expires_ms + self._leeway_ms():
            session.close(ev.CloseCode.TOKEN_EXPIRED, "the login has expired")
            return
        lifetime_ms = identity.expires_ms - proved.at_ms
        warn_ms = max(_EXPIRY_WARNING_MS, lifetime_ms // 10)
        if not proved.warned and now_ms >= identity.expires_ms - warn_ms:
            proved.warned = True
            session.answer(ev.TokenExpiring(expires_ts=identity.expires_ms))

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._proved.pop(session, None)

    async def _open(self, session: Session, event: ev.Hello) -> None:
        needed = 0 if self.by_request else 1
        if not needed <= (event.token is not UNSET) + (event.resume_token is not UNSET) <= 1:
            raise BadRequestError("HELLO needs either `token` or `resumeToken`")
        resume_token = self._ports.ids.token_bytes(32).hex()
        command: OpenSession | ResumeSession
        if event.resume_token is not UNSET:
            command = self._resume_command(event.resume_token, event.device_id, resume_token)
        else:
            token = "" if event.token is UNSET else event.token
            identity = await self.identify(token, session.request)
            command = self._open_command(identity, event.device_id, resume_token)

        def opened(outcome: SessionOpened) -> None:
            session.resume_hash = command.resume_hash
            self._welcome(session, event, outcome, resume_token)

        await self._engine.submit(PendingCommand(command, session, opened=opened), SessionOpened)

    def _open_command(self, identity: Identity, device_id: str, resume_token: str) -> OpenSession:
        if identity.device_id is not None and identity.device_id != device_id:
            raise UnauthenticatedError("the token belongs to another device")
        return OpenSession(
            identity.user_id,
            device_id,
            _digest(resume_token),
            self._resume_until_ms(),
            identity.expires_ms,
            identity.scope,
            self._ports.clock.now_ms(),
        )

    def _resume_command(self, used_token: str, device_id: str, resume_token: str) -> ResumeSession:
        return ResumeSession(
            _digest(used_token),
            device_id,
            _digest(resume_token),
            self._resume_until_ms(),
            self._leeway_ms(),
            self._ports.clock.now_ms(),
        )

    def _resume_until_ms(self) -> int:
        return self._ports.clock.now_ms() + int(self._config.resume_token_s * 1000)

    def _welcome(self, session: Session, event: ev.Hello, outcome: SessionOpened, resume_token: str) -> None:
        session.user_id, session.device_id = outcome.user_id, outcome.device_id
        session.state = State.OPEN
        identity = Identity(outcome.user_id, outcome.device_id, outcome.identity_expires_ms, outcome.scope)
        proved = self._hold(session, identity)
        session.answer(
            ev.Welcome(
                user_id=session.user_id,
                device_id=session.device_id,
                session_id=session.session_id,
                resume_token=resume_token,
                resumed=event.resume_token is not UNSET,
                expires_ts=outcome.identity_expires_ms,
                heartbeat_ms=int(self._config.heartbeat_s * 1000),
                server_ts=proved.at_ms,
                ref=event.ref,
            )
        )

    def _hold(self, session: Session, identity: Identity) -> _Proved:
        """From here on the session has this login."""
        session.identity = identity
        proved = self._proved[session] = _Proved(self._ports.clock.now_ms())
        return proved

    def _leeway_ms(self) -> int:
        return int(self._config.token_leeway_s * 1000)


def _turn_away(session: Session, event: ev.Hello, error: RefusedError, code: int) -> None:
    session.refuse(error, event.ref)
    session.close(code, str(error))


def _is_foreign(session: Session, identity: Identity) -> bool:
    """Whether a token proves somebody else than the session's user and device."""
    foreign_device = identity.device_id is not None and identity.device_id != session.device_id
    return identity.user_id != session.user_id or foreign_device


def _check_ids(identity: Identity) -> None:
    """Hold a host's identity to the alphabet of ids; raises ValidationError, a fault of the host."""
    msgspec.convert(identity.user_id, ev.Id)
    if identity.device_id is not None:
        msgspec.convert(identity.device_id, ev.Id)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
