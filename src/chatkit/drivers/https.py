"""One document over HTTPS, bounded in size and time: the only place outside the client that asks for a URL.

The URL is the operator's; nothing that a user or a token names is ever fetched. Called by `server.jwks` and by
`chatkit doctor`.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import anyio

from .._handshake import handshake_guarded
from ..errors import ConfigurationError

if TYPE_CHECKING:
    import httpx


class FetchError(Exception):
    """There is no document; the words say why, without what the other side sent."""


class Document(NamedTuple):
    """What was fetched.

    Attributes:
        body: At most as long as was asked for.
        date: The header `Date`; "" without one.
    """

    body: bytes
    date: str


def check_url(name: str, url: str) -> str:
    """The URL, if it may be fetched from: `https://`, or `http://` on this machine, without a login in it.

    Raises:
        ConfigurationError: It may not; names the argument and never the URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks it
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(f"{name} must be an address such as https://host/path") from None
    if not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ConfigurationError(f"{name} must hold a host, and no login or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(parts.hostname)):
        raise ConfigurationError(f"{name} must begin with https:// (http:// is for this machine alone)")
    return url


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def fetch(
    url: str,
    *,
    bytes_max: int,
    timeout_s: float,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
) -> Document:
    """Ask for a document once. No redirect is followed, and nothing is decompressed.

    Args:
        url: One that `check_url` lets pass.
        bytes_max: Most bytes of its body.
        timeout_s: For all of it.
        ssl_context: Whom to trust; for `https://`.
        proxy: On the way there; None: none, whatever the environment says.

    Raises:
        FetchError: No connection, another status than 2xx, too long, too late, compressed.
    """
    import httpx  # here, for it loads rich, and most commands ask for nothing

    client = httpx.AsyncClient(
        verify=False if ssl_context is None else ssl_context,  # http:// has no TLS
        proxy=proxy,
        trust_env=False,
        follow_redirects=False,
        timeout=timeout_s,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )
    try:
        with anyio.fail_after(timeout_s):
            async with (
                client,
                handshake_guarded() as trace,
                client.stream("GET", url, extensions={"trace": trace}) as response,
            ):
                _check(response)
                return Document(await _body(response, bytes_max), response.headers.get("date", ""))
    except TimeoutError:
        raise FetchError(f"no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, anyio.BrokenResourceError, ssl.SSLError, OSError) as error:
        raise FetchError(f"it cannot be reached ({type(error).__name__})") from None


def _check(response: httpx.Response) -> None:
    if response.is_redirect:
        raise FetchError(f"it answers {response.status_code} with another place; name that place itself")
    if not response.is_success:
        raise FetchError(f"it answers {response.status_code}")
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise FetchError("it answers with a compressed body that was not asked for")


async def _body(response: httpx.Response, bytes_max: int) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            raise FetchError(f"it answers with more than {bytes_max} bytes")
    return body
