"""Which pages may reach the server: a list of origins, compared as the browser writes them.

A bearer token is its own proof, so without a list any page may connect, and no page of another origin reads an answer.
A cookie is sent by the browser whatever page asks; then the page's origin must be on the list.

Source: RFC 6454; https://fetch.spec.whatwg.org/#origin-header
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from ..errors import ConfigurationError, ForbiddenError

ANY = "*"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """The origins that a host named.

    Args:
        listed: Such as `https://chat.example.org`; `*` for any.
        cookies: Whether a login may come by a cookie.

    Raises:
        ConfigurationError: One is no origin, or cookies are taken from everywhere.
    """

    def __init__(self, listed: Sequence[str], *, cookies: bool) -> None:
        if isinstance(listed, str):
            raise ConfigurationError("origins must be a list of origins, not a single text")
        if cookies and (not listed or ANY in listed):
            raise ConfigurationError(
                "a login by cookies needs asgi_app(..., origins=[...]) with the origins of your own pages, not '*': "
                "else any page could open a connection in the name of whoever visits it"
            )
        self._listed = frozenset(map(_checked, listed))
        self._cookies = cookies

    def check_handshake(self, origin: str | None) -> None:
        """Refuse the handshake of a page that is not listed. Raises ForbiddenError."""
        if origin is None:
            if self._cookies:
                raise ForbiddenError("a login by cookie needs the header Origin")
        elif self._listed and not self._holds(origin):
            raise ForbiddenError("this origin may not connect")

    def check_request(self, method: str, origin: str | None) -> None:
        """Refuse a request without a token whose cookie a foreign page may have sent. Raises ForbiddenError.

        What changes nothing may come without an origin, as browsers send it from the page's own; a page of another one
        cannot read the answer.
        """
        if origin is None and method not in _SAFE_METHODS:
            raise ForbiddenError("a login by cookie needs the header Origin")
        if origin is not None and not self._holds(origin):
            raise ForbiddenError("this origin may not ask")

    def _holds(self, origin: str) -> bool:
        return ANY in self._listed or origin.lower() in self._listed


def _checked(origin: str) -> str:
    if origin == ANY:
        return origin
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}" or "@" in origin:
        raise ConfigurationError(
            f"{origin!r} is no origin; write it as https://chat.example.org, without a path"
        )
    return origin.lower()
