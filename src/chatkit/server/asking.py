"""Asks the host who somebody is: the only place where anything waits for it. What it answers is held to what it may be.

A host that is down and a host that is set up wrongly are two things: the first is answered with UNAVAILABLE, the second
at once with UNAUTHENTICATED, and the server's log says once for each kind what to do.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import msgspec

from ..errors import (
    BannedError,
    ConfigurationError,
    RefusedError,
    TokenRevokedError,
    UnauthenticatedError,
    UnavailableError,
)
from ..types import Identity
from ..wire import events as ev
from .auth import Authenticator, ImmediateAuthenticator
from .login_request import LoginRequest, RequestLogin

logger = logging.getLogger(__name__)

ResumeAuthorizer = Callable[[Identity], Awaitable[Identity | None]]
"""Takes the login that a client resumes, and returns it, as it is or with another end or scope; None: it has ended.

`Identity.device_id` is the device; `issued_at_ms` is not known. Errors are answered as those of an `Authenticator`.
"""

_Scope = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00\ud800-\udfff]*\Z")]
"""A text that every store can hold: NUL and lone surrogates are no text to PostgreSQL."""

_Times = Annotated[int, msgspec.Meta(ge=0, le=ev.SEQ_MAX)] | None


class _Valid(msgspec.Struct):
    """What an `Identity` may hold."""

    user_id: ev.Id
    device_id: ev.Id | None
    expires_ms: _Times
    issued_at_ms: _Times
    scope: _Scope


class _SetUpWronglyError(Exception):
    """The host answered what no host may answer.

    Attributes:
        kind: Each is logged once.
    """

    def __init__(self, kind: str, what_to_do: str) -> None:
        super().__init__(what_to_do)
        self.kind = kind


class Asking:
    """The host's callables, with a deadline and a stated answer when they fail.

    Args:
        authenticate: Async or not; one that is not must not wait, since everybody waits with it.
        authorize_resume: Likewise; None: a resume is not asked about.
        timeout_s: For one answer.

    Raises:
        ConfigurationError: One of them cannot be called.
    """

    def __init__(
        self, authenticate: Authenticator, authorize_resume: ResumeAuthorizer | None, timeout_s: float
    ) -> None:
        if not callable(authenticate):
            raise ConfigurationError("authenticate must be a callable from token to Identity")
        if authorize_resume is not None and not callable(authorize_resume):
            raise ConfigurationError("authorize_resume must be a callable from Identity to Identity or None")
        self._authenticate: Callable[[Any], Any] = authenticate
        if isinstance(authenticate, ImmediateAuthenticator):  # a deadline costs more than the answer does
            self._authenticate = authenticate.at_once
        self._authorize_resume = authorize_resume
        self._timeout_s = timeout_s
        self._logged: set[str] = set()

    @property
    def at_resume(self) -> bool:
        """Whether the host wants to be asked when a login is resumed."""
        return self._authorize_resume is not None

    @property
    def by_request(self) -> bool:
        """Whether a login may come without a token: by a cookie or a header."""
        return isinstance(self._authenticate, RequestLogin)

    async def who(self, token: str, request: LoginRequest | None = None) -> Identity:
        """Who the token proves, or what else the request came with.

        Raises:
            UnauthenticatedError: Or a subclass: the host refuses the token, or is set up wrongly.
            BannedError: The host says so.
            UnavailableError: The host failed or took too long; a retry is safe. So it is after the host's own
                RateLimitedError or OverloadedError.
        """
        if isinstance(self._authenticate, RequestLogin):
            whole = msgspec.structs.replace(request or LoginRequest(), token=token)
            return await self._ask("authenticate", self._authenticate.identify, whole, _proved)
        return await self._ask("authenticate", self._authenticate, token, _proved)

    async def again(self, resumed: Identity) -> Identity:
        """What the host says now of a login that is resumed.

        Raises:
            TokenRevokedError: The host has ended it.
            UnauthenticatedError: The host refuses it, or is set up wrongly.
            BannedError: The host says so.
            UnavailableError: As `who`.
        """
        assert self._authorize_resume is not None

        def checked(answer: object) -> Identity:
            if answer is None:
                raise TokenRevokedError("the login has ended")
            return _same(_proved(answer), resumed)

        return await self._ask("authorize_resume", self._authorize_resume, resumed, checked)

    async def _ask(
        self,
        name: str,
        function: Callable[[Any], Any],
        argument: object,
        checked: Callable[[object], Identity],
    ) -> Identity:
        try:
            answer = function(argument)
            if inspect.isawaitable(answer):
                with anyio.fail_after(self._timeout_s):
                    answer = await answer
            return checked(answer)
        except RefusedError as error:
            if error.retryable or isinstance(error, UnauthenticatedError | BannedError):
                raise
            raise UnauthenticatedError(
                str(error)
            ) from error  # nothing that a client would try again and again
        except _SetUpWronglyError as fault:
            self._log_once(name, fault)
            raise UnauthenticatedError("the server cannot use this login; its log says why") from None
        except Exception as error:
            logger.exception("%s failed", name)
            raise UnavailableError("login is not possible right now", retry_after_s=1.0) from error

    def _log_once(self, name: str, fault: _SetUpWronglyError) -> None:
        kind = f"{name} {fault.kind}"
        if kind not in self._logged:
            self._logged.add(kind)
            logger.error("logins are refused: %s %s (said once)", name, fault)


def _proved(answer: object) -> Identity:
    """An answer that is an Identity with values that the contract knows. Raises _SetUpWronglyError."""
    if answer is None:
        raise _SetUpWronglyError(
            "none", "returned None; raise UnauthenticatedError for a token that proves nothing"
        )
    if not isinstance(answer, Identity):
        raise _SetUpWronglyError("type", f"returned {type(answer).__name__}; return chatkit.Identity")
    try:
        msgspec.convert(answer, _Valid, from_attributes=True)
    except msgspec.ValidationError:
        _check("user_id", answer.user_id, ev.Id)
        _check("device_id", answer.device_id, ev.Id | None)
        _check("expires_ms", answer.expires_ms, _Times)
        _check("issued_at_ms", answer.issued_at_ms, _Times)
        _check("scope", answer.scope, _Scope)
        raise
    return answer


def _check(name: str, value: object, kind: Any) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        words = f"returned the {name} {repr(value)[:100]}, which is not valid"
        if name in ("user_id", "device_id"):
            words += ": ids are 1-128 of A-Z a-z 0-9 . _ : @ -; chatkit.user_id_from makes one of any text"
        raise _SetUpWronglyError(name, words) from None


def _same(answer: Identity, resumed: Identity) -> Identity:
    if answer.user_id != resumed.user_id or answer.device_id not in (None, resumed.device_id):
        raise _SetUpWronglyError("other", "returned another user or device than it was asked about")
    return answer
