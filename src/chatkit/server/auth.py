"""Login: who a token proves its bearer to be.

An authenticator is any callable from token to `Identity`, mostly async; hosts bring their own. `jwt_authenticator` is
the one that ships, on PyJWT (extra `server`), with a fixed list of algorithms and its times checked against the
`Clock` port rather than by the library.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import (
    BadRequestError,
    ConfigurationError,
    TokenExpiredError,
    TokenRevokedError,
    UnauthenticatedError,
)
from ..ports import Clock, SystemClock
from ..types import Identity
from ..wire.events import Id

logger = logging.getLogger(__name__)

Authenticator = Callable[[str], Awaitable[Identity] | Identity]
"""Takes the token, returns the identity. A plain `def` works too; it runs in the event loop, so it must not wait.

Raises UnauthenticatedError (proves nothing), TokenExpiredError, TokenRevokedError or BannedError. A RefusedError that
may be retried is answered as it is, any other one as UNAUTHENTICATED. Any other exception is logged and answered as
UNAVAILABLE: a login service that is down must not look like a wrong password. What is no `Identity`, or has an id
outside the alphabet, is answered as UNAUTHENTICATED, and the log says what to do.
"""

Key = str | bytes
Keys = Key | Sequence[Key] | Mapping[str, Key]
"""A secret or public key; several, of which any may fit; or several by the `kid` in a token's header."""

SECRET_BYTES_MIN = 32
"""Bytes that an HMAC secret must have."""

TIME_MAX_S = 2**40
"""Of a time in a token: far beyond any real date, and small enough for milliseconds in 53 bits."""


_OUTSIDE = re.compile(rb"[^A-Za-z0-9._@-]")
_ESCAPED = re.compile(r":([0-9A-F]{2})")
_ID_MAX = 128
_DECODE_OPTIONS = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False}
_NO_ID = (
    "signed tokens are refused: their `sub` is no user id (1-128 of A-Z a-z 0-9 . _ : @ -); "
    "give jwt_authenticator(..., user_id=user_id_from) (said once)"
)


class _Claims(msgspec.Struct):
    sub: str
    exp: float | UnsetType = UNSET
    nbf: float | UnsetType = UNSET
    iat: float | UnsetType = UNSET
    dev: Id | UnsetType = UNSET
    scope: str = ""


def user_id_from(text: str) -> str:
    """A user id for any text, such as `auth0|5f7c` or `ann+chat@x.org`; `external_id_of` gives the text back.

    Letters, digits and `. _ @ -` stay as they are; every other byte becomes `:` and two hex digits, so that two texts
    never share an id: `auth0:7C5f7c`.

    Raises:
        BadRequestError: It is no text, an empty one, or its id would have more than 128 characters.
    """
    if not isinstance(text, str):
        raise BadRequestError(f"a user id is made of a text, not of {type(text).__name__}")
    if text in (".", ".."):
        return text.replace(".", ":2E")
    found = _OUTSIDE.sub(lambda byte: b":%02X" % byte[0][0], text.encode("utf-8", "surrogatepass"))
    if not 0 < len(found) <= _ID_MAX:
        raise BadRequestError(
            f"a user id made of this text would have {len(found)} characters, and may have 1-128"
        )
    return found.decode()


def external_id_of(user_id: str) -> str:
    """The text that `user_id_from` made this id of."""
    return (
        _ESCAPED.sub(lambda found: chr(int(found[1], 16)), user_id)
        .encode("latin-1")
        .decode("utf-8", "surrogatepass")
    )


