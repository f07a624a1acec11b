"""What a login came with, for hosts whose users log in by a cookie or a header instead of a token.

`ChatServer(authenticate=RequestLogin(authenticate))` hands the host a `LoginRequest`; every other authenticator gets
the token alone, and a login without one is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import msgspec

from ..types import Identity

_NOTHING: Mapping[str, str] = MappingProxyType({})


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The handshake of a WebSocket or an HTTP request, as far as a login needs it.

    Attributes:
        token: Of HELLO, AUTH_REFRESH or `Authorization: Bearer`; empty if there is none.
        cookies: By name.
        headers: By name in lower case; of a repeated one the last.
        origin: Where the page that asks came from, by the browser's word. Of a WebSocket it is one of the origins that
            `asgi_app` was given. Of an HTTP request it is one of them too, or None for one that changes nothing; with a
            token it may be anything.
        client_address: The address of the peer, or of the client that a trusted proxy named; None where there is none.
    """

    token: str = ""
    cookies: Mapping[str, str] = _NOTHING
    headers: Mapping[str, str] = _NOTHING
    origin: str | None = None
    client_address: str | None = None


class RequestLogin:
    """An authenticator that sees the whole login request.

    A page of another origin can open a WebSocket with the user's cookies. So `asgi_app` demands `origins` with it, and
    refuses every WebSocket from anywhere else: whether a token will come is not known at the handshake. A client that
    is no browser sends one of them as its header `Origin`. HTTP requests with a token may come from anywhere.

    Args:
        authenticate: Takes the request, returns the identity. Raises as `Authenticator` does.
    """

    def __init__(self, authenticate: Callable[[LoginRequest], Awaitable[Identity]]) -> None:
        self._authenticate = authenticate

    async def __call__(self, token: str) -> Identity:
        """Who a token proves, where nothing else came with it."""
        return await self._authenticate(LoginRequest(token=token))

    async def identify(self, request: LoginRequest) -> Identity:
        """Who the request proves."""
        return await self._authenticate(request)
