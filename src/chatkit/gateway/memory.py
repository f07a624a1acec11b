"""The memory network: a client in the same process, without sockets or tasks. For tests, bots beside a server, demos.

Frames cross as they would on a WebSocket, encoded and bounded; only the socket is missing.
"""

from __future__ import annotations

import anyio.lowlevel

from .._auto_reset_event import AutoResetEvent
from ..server.server import ChatServer
from ..transport.base import ABNORMAL, TransportClosedError
from ..wire.codec import CODECS
from ..wire.events import CloseCode


class MemoryConnector:
    """Connects clients straight to a server: `ChatClient(..., connector=MemoryConnector(server))`.

    Args:
        server: An entered server of the same event loop.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    async def connect(self, subprotocol: str) -> MemoryTransport:
        """A new connection.

        Raises:
            TransportClosedError: The server is not running, or does not speak the subprotocol.
        """
        if not self._server.running:
            raise TransportClosedError(ABNORMAL, "the server is not running")
        if subprotocol not in CODECS:
            raise TransportClosedError(CloseCode.VERSION_NOT_SUPPORTED, "no known subprotocol offered")
        return MemoryTransport(self._server, subprotocol)


class MemoryTransport:
    """The client's end of one connection; the server's end is a session driven right here."""

    def __init__(self, server: ChatServer, subprotocol: str) -> None:
        self._server = server
        self._codec = CODECS[subprotocol]
        self._readable = AutoResetEvent()
        self._writable = AutoResetEvent()
        self._ended: tuple[int, str] | None = None
        self._session = server.connect(self._codec, self._wake)

    async def receive(self) -> bytes | str:
        """The next frame. Raises TransportClosedError once the connection has ended."""
        while True:
            self._raise_if_ended()
            frame = self._session.next_frame()
            if frame is not None:
                self._writable.set()
                return frame if self._codec.binary else frame.decode()
            if self._session.close_code is not None:
                self._end(self._session.close_code, self._session.close_reason)
            else:
                await self._readable.wait()

    async def send(self, frame: bytes | str) -> None:
        """Hand a frame to the server; waits while its answers are not being read."""
        self._raise_if_ended()
        while self._session.congested and self._session.close_code is None:
            await self._writable.wait()
            self._raise_if_ended()
        self._session.received(frame, self._server.ports.clock.now_s())
        await anyio.lowlevel.checkpoint()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the connection. A second call does nothing."""
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = (code, reason)
            self._server.disconnected(self._session)
            self._readable.set()
            self._writable.set()

    def _raise_if_ended(self) -> None:
        if self._ended is not None:
            raise TransportClosedError(*self._ended)

    def _wake(self) -> None:
        self._readable.set()
