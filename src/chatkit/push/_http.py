"""One POST and its answer: the only module here that talks HTTP. Errors of the library are translated here.

It uses httpcore, which httpx is built on, because that asks nobody's environment for a proxy, follows no redirect,
and lets a caller check the address that is connected to.

What httpcore 1.0 does over HTTP/2 sets the rules. A request that is given up goes on taking room among the server's
streams, a GOAWAY ends requests whose answers are still coming, and a connection that the other side closed while
idle is used again. So every request has a deadline of its caller's, a connection on which anything went wrong gets no
further request, and one that is idle is looked at before it is used.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
import certifi
import httpcore
import msgspec

from .._handshake import Trace, handshake_guarded
from ..errors import ConfigurationError
from ._sender import Attempt, LostError
from .base import REASON_CHARS_MAX

ANSWER_BYTES_MAX = 16 * 1024
"""Of an answer's body; the rest is not read."""

IDLE_MAX_S = 300.0
"""A connection that was not used for so long is made anew: what lies between may have forgotten it."""

_PROXY_SCHEMES = ("http", "https")
_CLOSING_S = 1.0


class Answer(msgspec.Struct, frozen=True):
    """What came back. The names of headers are in lower case; the body may be cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Pool:
    """Connections that are used and given up together."""

    def __init__(self, connections: httpcore.AsyncConnectionPool) -> None:
        self.connections = connections
        self.under_way = 0
        self.retired = False
        self.last_stream: httpcore.AsyncNetworkStream | None = None

    def is_dead(self) -> bool:
        """Whether the other side closed the connection while nothing was under way."""
        if self.under_way or self.last_stream is None:
            return False
        return _was_closed(self.last_stream)


class Http:
    """POSTs of one provider.

    Args:
        http2: HTTP/2 on one connection; else HTTP/1.1, a connection for each request under way.
        connections_max: For HTTP/1.1; as many requests as may be under way, so that none waits for a connection.
        ssl_context: Whom to trust; its ALPN protocols are set. None: the system's store, certifi's where it has none.
        proxy: An address (`http://` or `https://`, a login may be in it). None for none: the environment is not asked.
        backend: Makes the connections; httpcore's own by default.

    Raises:
        ConfigurationError: An argument can never work, or HTTP/2 is not installed.
    """

    def __init__(
        self,
        *,
        http2: bool,
        connections_max: int,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
            raise ConfigurationError("ssl_context must be an ssl.SSLContext")
        self._http2 = http2
        self._lost = _what_is_lost(http2)
        self._connections_max = 2 if http2 else connections_max  # the second follows one that takes no more
        self._ssl_context = ssl_context
        self._proxy = proxy_of(proxy)
        self._backend = backend
        self._making = anyio.Lock()
        self._pool: _Pool | None = None
        self._closed = False

    async def post(self, url: str, headers: Mapping[str, str], content: bytes, attempt: Attempt) -> Answer:
        """One POST. It waits without bound: callers cancel it at their deadline.

        Where a request never left because its connection took no more, it is tried once more on a fresh one.

        Raises:
            LostError: No answer. `attempt.left` says whether anything may have arrived.
        """
        try:
            return await self._once(url, headers, content, attempt)
        except _NeverLeftError:
            return await self._once(url, headers, content, attempt)

    async def aclose(self) -> None:
        """Close the connections; requests under way are lost. A second call does nothing."""
        self._closed = True
        async with self._making:
            pool, self._pool = self._pool, None
        if pool is not None:
            await _close(pool)

    async def _once(self, url: str, headers: Mapping[str, str], content: bytes, attempt: Attempt) -> Answer:
        pool = await self._current()
        pool.under_way += 1
        sending = _Sending(attempt)
        try:
            return await self._ask(pool, url, headers, content, sending)
        except BaseException as error:
            self._retire(pool)
            if isinstance(error, self._lost):
                raise _lost(error, sending) from None
            raise
        finally:
            pool.under_way -= 1
            if (pool.retired or self._closed) and not pool.under_way:
                await _close(pool)

    async def _ask(
        self, pool: _Pool, url: str, headers: Mapping[str, str], content: bytes, sending: _Sending
    ) -> Answer:
        every = [*headers.items(), ("content-length", str(len(content))), ("accept-encoding", "identity")]
        async with (
            handshake_guarded() as trace,
            pool.connections.stream(
                "POST", url, headers=every, content=content, extensions={"trace": sending.traced(trace)}
            ) as response,
        ):
            pool.last_stream = response.extensions.get("network_stream")
            body, whole = await _beginning(response)
            if not whole:
                self._retire(pool)
        names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status, MappingProxyType(names), body)

    def _retire(self, pool: _Pool) -> None:
        """Over HTTP/2, give this connection no further request; it is closed with its last answer."""
        if self._http2:
            pool.retired = True
            if self._pool is pool:
                self._pool = None

    async def _current(self) -> _Pool:
        async with self._making:
            if self._closed:
                raise LostError("the provider was closed")
            if self._pool is not None and self._http2 and self._pool.is_dead():
                await _close(self._pool)
                self._pool = None
            if self._pool is None:
                self._pool = _Pool(await self._made())
            return self._pool

    async def _made(self) -> httpcore.AsyncConnectionPool:
        if self._ssl_context is None:
            self._ssl_context = await anyio.to_thread.run_sync(_system_context)
        return httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            proxy=self._proxy,
            max_connections=self._connections_max,
            keepalive_expiry=IDLE_MAX_S,
            http1=not self._http2,
            http2=self._http2,
            network_backend=self._backend,
        )


class _NeverLeftError(LostError):
    """The connection refused the request before a byte of it was written."""


class _Sending:
    """Follows httpcore's account of one request, to know whether it may have left."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.in_headers = False

    def traced(self, trace: Trace) -> Trace:
        """What httpcore is to call before and after each step."""

        async def both(name: str, info: Mapping[str, Any]) -> None:
            if name.endswith("send_request_headers.started"):
                self._attempt.left = self.in_headers = True
            elif name.endswith("send_request_headers.complete"):
                self.in_headers = False
            await trace(name, info)

        return both

    def never_left(self) -> None:
        """Note that nothing was written after all."""
        self._attempt.left = False


