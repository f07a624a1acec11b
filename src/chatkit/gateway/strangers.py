"""Connections of peers that nobody vouched for yet: how many there may be, and how much of the event loop they get.

Whatever number of strangers floods the server with whatever is small, a turn of the event loop handles one slice of
one of them: those who are logged in wait for that slice and no longer. And they hold only so many places: a new one
takes the place of the one that has waited for longest, so that nobody who is slow to log in keeps others out.
Used by `websocket_protocol`, one for each uvicorn server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final, Protocol

SLICE_BYTES = 1024
"""What is read of a stranger in one turn; of the smallest frames it holds 170, which take about a millisecond."""

PLACES_MAX = 4_096
"""Strangers at the same time, where the process may open enough descriptors."""

CONNECTION: Final = "chatkit.connection"
"""Under this name the app finds its `Reader` in the state of the scope, where the protocols of uvicorn are ours."""


class Reader(Protocol):
    """What the app says to whoever reads its connection."""

    def await_login(self) -> None:
        """Whoever is at the other end is a stranger until `logged_in`."""

    def logged_in(self) -> None:
        """Whoever is at the other end has proved who they are."""


class _AnyReader:
    """Of an ASGI server that cannot be spoken to."""

    def await_login(self) -> None:
        """Nothing can be done."""

    def logged_in(self) -> None:
        """Nothing was done."""


def reader_of(scope: MutableMapping[str, Any]) -> Reader:
    """Who reads the connection of an ASGI scope."""
    reader: Reader = scope.get("state", {}).get(CONNECTION) or _AnyReader()
    return reader


class Stranger(Protocol):
    """What is known of such a connection."""

    @property
    def transport(self) -> asyncio.Transport:
        """Where it reads from."""

    def take_turn(self, data: bytes) -> None:
        """Handle a slice."""


class Strangers:
    """All strangers of one event loop.

    Args:
        loop: Where the slices are handled.
        places: Most of them at the same time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, places: int) -> None:
        self._loop = loop
        self._places = places
        self._holders: dict[Stranger, None] = {}
        self._slices: deque[tuple[Stranger, bytes]] = deque()

    def __len__(self) -> int:
        """How many hold a place."""
        return len(self._holders)

    def enter(self, stranger: Stranger) -> None:
        """Take a place; when none is left, the connection that took its own first is cut off."""
        self._holders.pop(stranger, None)
        if len(self._holders) >= self._places:
            oldest = next(iter(self._holders))
            del self._holders[oldest]
            oldest.transport.abort()
        self._holders[stranger] = None

    def leave(self, stranger: Stranger) -> None:
        """Give the place back. A second call does nothing."""
        self._holders.pop(stranger, None)

    def read(self, stranger: Stranger, data: bytes) -> None:
        """Have a slice handled in its turn; until then nothing more is read from this connection."""
        stranger.transport.pause_reading()
        if not self._slices:
            self._loop.call_soon(self._turn)
        self._slices.append((stranger, data))

    def _turn(self) -> None:
        stranger, data = self._slices.popleft()
        if self._slices:
            self._loop.call_soon(self._turn)
        if not stranger.transport.is_closing():
            stranger.transport.resume_reading()
            stranger.take_turn(data)


def places_of(descriptors: int) -> int:
    """How many strangers there may be in a process that may open so many descriptors: a quarter of them at most."""
    return max(1, min(PLACES_MAX, descriptors // 4))


def descriptors_max() -> int:
    """How many files and sockets this process may open."""
    try:
        import resource
    except ImportError:  # Windows: what its C library opens
        return 512
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
