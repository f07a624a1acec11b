"""Connections of peers that nobody vouched for yet: how many there may be, and how much of the event loop they get.

A stranger holds a place for as long as something of theirs is waited for: a request, its body, or that they read what
they asked for. Whatever number of strangers floods the server with whatever is small, a turn of the event loop handles
one slice of one of them: those who are logged in wait for that slice and no longer. And there are only so many places:
a new stranger takes that of the one that has waited for longest, so that nobody who is slow to log in keeps others out.
Used by `websocket_protocol`, one for each uvicorn server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final, Protocol

from ..server.login_request import LoginRequest
from ..server.server import ChatServer
from ..wire.codec import Codec

SLICE_BYTES = 512
"""What is read of a stranger in one turn; of the smallest frames it holds 85, which take half a millisecond."""

REST_FROM_S = 0.0005
REST_MAX_S = 0.05
"""When a turn of the event loop took longer than the first, strangers rest for as long, at most for the second."""

PLACES_MAX = 4_096
"""Strangers at the same time, where the process may open enough descriptors."""

CONNECTION: Final = "chatkit.connection"
"""Under this name the app finds its `Reader` in the state of the scope, where the protocols of uvicorn are ours."""


class Reader(Protocol):
    """What the app says to whoever reads its connection."""

    def take_over(self, server: ChatServer, codec: Codec, request: LoginRequest) -> bool:
        """Drive a session on this connection, whose handshake was accepted. Returns whether it does so from now on."""

    def await_login(self) -> None:
        """Whoever is at the other end is a stranger until `logged_in`."""

    def logged_in(self) -> None:
        """Whoever is at the other end has proved who they are."""


class _AnyReader:
    """Of an ASGI server that cannot be spoken to."""

    def take_over(self, server: ChatServer, codec: Codec, request: LoginRequest) -> bool:
        """The app does it."""
        return False

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
        self._asked_s = 0.0

    def __len__(self) -> int:
        """How many hold a place."""
        return len(self._holders)

    def enter(self, stranger: Stranger) -> None:
        """Take a new place; when none is left, the connection that took its own first is cut off."""
        self._holders.pop(stranger, None)
        if len(self._holders) >= self._places:
            oldest = next(iter(self._holders))
            del self._holders[oldest]
            oldest.transport.abort()
        self._holders[stranger] = None

    def stay(self, stranger: Stranger) -> None:
        """Keep the place, or take one if there is none."""
        if stranger not in self._holders:
            self.enter(stranger)

    def leave(self, stranger: Stranger) -> None:
        """Give the place back. A second call does nothing."""
        self._holders.pop(stranger, None)

    def read(self, stranger: Stranger, data: bytes) -> None:
        """Have a slice handled in its turn; until then nothing more is read from this connection."""
        stranger.transport.pause_reading()
        self._slices.append((stranger, data))
        if len(self._slices) == 1:
            self._ask()

    def _ask(self) -> None:
        self._asked_s = self._loop.time()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Handle the next slice, unless the loop is busy: with those who are logged in, or with what the last slice
        led to. Then strangers have half of the time and no more.
        """
        busy_s = self._loop.time() - self._asked_s
        if busy_s < REST_FROM_S:
            self._handle_next()
        else:
            self._loop.call_later(min(busy_s, REST_MAX_S), self._handle_next)

    def _handle_next(self) -> None:
        began_s = self._loop.time()
        stranger, data = self._slices[0]
        try:
            if not stranger.transport.is_closing():
                stranger.transport.resume_reading()
                stranger.take_turn(data)
        finally:
            self._slices.popleft()
            if self._slices:
                self._ask()
                self._asked_s = began_s


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
