"""The client's transport over a real socket: the only module that imports `websockets`.

Here lives the one translation of the library's errors. Nothing here retries or interprets a close code. Called through
the `Connector` port.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
from aiohappyeyeballs import start_connection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    ProxyError,
)
from websockets.http11 import Response
from websockets.typing import Subprotocol

from ..core.backoff import retry_after_in
from ..errors import ConfigurationError
from ..wire.codec import close_reason
from ..wire.events import FRAME_BYTES_MAX, CloseCode
from ..wire.http import Problem
from .base import ABNORMAL, ConnectFailedError, Transport, TransportClosedError
from .failure import explain, said
from .network import HAPPY_EYEBALLS_DELAY_S, Network, server_url

PATH = "/v1/ws"

OVERSIZE_BYTES = 1024
"""A server's frame that is above the contract's bound by no more than this is taken all the same."""

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def websocket_url(base_url: str) -> str:
    """The WebSocket address of a server.

    Args:
        base_url: `ws://`, `wss://`, `http://` or `https://`, with whatever prefix the server is mounted under.

    Raises:
        ConfigurationError: Another scheme, no host, or a query, a fragment or a login in the address.
    """
    return server_url(base_url, _SCHEMES, PATH)


class _Connect(connect):
    """websockets' `connect`, which otherwise follows redirects: to wherever they point, with the login."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class WebSocketConnector:
    """`Connector` over websockets.

    Args:
        base_url: The server, see `websocket_url`.
        connect_timeout_s: For the TCP, TLS and WebSocket handshakes together.
        close_timeout_s: For the closing handshake.
        network: Trust, proxy and headers; the system's by default.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout_s: float = 10.0,
        close_timeout_s: float = 5.0,
        network: Network | None = None,
    ) -> None:
        self._url = websocket_url(base_url)
        self._connect_timeout_s = connect_timeout_s
        self._close_timeout_s = close_timeout_s
        self._network = network or Network()
        self._proxy = self._network.proxy_for(self._url)
        parts = urlsplit(self._url)
        self._secure = parts.scheme == "wss"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)

    def check_loop(self) -> None:
        """Raises ConfigurationError outside asyncio, which the WebSocket library is made for."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "WebSockets need asyncio, and this event loop is trio: run the client under asyncio"
                " (anyio.run(main, backend='asyncio')). On trio ChatApi works, and ChatClient with a connector of"
                " your own"
            ) from None

    async def connect(self, subprotocol: str) -> Transport:
        """Open one connection that speaks `subprotocol`; a redirect is a refusal.

        Of several addresses of a name the first that answers is taken: the next one is tried as soon as the one before
        failed or has not answered for 0.25 s.

        Raises:
            ConnectFailedError: It could not be opened; says why.
        """
        self.check_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._open(subprotocol)
        except (OSError, InvalidHandshake, InvalidURI, EOFError, ValueError) as error:
            # TimeoutError is an OSError; ValueError: a name that is none in the DNS
            raise self._failed(error) from error
        transport = WebSocketTransport(connection)
        if connection.subprotocol != subprotocol:
            raise await self._mismatch(transport, subprotocol)
        return transport

    async def _mismatch(self, transport: WebSocketTransport, subprotocol: str) -> ConnectFailedError:
        """What a server says that took no subprotocol: its own close, or that it speaks none of ours: that is final."""
        words = f"{self._target} speaks another subprotocol than {subprotocol}"
        try:
            with anyio.fail_after(self._close_timeout_s):
                await transport.receive()
        except TransportClosedError as closed:
            said_words = f"{words}: {closed.reason}" if closed.reason else words
            return ConnectFailedError("subprotocol", said_words, close_code=closed.close_code)
        except TimeoutError:
            pass
        await transport.aclose(1002)
        return ConnectFailedError("subprotocol", words, close_code=CloseCode.VERSION_NOT_SUPPORTED)

    @property
    def _target(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    async def _open(self, subprotocol: str) -> ClientConnection:
        options: dict[str, Any] = {"ssl": await self._network.ssl_context()} if self._secure else {}
        if self._proxy is None:
            options["sock"] = await _race(self._host, self._port)
        else:
            options |= await self._proxy_options(self._proxy)
        return await _Connect(
            self._url,
            subprotocols=[Subprotocol(subprotocol)],
            additional_headers=self._network.headers,
            compression=None,
            proxy=self._proxy,
            open_timeout=None,
            close_timeout=self._close_timeout_s,
            ping_interval=None,  # the contract's own heartbeat counts, pings do not
            max_size=FRAME_BYTES_MAX + OVERSIZE_BYTES,
            **options,
        )

    async def _proxy_options(self, proxy: str) -> dict[str, Any]:
        """What the library needs to reach a proxy; only asyncio's own loop races the addresses of its name."""
        options: dict[str, Any] = {}
        if proxy.startswith("https"):
            options["proxy_ssl"] = await self._network.ssl_context()
        if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
            options["happy_eyeballs_delay"] = HAPPY_EYEBALLS_DELAY_S
        return options

    def _failed(self, error: Exception) -> ConnectFailedError:
        match error:
            case InvalidProxyStatus():
                words = f"the proxy on the way to {self._target} answered {_answer(error.response)}"
                return ConnectFailedError("proxy", words)
            case ProxyError():
                return ConnectFailedError(
                    "proxy", f"the proxy on the way to {self._target} failed: {said(error)}"
                )
            case InvalidStatus():
                return self._refused(error.response)
            case NegotiationError():
                words = f"{self._target} answers what was not offered: {said(error)}"
                return ConnectFailedError("subprotocol", words, close_code=CloseCode.VERSION_NOT_SUPPORTED)
            case InvalidMessage() | InvalidUpgrade():
                hint = "" if self._secure else "; is it https:// or wss://?"
                words = f"{self._target} gives no WebSocket answer ({said(error)}){hint}"
                return ConnectFailedError("not-http", words)
        via = "" if self._proxy is None else " (through the proxy)"
        kind, words = explain(error, self._target + via, secure=self._secure)
        return ConnectFailedError(kind, words)

    def _refused(self, response: Response) -> ConnectFailedError:
        words = f"the upgrade at {urlsplit(self._url).path} was answered with {_answer(response)}"
        if response.status_code in (403, 404):
            origin = ", or is its Origin not let in" if response.status_code == 403 else ""
            words += f"; is the prefix of the address not right{origin}?"
        return ConnectFailedError(
            "status",
            words,
            status=response.status_code,
            retry_after_s=retry_after_in(response.headers.get("Retry-After", "")),
        )


async def _race(host: str, port: int) -> socket.socket:
    """A socket to whichever address of `host` answers first, RFC 8305."""
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S)