def jwt_authenticator(
    secret: Keys,
    *,
    algorithms: Sequence[str] = ("HS256",),
    leeway_s: float = 30.0,
    clock: Clock | None = None,
    user_id: Callable[[str], str] | None = None,
    **options: Any,
) -> Authenticator:
    """Accept JSON Web Tokens: claims `sub` (user), `exp`, and optionally `dev` (device), `nbf`, `iat`, `scope`.

    Args:
        secret: The HMAC secret, or the public key in PEM for asymmetric algorithms. Several of them while keys change:
            a sequence, of which each is tried; or a mapping by `kid`, where a token must name one of them.
        algorithms: The only algorithms accepted, whatever a token says of itself; all for the same kind of key.
        leeway_s: Seconds by which the clocks of issuer and server may differ.
        clock: Where the time comes from.
        user_id: Makes the user id of `sub`, where `sub` is no id by itself: `user_id_from`.
        **options: `audience` and `issuer`, passed to PyJWT's `decode`.

    Raises:
        ConfigurationError: PyJWT is not installed, or lacks what an algorithm needs; no such algorithm; no key; an HMAC
            secret shorter than 32 bytes; or a key that is none for these algorithms.

    Source: RFC 7519 section 4.1
    """
    keys = _Keys(load_pyjwt(), secret, algorithms)
    reader = TokenReader(leeway_s, clock, user_id, options)

    def at_once(token: str) -> Identity:
        key_id = reader.header(token).get("kid") if keys.by_id else None
        return reader.identity(token, [(key, algorithms) for key in keys.of(key_id)])

    return ImmediateAuthenticator(at_once)


class ImmediateAuthenticator:
    """An authenticator that waits for nobody, and is awaited all the same by whoever calls it as others.

    Args:
        at_once: From token to identity; raises as `Authenticator` does.
    """

    def __init__(self, at_once: Callable[[str], Identity]) -> None:
        self.at_once = at_once

    async def __call__(self, token: str) -> Identity:
        """Who a token proves."""
        return self.at_once(token)


def any_authenticator(*authenticators: Authenticator) -> Authenticator:
    """Accept what one of several accepts, asked in turn; for a change from one kind of key to another.

    A token that one of them knows and refuses for its time ends the search, and so does UNAVAILABLE.

    Raises:
        ConfigurationError: There are none.
    """
    if not authenticators:
        raise ConfigurationError("any_authenticator needs at least one authenticator")
    if len(authenticators) == 1:
        return authenticators[0]

    async def authenticate(token: str) -> Identity:
        refused: UnauthenticatedError | None = None
        for ask in authenticators:
            try:
                answer = ask(token)
                return await answer if isinstance(answer, Awaitable) else answer
            except UnauthenticatedError as error:
                if isinstance(error, TokenExpiredError | TokenRevokedError):
                    raise
                refused = error
        assert refused is not None
        raise refused

    return authenticate


class TokenReader:
    """Checks a token against keys that somebody else has chosen, each with the algorithms it is bound to.

    Args:
        leeway_s: Seconds by which the clocks of issuer and server may differ.
        clock: Where the time comes from.
        user_id: Makes the user id of `sub`.
        options: `audience` and `issuer`, passed to PyJWT's `decode`.

    Raises:
        ConfigurationError: PyJWT is not installed.
    """

    def __init__(
        self,
        leeway_s: float,
        clock: Clock | None,
        user_id: Callable[[str], str] | None,
        options: Mapping[str, Any],
    ) -> None:
        self._jwt = load_pyjwt()
        self._leeway_s, self._clock, self._user_id = leeway_s, clock or SystemClock(), user_id
        self._options = options

    def header(self, token: str) -> dict[str, Any]:
        """The head of a token, of which nothing is proved. Raises UnauthenticatedError for what is no token."""
        try:
            found: dict[str, Any] = self._jwt.get_unverified_header(token)
            return found
        except (self._jwt.PyJWTError, ValueError, RecursionError):
            raise _not_valid() from None

    def identity(self, token: str, keys: Iterable[tuple[Any, Sequence[str]]]) -> Identity:
        """Whom a token proves, by the first key that fits.

        Raises:
            UnauthenticatedError: None fits, or the claims are not those of a login.
            TokenExpiredError: It has ended.
        """
        try:
            claims = self._verified(token, keys)
            name = _named(claims.sub, self._user_id)
        except (
            self._jwt.PyJWTError,
            msgspec.ValidationError,
            ValueError,
            RecursionError,
            BadRequestError,
            UnauthenticatedError,
        ):
            raise _not_valid() from None
        _check_times(claims, self._clock.now_ms() / 1000, self._leeway_s)
        device_id = None if claims.dev is UNSET else claims.dev
        return Identity(name, device_id, _ms(claims.exp), claims.scope, _ms(claims.iat))

    def _verified(self, token: str, keys: Iterable[tuple[Any, Sequence[str]]]) -> _Claims:
        error: Exception = _not_valid()
        for key, algorithms in keys:
            try:
                claims = self._jwt.decode(
                    token, key, algorithms=list(algorithms), options=_DECODE_OPTIONS, **self._options
                )
                return msgspec.convert(claims, _Claims)
            except self._jwt.InvalidSignatureError as wrong_key:
                error = wrong_key
        raise error


