"""How connections leave this machine: whom they trust, through which proxy, with which headers.

One `Network` serves the WebSocket and the HTTP side of a client, so both behave alike. Nothing here connects.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit, urlunsplit

import anyio.to_thread
import certifi

from ..errors import ConfigurationError

HAPPY_EYEBALLS_DELAY_S = 0.25
"""An address of a name that has not answered for so long gets the next one as a rival (RFC 8305)."""

_PROXY_SCHEMES = ("http", "https")
_RESERVED_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-device-id",
    }
)


class Network:
    """Trust, proxy and headers of one client.

    Args:
        ssl_context: For `https://` and `wss://`. None: the system's trust store, with `SSL_CERT_FILE` and
            `SSL_CERT_DIR`; certifi's where the system has none. It is read once, in a worker thread, at the first need.
        proxy: An address (`http://` or `https://`, a login may be in it); True for what `HTTPS_PROXY`, `HTTP_PROXY`,
            `ALL_PROXY` and `NO_PROXY` say, which never count for this machine itself; False for none.
        headers: Sent with every handshake and request.

    Raises:
        ConfigurationError: An argument can never work; its name is in the message.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
            raise ConfigurationError(
                "ssl_context must be an ssl.SSLContext (ssl.create_default_context(...))"
            )
        self._ssl_context = ssl_context
        self._proxy = proxy if isinstance(proxy, bool) else _checked_proxy(proxy, "proxy")
        self.headers = _checked_headers(headers)

    async def ssl_context(self) -> ssl.SSLContext:
        """The context for TLS. Raises ConfigurationError if `SSL_CERT_FILE` cannot be read."""
        if self._ssl_context is None:
            files = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            self._ssl_context = await anyio.to_thread.run_sync(_system_context, *files)
        return self._ssl_context

    def proxy_for(self, url: str) -> str | None:
        """The proxy on the way to `url`, whatever its scheme; None for none. Raises ConfigurationError."""
        if self._proxy is True:
            return _environment_proxy(url)
        return self._proxy or None


@cache
def _system_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """One for all clients of the process: reading it takes up to half a second."""
    if cert_file is not None and not os.path.isfile(cert_file):
        raise ConfigurationError(f"SSL_CERT_FILE names no file: {cert_file}")
    paths = ssl.get_default_verify_paths()
    has_system_store = paths.cafile is not None or paths.capath is not None
    try:
        return ssl.create_default_context(cafile=None if has_system_store else certifi.where())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the trusted certificates cannot be read: {error}") from None


def server_url(base_url: str, schemes: Mapping[str, str], path: str = "") -> str:
    """The address of something below a server's.

    Args:
        base_url: `ws://`, `wss://`, `http://` or `https://`, with whatever prefix the server is mounted under.
        schemes: What each of these four becomes.
        path: What follows the prefix.

    Raises:
        ConfigurationError: Another scheme, no host, or a query, a fragment or a login in the address.
    """
    try:
        parts = _split(base_url)
    except ValueError as error:
        raise ConfigurationError(f"the server's address cannot be read: {error}") from None
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigurationError("the server's address must begin with ws://, wss://, http:// or https://")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError("the server's address must hold no query, fragment or login")
    return urlunsplit((schemes[parts.scheme], parts.netloc, parts.path.rstrip("/") + path, "", ""))


def _split(url: str) -> SplitResult:
    """The parts of an address. Raises ValueError, also for a port that is none."""
    parts = urlsplit(url)
    _ = parts.port  # reading it checks it
    return parts


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_this_machine(host) or urllib.request.proxy_bypass(parts.netloc):
        return None
    kind = "https" if parts.scheme in ("https", "wss") else "http"
    proxies = urllib.request.getproxies()
    for name in (kind, "all"):
        if name in proxies:
            return _checked_proxy(proxies[name], f"{name.upper()}_PROXY (of the environment)")
    return None


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_proxy(proxy: str, name: str) -> str:
    try:
        parts = _split(proxy)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            f"{name} must be an address such as http://proxy:3128, True or False"
        ) from None
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname or parts.path not in ("", "/"):
        raise ConfigurationError(
            f"{name} must begin with http:// or https:// and hold a host; proxy=False for none"
        )
    if (parts.username is None) != (parts.password is None) or parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must hold user and password or neither, and no query or fragment")
    return proxy


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigurationError("headers must be a mapping of names to values")
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ConfigurationError("headers: names and values must be strings")
        lower = name.lower()
        if not _is_token(name) or not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"headers: {name!r} cannot be sent: ASCII without line ends is")
        if lower in _RESERVED_HEADERS or lower.startswith("sec-websocket-"):
            raise ConfigurationError(f"headers: {name} is chatkit's own; the login goes into `token`")
    return dict(headers)


def _is_token(name: str) -> bool:
    return bool(name) and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name) and name.isascii()
