"""uvicorn's two protocols with the deadlines and bounds that they lack; `chatkit serve` runs on them.

A peer that connects and says nothing, that never ends its request, that pings without reading, or that is closed
and does not read, must not hold a connection or memory for long. Hosts that run uvicorn themselves can use them
too: `uvicorn.run(app, http=ChatHttpProtocol, ws=ChatWebSocketProtocol)`.
"""

from __future__ import annotations

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

REQUEST_TIMEOUT_S = 10.0
"""How long a connection may take to send the head of a request, from its opening or its last answer."""

LINGER_S = 5.0
"""How long a connection may take to read what is left once its app has ended."""

PONG_BYTES_MAX = 1024 * 1024
"""Unread bytes at which a peer that goes on pinging is cut off."""


class ChatHttpProtocol(H11Protocol):
    """HTTP/1.1 with a deadline for each request's head."""

    _deadline: Any = None

    def connection_made(self, transport: Any) -> None:
        """A connection opens: its first request is due."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._disarm()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection becomes a WebSocket, which has deadlines of its own."""
        self._disarm()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """An answer has left: the next request is due."""
        self._arm()
        super().on_response_complete()

    def _arm(self) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class ChatWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket that lets go of peers that do not read."""

    _linger: Any = None

    def handle_ping(self) -> None:
        """Answer a ping, unless the answers are not being read."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > PONG_BYTES_MAX:
            self.transport.abort()

    def on_task_complete(self, task: Any) -> None:
        """The app has ended: what is unread after a while is dropped with the connection."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._linger = self.loop.call_later(LINGER_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._linger is not None:
            self._linger.cancel()
        super().connection_lost(exc)