def _not_valid() -> UnauthenticatedError:
    return UnauthenticatedError("the token is not valid")


def _named(sub: str, user_id: Callable[[str], str] | None) -> str:
    """The user id of a signed `sub`. Raises UnauthenticatedError, and says in the log what to do."""
    name = sub if user_id is None else user_id(sub)
    try:
        return msgspec.convert(name, Id)
    except msgspec.ValidationError:
        _log_once(_NO_ID)
        raise _not_valid() from None


@cache
def _log_once(words: str) -> None:
    logger.error(words)


class _Keys:
    """The keys of an authenticator, found fit for its algorithms."""

    def __init__(self, jwt: Any, keys: Keys, algorithms: Sequence[str]) -> None:
        if isinstance(algorithms, str) or not algorithms:
            raise ConfigurationError('algorithms must be a list, such as ["RS256"]')
        if len({algorithm.startswith("HS") for algorithm in algorithms}) > 1:
            raise ConfigurationError(
                "a key is a secret (HS...) or a public key (RS..., ES...): one authenticator each"
            )
        self._by_id = dict(keys) if isinstance(keys, Mapping) else None
        self._all = _listed(keys)
        if not self._all:
            raise ConfigurationError("jwt_authenticator needs at least one secret or key")
        for key in self._all:
            for algorithm in algorithms:
                _check_key(jwt, key, algorithm)

    @property
    def by_id(self) -> bool:
        """Whether a token must name its key."""
        return self._by_id is not None

    def of(self, key_id: str | None) -> Sequence[Key]:
        """The keys that may have signed a token with this `kid`."""
        if self._by_id is None:
            return self._all
        key = self._by_id.get(key_id or "")
        return [] if key is None else [key]


def sign_token(
    secret: str | bytes,
    *,
    user_id: str,
    device_id: str | None = None,
    ttl_s: float = 3600.0,
    scope: str = "chat",
    clock: Clock | None = None,
) -> str:
    """A token that `jwt_authenticator` with the same secret accepts: HS256, claims sub, dev, exp, iat, scope.

    Args:
        secret: The HMAC secret.
        user_id: Whom it proves.
        device_id: The device it is bound to; any device if None.
        ttl_s: Seconds until it ends.
        scope: Passed through.
        clock: Where the time comes from.

    Raises:
        BadRequestError: An id that no server takes; `user_id_from` makes one of any text.
        ConfigurationError: PyJWT is not installed, or the secret is shorter than 32 bytes.
    """
    _check_secret(secret)
    for name, value in (("user_id", user_id), ("device_id", device_id)):
        if name == "user_id" or value is not None:
            _check_signed(name, value)
    now_ms = (clock or SystemClock()).now_ms()
    claims: dict[str, Any] = {"sub": user_id, "exp": int(now_ms / 1000 + ttl_s), "scope": scope}
    claims["iat"] = now_ms / 1000  # to the millisecond: a revocation refuses what was issued up to then
    if device_id is not None:
        claims["dev"] = device_id
    token: str = load_pyjwt().encode(claims, secret, algorithm="HS256")
    return token


def _check_signed(name: str, value: object) -> None:
    try:
        msgspec.convert(value, Id)
    except msgspec.ValidationError:
        words = f"{name} must be 1-128 characters of A-Z a-z 0-9 . _ : @ -"
        raise BadRequestError(f"{words}, not {value!r:.128}") from None