def _lost(error: BaseException, sending: _Sending) -> LostError:
    """A refusal by the protocol's own rules while the headers are made comes before they are written."""
    if sending.in_headers and isinstance(error, httpcore.ProtocolError):
        sending.never_left()
        return _NeverLeftError(type(error).__name__)
    if isinstance(error, httpcore.LocalProtocolError):
        return LostError(type(error).__name__)  # its words may quote a header
    return LostError(words_of(f"{type(error).__name__}: {error}"))


def words_of(text: str) -> str:
    """What somebody else said, on one line and bounded."""
    line = "".join(char if char.isprintable() else " " for char in text[: 2 * REASON_CHARS_MAX])
    return " ".join(line.split())[:REASON_CHARS_MAX]


async def _beginning(response: httpcore.Response) -> tuple[bytes, bool]:
    """The body as far as it is read, and whether that is all of it."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            return bytes(body[:ANSWER_BYTES_MAX]), False
    return bytes(body), True


async def _close(pool: _Pool) -> None:
    """Close the connections, also on behalf of somebody who is being cancelled."""
    with anyio.move_on_after(_CLOSING_S, shield=True):
        await pool.connections.aclose()


def _was_closed(stream: httpcore.AsyncNetworkStream) -> bool:
    """Whether the other side has hung up. Where the system cannot say, whether anything unread has come."""
    raw = stream.get_extra_info("socket")
    number = -1 if raw is None else raw.fileno()
    if number < 0:
        return True
    if not hasattr(select, "POLLRDHUP"):
        return bool(stream.get_extra_info("is_readable"))
    poll = select.poll()
    poll.register(number, select.POLLRDHUP)
    return bool(poll.poll(0))


def _what_is_lost(http2: bool) -> tuple[type[Exception], ...]:
    errors: tuple[type[Exception], ...] = (
        httpcore.NetworkError,
        httpcore.TimeoutException,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        anyio.BrokenResourceError,
        anyio.ClosedResourceError,
        OSError,
    )
    if not http2:
        return errors
    try:
        from h2.exceptions import ProtocolError  # httpcore lets it through where a body is read
    except ImportError:
        raise ConfigurationError("APNs needs HTTP/2: pip install 'chatkit-engine[push]'") from None
    return (*errors, ProtocolError)


def proxy_of(address: str | None) -> httpcore.Proxy | None:
    """A proxy for httpcore. Raises ConfigurationError for what is no address of one."""
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError("proxy must be an address such as http://proxy:3128") from None
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        raise ConfigurationError("proxy must begin with http:// or https:// and hold a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port is None else f"{host}:{port}"
    login = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return httpcore.Proxy(f"{parts.scheme}://{place}/", auth=login)


def _system_context() -> ssl.SSLContext:
    """Whom the system trusts; one for each provider, since httpcore sets its ALPN protocols."""
    paths = ssl.get_default_verify_paths()
    has_system_store = paths.cafile is not None or paths.capath is not None
    return ssl.create_default_context(cafile=None if has_system_store else certifi.where())
