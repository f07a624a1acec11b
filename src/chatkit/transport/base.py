"""The client's side of a connection: frames in, frames out, and one honest way to end."""

from __future__ import annotations

from typing import Protocol

from ..errors import ConnectionLostError
from .failure import FailureKind

ABNORMAL = 1006
"""The close code of a connection that ended without a close frame. Source: RFC 6455, 7.1.5."""


class TransportClosedError(ConnectionLostError):
    """The connection ended.

    Attributes:
        close_code: The WebSocket close code; `ABNORMAL` if there was no close frame.
        reason: The peer's words, possibly empty.
        retry_after_s: Seconds the server asked to wait (a refused upgrade with Retry-After), or None.
        by_peer: The other side ended it; false where this side found a fault in what came.
    """

    def __init__(
        self, close_code: int, reason: str = "", *, retry_after_s: float | None = None, by_peer: bool = True
    ) -> None:
        super().__init__(self._text(close_code, reason), retry_after_s=retry_after_s)
        self.close_code = close_code
        self.reason = reason
        self.by_peer = by_peer

    def _text(self, close_code: int, reason: str) -> str:
        return f"connection closed: {close_code} {reason}".rstrip()


class ConnectFailedError(TransportClosedError):
    """A connection could not be opened; the message says why, and what to look at.

    Attributes:
        kind: What it is about.
        status: The HTTP status that the upgrade was answered with, if it was.
    """

    def __init__(
        self,
        kind: FailureKind,
        reason: str,
        *,
        status: int | None = None,
        close_code: int = ABNORMAL,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(close_code, reason, retry_after_s=retry_after_s)
        self.kind = kind
        self.status = status

    def _text(self, close_code: int, reason: str) -> str:
        return reason


class Transport(Protocol):
    """One open connection. Frames are `str` for JSON and `bytes` for MessagePack."""

    async def receive(self) -> bytes | str:
        """The next frame. Raises TransportClosedError once the connection has ended."""

    async def send(self, frame: bytes | str) -> None:
        """Hand a frame to the connection; may wait for the socket. Raises TransportClosedError."""

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the connection. Never raises; a second call does nothing, and a reason above 123 bytes is cut."""


class Connector(Protocol):
    """Makes connections."""

    async def connect(self, subprotocol: str) -> Transport:
        """Open one connection that speaks `subprotocol`.

        Raises:
            TransportClosedError: It could not be opened; a retry is safe.
        """