class WebSocketTransport:
    """`Transport` over one websockets connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes | str:
        """The next frame. Raises TransportClosedError once the connection has ended."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed(error) from error

    async def send(self, frame: bytes | str) -> None:
        """Hand a frame to the connection. Raises TransportClosedError."""
        try:
            await self._connection.send(frame)
        except ConnectionClosed as error:
            raise _closed(error) from error

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the connection; a second call does nothing. Cancelled, it drops the socket without more ado."""
        try:
            await self._connection.close(code, close_reason(reason))
        finally:
            self._connection.transport.abort()


def _closed(error: ConnectionClosed) -> TransportClosedError:
    """The peer's close frame if there was one; else 1006, or our own code if we found the fault."""
    close = error.rcvd or error.sent
    if close is None:
        return TransportClosedError(ABNORMAL)
    by_peer = error.rcvd is not None and error.rcvd_then_sent is not False
    return TransportClosedError(close.code, close.reason, by_peer=by_peer)


def _answer(response: Response) -> str:
    """A status and the server's own words, bounded: its problem document's detail, or how its body begins."""
    body = bytes(response.body or b"")
    try:
        words = msgspec.json.decode(body, type=Problem).detail
    except (msgspec.MsgspecError, ValueError):
        words = body[:1000].decode("utf-8", "replace")
    return f"{response.status_code} ({said(words)})" if words else f"{response.status_code}"
