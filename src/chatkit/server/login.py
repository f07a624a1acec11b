"""HELLO, AUTH_REFRESH and the end of a login.

A resume token saves a login and nothing else: 256 random bits, stored as a digest, single use, bound to user and
device. Who a token proves is asked in `asking`; who may not be here is known to `access`.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any

import anyio
import msgspec
from msgspec import UNSET

from ..core.connection import State
from ..errors import (
    BadRequestError,
    BannedError,
    RateLimitedError,
    RefusedError,
    TokenExpiredError,
    UnauthenticatedError,
)
from ..observability.instrument import Instruments
from ..ports import Ports
from ..storage.base import (
    Done,
    LoginTerms,
    OpenSession,
    RenewLogin,
    ResumeSession,
    SessionOpened,
)
from ..types import Identity
from ..wire import events as ev
from .access import Access
from .allowance import Allowance
from .asking import Asking
from .auth import TIME_MAX_S
from .background import Spawn
from .commit_queue import RESUMES
from .config import ServerConfig
from .devices import Devices
from .engine import Engine
from .login_request import LoginRequest
from .pending import PendingCommand
from .proof import Proof
from .read_gate import ReadGate
from .session import Session

logger = logging.getLogger(__name__)

_EXPIRY_WARNING_MS = 30_000

_RESUME_READS = 2
"""Resume tokens that are looked up at the same moment, for the host to be asked about; the others wait in line."""

_END_KNOWN_S = 1.0
"""So long a revocation waits for the host to say when the token ends by itself."""


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
        asking: Asking,
        access: Access,
        devices: Devices,
        allowance: Allowance,
        reads: ReadGate,
        config: ServerConfig,
        ports: Ports,
        spawn: Spawn,
        instruments: Instruments,
    ) -> None:
        self._engine = engine
        self._asking = asking
        self._access = access
        self._devices = devices
        self._allowance = allowance
        self._reads = reads
        self._resume_reads = anyio.Semaphore(_RESUME_READS)
        self._config = config
        self._ports = ports
        self._spawn = spawn
        self._instruments = instruments
        self._proved: dict[Session, _Proved] = {}

    @property
    def by_request(self) -> bool:
        """Whether a login may come without a token: by a cookie or a header."""
        return self._asking.by_request

    async def prove(self, token: str, request: LoginRequest | None = None) -> Proof:
        """Who the token proves, or what else the request came with. It holds now; `check` says so later.

        Raises:
            UnauthenticatedError: Or a subclass: the token is refused, or was revoked.
            BannedError: Its user is banned.
            UnavailableError: The authenticator failed or took too long, or the user was revoked meanwhile; a retry is
                safe.
        """
        token_hash, asked_at = digest_of_token(token), self._access.position
        self._access.check_token(token_hash)
        identity = await self._asking.who(token, request)
        proof = Proof(identity, token_hash, asked_at)
        self._access.check(proof)
        if identity.expires_ms is not None and identity.expires_ms + self._leeway_ms() <= self.now_ms():
            raise TokenExpiredError("the token has expired")
        return proof

    def check(self, proof: Proof) -> None:
        """Hold a proof to what was revoked since. Raises TokenRevokedError, BannedError or UnavailableError."""
        self._access.check(proof)

    async def end_of(self, token: str) -> int | None:
        """When a token is refused without being revoked; None: never, or nobody says.

        A host that takes a token has the word, and one that says that it has ended. What it refuses otherwise may be
        good later (not valid yet, an account that is suspended, a key that is missing), but no token outlives the `exp`
        that is a part of it.
        """
        refused_ms = self.now_ms() + int(self._config.resume_token_s * 1000)
        with anyio.move_on_after(_END_KNOWN_S):
            try:
                expires_ms = (await self._asking.who(token)).expires_ms
            except TokenExpiredError:
                return refused_ms
            except RefusedError:
                pass
            else:
                return None if expires_ms is None else expires_ms + self._leeway_ms()
        expires_ms = _exp_ms_of(token)
        return None if expires_ms is None else max(expires_ms + self._leeway_ms(), refused_ms)

    def now_ms(self) -> int:
        """The time, as logins and revocations are stamped with it."""
        return self._ports.clock.now_ms()

    async def hello(self, session: Session, event: ev.Hello) -> None:
        """Log a session in: WELCOME, joined to the live pushes; or closed with the code that says why."""
        try:
            await self._open(session, event)
        except RefusedError as error:
            session.refuse(error, event.ref, server_ts=self.now_ms())
            session.close(_close_code(error), str(error))
            if self._instruments.on_login_refused is not None:
                self._instruments.on_login_refused(error, resumed=event.resume_token is not UNSET)

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
            proof = await self.prove(event.token, session.request)
            if _is_foreign(session, proof.identity):
                session.close(ev.CloseCode.TOKEN_REVOKED, "the token belongs to another user or device")
                return
            await self._engine.execute(self._renewal(session, proof), Done, proof)
            self._access.check_token(proof.token_hash)  # revoked after that, while the session had another
        except RefusedError as error:
            session.refuse(error, event.ref)
            return
        finally:
            proved.refreshing = False
        if not session.closed:
            session.token_hash = proof.token_hash
            self._hold(session, proof.identity)
            session.answer(ev.AuthOk(expires_ts=proof.identity.expires_ms, ref=event.ref))

    def _renewal(self, session: Session, proof: Proof) -> RenewLogin:
        identity = proof.identity
        return RenewLogin(
            session.user_id,
            session.device_id,
            identity.expires_ms,
            identity.scope,
            self.now_ms(),
            proof.token_hash,
            identity.issued_at_ms,
            proof.asked_at,
        )

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
        if event.resume_token is not UNSET:
            await self._open_by_resume(session, event, event.resume_token)
        else:
            await self._open_by_token(session, event, "" if event.token is UNSET else event.token)

    async def _open_by_token(self, session: Session, event: ev.Hello, token: str) -> None:
        proof, resume_token = await self.prove(token, session.request), self._new_resume_token()
        if proof.identity.device_id not in (None, event.device_id):
            raise UnauthenticatedError("the token belongs to another device")
        self._allowance.login(proof.user_id)
        with self._devices.opening(proof.user_id, event.device_id):
            await self._check_device(proof.user_id, event.device_id)
            command = self._open_command(proof, event.device_id, resume_token)
            await self._submit(session, event, command, resume_token, proof.user_id)

    async def _check_device(self, user_id: str, device_id: str) -> None:
        """A device without a resume token has not logged in before.

        Raises:
            RateLimitedError: One too many, or too many reads of this user wait already.
        """
        if self._allowance.limits_new_devices:
            async with self._reads.turn(user_id):
                known = await self._engine.store.resume_hashes([(user_id, device_id)])
            if not known:
                self._allowance.new_device(user_id)

    def _open_command(self, proof: Proof, device_id: str, resume_token: str) -> OpenSession:
        identity = proof.identity
        return OpenSession(
            identity.user_id,
            device_id,
            digest(resume_token),
            self._resume_until_ms(),
            identity.expires_ms,
            identity.scope,
            self.now_ms(),
            proof.token_hash,
            identity.issued_at_ms,
            proof.asked_at,
        )

    async def _open_by_resume(self, session: Session, event: ev.Hello, used_token: str) -> None:
        used_hash, resume_token = digest(used_token), self._new_resume_token()
        renewed = await self._renewed(used_hash, event.device_id)
        command = self._resume_command(used_hash, event.device_id, resume_token, renewed)
        await self._submit(session, event, command, resume_token, RESUMES)

    def _resume_command(
        self, used_hash: bytes, device_id: str, resume_token: str, renewed: LoginTerms | None
    ) -> ResumeSession:
        login_max_s = self._config.login_max_s
        return ResumeSession(
            used_hash,
            device_id,
            digest(resume_token),
            self._resume_until_ms(),
            self._leeway_ms(),
            self.now_ms(),
            None if login_max_s is None else int(login_max_s * 1000),
            renewed,
        )

    async def _renewed(self, used_hash: bytes, device_id: str) -> LoginTerms | None:
        """What the host says now of the login that is resumed; None if it is not asked."""
        if not self._asking.at_resume:
            return None
        async with self._resume_reads:
            kept = await self._engine.store.kept_login(used_hash)
        if kept is None or kept.device_id != device_id:
            return None  # the store refuses it
        identity = Identity(kept.user_id, kept.device_id, kept.expires_ms, kept.scope)
        answer = await self._asking.again(identity)
        return LoginTerms(answer.expires_ms, answer.scope)

    async def _submit(
        self,
        session: Session,
        event: ev.Hello,
        command: OpenSession | ResumeSession,
        resume_token: str,
        lane: str,
    ) -> None:
        def opened(outcome: SessionOpened) -> None:
            session.resume_hash, session.token_hash = command.resume_hash, outcome.token_hash
            self._welcome(session, event, outcome, resume_token)
            if lane == RESUMES:
                self._limit_resume(session, event, outcome.user_id)

        pending = PendingCommand(command, session, opened=opened, user_id=lane, received_s=session.heard_at_s)
        await self._engine.submit(pending, SessionOpened)

    def _limit_resume(self, session: Session, event: ev.Hello, user_id: str) -> None:
        """Who resumes too often is sent away with their new token; only now it is known who it is."""
        try:
            self._allowance.login(user_id)
        except RateLimitedError as error:
            session.refuse(error, event.ref, server_ts=self.now_ms())
            session.close(_close_code(error), str(error))

    def _new_resume_token(self) -> str:
        return self._ports.ids.token_bytes(32).hex()

    def _resume_until_ms(self) -> int:
        return self.now_ms() + int(self._config.resume_token_s * 1000)

    def _welcome(self, session: Session, event: ev.Hello, outcome: SessionOpened, resume_token: str) -> None:
        session.user_id, session.device_id = outcome.user_id, outcome.device_id
        session.state = State.OPEN
        identity = Identity(outcome.user_id, outcome.device_id, outcome.identity_expires_ms, outcome.scope)
        proved = self._hold(session, identity)
        logger.info("user %s logged in on device %s", session.user_id, session.device_id)
        if self._instruments.on_login is not None:
            self._instruments.on_login(resumed=event.resume_token is not UNSET)
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
        """From here on the session has this login; if it ends when the one before did, there is no second warning."""
        earlier = session.identity
        same_end = earlier is not None and earlier.expires_ms == identity.expires_ms
        warned = same_end and session in self._proved and self._proved[session].warned
        session.identity = identity
        proved = self._proved[session] = _Proved(self._ports.clock.now_ms(), warned)
        return proved

    def _leeway_ms(self) -> int:
        return int(self._config.token_leeway_s * 1000)


def _close_code(error: RefusedError) -> int:
    """What a client whose login is refused is to do next."""
    if isinstance(error, TokenExpiredError):
        return ev.CloseCode.TOKEN_EXPIRED
    if isinstance(error, UnauthenticatedError):
        return ev.CloseCode.TOKEN_REVOKED
    if isinstance(error, BannedError):
        return ev.CloseCode.BANNED
    if isinstance(error, BadRequestError):
        return ev.CloseCode.PROTOCOL_ERROR
    return ev.CloseCode.OVERLOADED


def _is_foreign(session: Session, identity: Identity) -> bool:
    """Whether a token proves somebody else than the session's user and device."""
    foreign_device = identity.device_id is not None and identity.device_id != session.device_id
    return identity.user_id != session.user_id or foreign_device


def digest_of_token(token: str) -> bytes:
    """What names a login's token. Of a JSON Web Token what is signed: its signature can be spelt in several ways."""
    return digest(_signed_part(token) or token)


def _signed_part(token: str) -> str:
    """Header and claims of a JSON Web Token; empty for any other token. Source: RFC 7515 section 4"""
    signed, _, signature = token.rpartition(".")
    return signed if signature and "alg" in _json_object(signed.partition(".")[0]) else ""


def _exp_ms_of(token: str) -> int | None:
    """When a JSON Web Token ends by its own word, which nobody has verified; None if it does not say."""
    exp = _json_object(_signed_part(token).partition(".")[2]).get("exp")
    return int(exp * 1000) if isinstance(exp, int | float) and 0 <= exp <= TIME_MAX_S else None


def _json_object(part: str) -> dict[str, Any]:
    """What a part of a token says in base64url; empty if that is no JSON object."""
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):  # msgspec's errors, and those of base64
        return {}
    return found if isinstance(found, dict) else {}


def digest(token: str) -> bytes:
    """What is stored of a resume token."""
    return hashlib.sha256(token.encode()).digest()
