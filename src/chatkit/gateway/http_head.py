"""The head of a request, as h11 reads it, held to bounds. Used by `websocket_protocol`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
from uvicorn.server import ServerState

HEAD_BYTES_MAX = 32 * 1024
"""The head of a request: its line and all its headers."""

HEADERS_MAX = 100
"""Headers of a request."""

CHUNKS_MAX = 1_024
"""Chunks in which the body of a request may come, and one more for each `CHUNK_BYTES_LEAST` of it: what is read at once
of a connection is one, and a file comes in many."""

CHUNK_BYTES_LEAST = 256


class Head(h11.Connection):
    """h11 with bounds on what is small: it has one on bytes that are no whole head yet.

    Attributes:
        is_full: Whether there are too many requests at the same time.
        refused: The status with which the request is refused, and why. The error itself would hold the connection.
    """

    refused: tuple[int, str] | None = None
    _chunks = 0
    _body_bytes = 0

    def __init__(self, is_full: Callable[[], bool]) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES_MAX)
        self.is_full = is_full

    def next_event(self) -> Any:
        """As h11's."""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._chunks = self._body_bytes = 0
                _check_head(event)
                if self.is_full():
                    raise h11.RemoteProtocolError("too many requests at the same time", 503)
            elif isinstance(event, h11.Data):
                self._count_chunk(len(event.data))
        except h11.RemoteProtocolError as error:
            self.refused = error.error_status_hint, str(error)
            error.__traceback__ = (
                None  # a frame of h11 holds the error, and through its callers the connection
            )
            raise
        return event

    def _count_chunk(self, size: int) -> None:
        self._chunks += 1
        self._body_bytes += size
        if self._chunks > CHUNKS_MAX + self._body_bytes // CHUNK_BYTES_LEAST:
            raise h11.RemoteProtocolError(f"the body comes in more than {CHUNKS_MAX} small chunks", 413)


def _check_head(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding exclude each other")
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
    if len(names) > HEADERS_MAX or size > HEAD_BYTES_MAX:
        raise h11.RemoteProtocolError(
            f"the head is above {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} headers", 431
        )


def is_full(state: ServerState, most: int | None) -> bool:
    """Whether a uvicorn server has as many requests as it may have at the same time."""
    return most is not None and max(len(state.connections), len(state.tasks)) >= most
