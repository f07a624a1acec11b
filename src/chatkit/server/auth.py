"""Login: who a token proves its bearer to be.

An authenticator is any async callable from token to `Identity`; hosts bring their own. `jwt_authenticator` is
the one that ships, on PyJWT (extra `server`), with a fixed list of algorithms and its times checked against the
`Clock` port rather than by the library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import ConfigurationError, TokenExpiredError, UnauthenticatedError
from ..ports import Clock, SystemClock
from ..types import Identity
from ..wire.events import Id

Authenticator = Callable[[str], Awaitable[Identity]]
"""Takes the token, returns the identity.

Raises UnauthenticatedError (proves nothing), TokenExpiredError or TokenRevokedError. Any other exception is
logged and answered as UNAVAILABLE: a login service that is down must not look like a wrong password.
"""

SECRET_BYTES_MIN = 32
"""Bytes that an HMAC secret must have."""

_TIME_MAX_S = 2**40  # far beyond any real date, small enough for milliseconds in 53 bits


class _Claims(msgspec.Struct):
    sub: Id
    exp: float | UnsetType = UNSET
    nbf: float | UnsetType = UNSET
    dev: Id | UnsetType = UNSET
    scope: str = ""


def jwt_authenticator(
    secret: str | bytes,
    *,
    algorithms: Sequence[str] = ("HS256",),
    leeway_s: float = 30.0,
    clock: Clock | None = None,
    **options: Any,
) -> Authenticator:
    """Accept JSON Web Tokens: claims `sub` (user), `exp`, and optionally `dev` (device), `nbf`, `scope`.

    Args:
        secret: The HMAC secret, or the public key in PEM for asymmetric algorithms.
        algorithms: The only algorithms accepted, whatever a token says of itself.
        leeway_s: Seconds by which the clocks of issuer and server may differ.
        clock: Where the time comes from.
        **options: `audience` and `issuer`, passed to PyJWT's `decode`.

    Raises:
        ConfigurationError: PyJWT is not installed, or the HMAC secret is shorter than 32 bytes.

    Source: RFC 7519 section 4.1
    """
    jwt = _pyjwt()
    if any(algorithm.startswith("HS") for algorithm in algorithms):
        _check_secret(secret)
    now = clock or SystemClock()
    decode_options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False}

    async def authenticate(token: str) -> Identity:
        try:
            claims = msgspec.convert(
                jwt.decode(token, secret, algorithms=list(algorithms), options=decode_options, **options),
                _Claims,
            )
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError):
            raise UnauthenticatedError("the token is not valid") from None
        _check_times(claims, now.now_ms() / 1000, leeway_s)
        expires_ms = None if claims.exp is UNSET else int(claims.exp * 1000)
        device_id = None if claims.dev is UNSET else claims.dev
        return Identity(claims.sub, device_id, expires_ms, claims.scope)

    return authenticate


def sign_token(
    secret: str | bytes,
    *,
    user_id: str,
    device_id: str | None = None,
    ttl_s: float = 3600.0,
    scope: str = "chat",
    clock: Clock | None = None,
) -> str:
    """A token that `jwt_authenticator` with the same secret accepts: HS256, claims sub, dev, exp, scope.

    Args:
        secret: The HMAC secret.
        user_id: Whom it proves.
        device_id: The device it is bound to; any device if None.
        ttl_s: Seconds until it ends.
        scope: Passed through.
        clock: Where the time comes from.

    Raises:
        ConfigurationError: PyJWT is not installed, or the secret is shorter than 32 bytes.
    """
    _check_secret(secret)
    now_ms = (clock or SystemClock()).now_ms()
    claims: dict[str, Any] = {"sub": user_id, "exp": int(now_ms / 1000 + ttl_s), "scope": scope}
    if device_id is not None:
        claims["dev"] = device_id
    token: str = _pyjwt().encode(claims, secret, algorithm="HS256")
    return token


def _check_times(claims: _Claims, now_s: float, leeway_s: float) -> None:
    for stamp in (claims.exp, claims.nbf):
        if stamp is not UNSET and not 0 <= stamp <= _TIME_MAX_S:
            raise UnauthenticatedError("the token is not valid")
    if claims.exp is not UNSET and claims.exp + leeway_s < now_s:
        raise TokenExpiredError("the token has expired")
    if claims.nbf is not UNSET and claims.nbf - leeway_s > now_s:
        raise UnauthenticatedError("the token is not valid yet")


def _check_secret(secret: str | bytes) -> None:
    """RFC 7518 section 3.2: a key of the size of the hash output or larger."""
    size = len(secret.encode() if isinstance(secret, str) else secret)
    if size < SECRET_BYTES_MIN:
        raise ConfigurationError(
            f"the JWT secret has {size} bytes and needs at least {SECRET_BYTES_MIN}; make one with "
            "python -c 'import secrets; print(secrets.token_hex(32))'"
        )


def _pyjwt() -> Any:
    try:
        import jwt
    except ImportError:
        raise ConfigurationError("JWT login needs PyJWT: pip install 'chatkit-engine[server]'") from None
    return jwt