def _check_times(claims: _Claims, now_s: float, leeway_s: float) -> None:
    for stamp in (claims.exp, claims.nbf, claims.iat):
        if stamp is not UNSET and not 0 <= stamp <= TIME_MAX_S:
            raise _not_valid()
    if claims.exp is not UNSET and claims.exp + leeway_s < now_s:
        raise TokenExpiredError("the token has expired")
    if claims.nbf is not UNSET and claims.nbf - leeway_s > now_s:
        raise UnauthenticatedError("the token is not valid yet")


def _listed(keys: Keys) -> Sequence[Key]:
    if isinstance(keys, Mapping):
        return [*keys.values()]
    return [*keys] if isinstance(keys, Sequence) and not isinstance(keys, str | bytes) else [keys]


def _ms(stamp_s: float | UnsetType) -> int | None:
    return None if stamp_s is UNSET else int(stamp_s * 1000)


def _check_key(jwt: Any, key: Key, algorithm: str) -> None:
    """Raises ConfigurationError for a key that an algorithm cannot use."""
    if not isinstance(key, str | bytes):
        raise ConfigurationError(f"a secret or key is a str or bytes, not {type(key).__name__}")
    if algorithm.startswith("HS"):
        _check_secret(key)
    try:
        known = jwt.get_algorithm_by_name(algorithm)
        prepared = known.prepare_key(key)
    except NotImplementedError:
        if algorithm in jwt.algorithms.requires_cryptography:
            raise ConfigurationError(f"{algorithm} needs cryptography: pip install 'pyjwt[crypto]'") from None
        raise ConfigurationError(f"there is no algorithm {algorithm!r} for JSON Web Tokens") from None
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        wanted = "a secret of random bytes" if algorithm.startswith("HS") else "the public key in PEM"
        raise ConfigurationError(f"this is no key for {algorithm}, which takes {wanted}") from error
    if hasattr(prepared, "private_bytes"):
        raise ConfigurationError(
            f"this is a private key; {algorithm} is checked with the public one: give that"
        )
    if not algorithm.startswith("HS") and (too_small := known.check_key_length(prepared)):
        raise ConfigurationError(too_small)


def public_key_algorithms(pem: str | bytes) -> list[str]:
    """The algorithms that a public key in PEM can check, the usual one first.

    Raises:
        ConfigurationError: It is none, is too small or of another kind; or cryptography is not installed.
    """
    jwt = load_pyjwt()
    known = sorted(jwt.algorithms.requires_cryptography, key=_by_use)
    usable = []
    for algorithm in known:
        try:
            _check_key(jwt, pem, algorithm)
        except ConfigurationError as error:
            if "cryptography" in str(error) or "private key" in str(error):
                raise
            continue
        usable.append(algorithm)
    if not usable:
        raise ConfigurationError("this is no public key in PEM that a token can be checked with")
    return usable


def _by_use(algorithm: str) -> tuple[int, str]:
    return (0 if algorithm in ("RS256", "EdDSA") else 1, algorithm)


def _check_secret(secret: str | bytes) -> None:
    """RFC 7518 section 3.2: a key of the size of the hash output or larger. Raises ConfigurationError."""
    try:
        size = len(secret.encode() if isinstance(secret, str) else secret)
    except (TypeError, UnicodeEncodeError):
        raise ConfigurationError("the JWT secret must be bytes, or a text without lone surrogates") from None
    if size < SECRET_BYTES_MIN:
        raise ConfigurationError(
            f"the JWT secret has {size} bytes and needs at least {SECRET_BYTES_MIN}; make one with "
            "python -c 'import secrets; print(secrets.token_hex(32))'"
        )


def load_pyjwt() -> Any:
    """PyJWT. Raises ConfigurationError if it is not installed."""
    try:
        import jwt
    except ImportError:
        raise ConfigurationError("JWT login needs PyJWT: pip install 'chatkit-engine[server]'") from None
    return jwt
