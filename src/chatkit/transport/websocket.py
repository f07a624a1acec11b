"""The client's transport over a real socket: the only module that imports `websockets`.

Here live the address rules and the one translation of the library's errors. Nothing here retries or interprets a close
code. Called through the `Connector` port.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
)
from websockets.typing import Subprotocol

from ..errors import ConfigurationError
from ..wire.codec import close_reason
from ..wire.events import FRAME_BYTES_MAX, CloseCode
from .base import Transport, TransportClosedError

ABNORMAL = 1006
PATH = "/v1/ws"
FRAME_SLACK_BYTES = 1024
_MISMATCH = "the server speaks another subprotocol"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def websocket_url(base_url: str) -> str:
    """The WebSocket address of a server.

    Args:
        base_url: `ws://`, `wss://`, `http://` or `https://`, with whatever prefix the server is mounted under.

    Raises:
        ConfigurationError: Another scheme, no host, or a query, a fragment or a login in the address.
    """
    parts = _split(base_url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigurationError("the server's address must begin with ws://, wss://, http:// or https://")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError("the server's address must hold no query, fragment or login")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + PATH, "", ""))


def _split(base_url: str) -> SplitResult:
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # reading it checks it
    except ValueError as error:
        raise ConfigurationError(f"the server's address cannot be read: {error}") from None
    return parts


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
        ssl_context: For `wss://`, where the system's trust store is not the right one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout_s: float = 10.0,
        close_timeout_s: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = websocket_url(base_url)
        self._connect_timeout_s = connect_timeout_s
        self._close_timeout_s = close_timeout_s
        self._options: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context}

    async def connect(self, subprotocol: str) -> Transport:
        """Open one connection that speaks `subprotocol`; a redirect is a refusal. Raises TransportClosedError."""
        try:
            connection = await _Connect(
                self._url,
                subprotocols=[Subprotocol(subprotocol)],
                compression=None,
                proxy=None,
                open_timeout=self._connect_timeout_s,
                close_timeout=self._close_timeout_s,
                ping_interval=None,  # the contract's own heartbeat counts, pings do not
                max_size=FRAME_BYTES_MAX + FRAME_SLACK_BYTES,
                **self._options,
            )
        except (OSError, InvalidHandshake, InvalidURI, EOFError, ValueError) as error:
            # TimeoutError is an OSError; ValueError: a name that is none in the DNS
            raise _refused(error) from error
        transport = WebSocketTransport(connection)
        if connection.subprotocol != subprotocol:
            raise await self._mismatch(transport)
        return transport

    async def _mismatch(self, transport: WebSocketTransport) -> TransportClosedError:
        """What a server says that took no subprotocol: its own close, or that it speaks none of ours: that is final."""
        try:
            with anyio.fail_after(self._close_timeout_s):
                await transport.receive()
        except TransportClosedError as closed:
            return closed
        except TimeoutError:
            pass
        await transport.aclose(1002)
        return TransportClosedError(CloseCode.VERSION_NOT_SUPPORTED, _MISMATCH)


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
    return TransportClosedError(close.code, close.reason)


def _refused(error: Exception) -> TransportClosedError:
    if isinstance(error, NegotiationError):
        return TransportClosedError(CloseCode.VERSION_NOT_SUPPORTED, _MISMATCH)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        retry_after = error.response.headers.get("Retry-After", "")
        retry_after_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
        return TransportClosedError(
            ABNORMAL, f"the upgrade was answered with {status}", retry_after_s=retry_after_s
        )
    return TransportClosedError(ABNORMAL, f"cannot connect: {error or type(error).__name__}")
