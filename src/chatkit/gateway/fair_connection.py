"""A connection that is read in small slices, those of strangers by turns, and closed without a reset."""

from __future__ import annotations

import asyncio
import threading
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

from ..wire.events import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from .strangers import SLICE_BYTES, Strangers, descriptors_max, places_of

LINGER_S = 5.0
"""How long a connection that is closed may take to read what is left for it."""

LINGER_BYTES_MAX = 4 * FRAME_BYTES_MAX
"""What is read and thrown away of a peer that is closed: a reset would take away the reason before it is read."""

TRUSTED_SLICE_BYTES = 16 * 1024
"""What is read at once of somebody who is logged in. In one turn of the event loop asyncio reads once, uvloop up to 32
times while more has come."""


class _SharedBuffer(threading.local):
    """Where all connections of a thread read into: what came is copied before the next one reads."""

    def __init__(self) -> None:
        self.whole = memoryview(bytearray(TRUSTED_SLICE_BYTES))
        self.small = self.whole[:SLICE_BYTES]


_buffer = _SharedBuffer()
_strangers: WeakKeyDictionary[ServerState, Strangers] = WeakKeyDictionary()


def strangers_of(server_state: ServerState) -> Strangers:
    """The strangers of a uvicorn server that runs in this thread."""
    found = _strangers.get(server_state)
    if found is None:
        found = _strangers[server_state] = Strangers(asyncio.get_running_loop(), places_of(descriptors_max()))
    return found


class FairConnection:
    """What the protocols of HTTP, of WebSocket, and of a session on its socket have in common.

    Args:
        strangers: The others that nobody vouched for yet.
    """

    __slots__ = ("_deaf", "_ignored_bytes", "_linger", "_strangers", "_trusted", "transport")

    transport: asyncio.Transport

    def __init__(self, strangers: Strangers) -> None:
        self._strangers = strangers
        self._trusted = False
        self._deaf = False
        self._ignored_bytes = 0
        self._linger: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Handle a slice."""
        raise NotImplementedError

    def next_slice(self) -> memoryview:
        """Where the next slice goes; as long as may be read at once."""
        return _buffer.whole if self._trusted or self._deaf else _buffer.small

    def slice_came(self, nbytes: int) -> None:
        """The next slice has come."""
        self.slice_read(bytes(_buffer.whole[:nbytes]))

    def await_login(self) -> None:
        """Whoever is at the other end is a stranger until `logged_in`."""

    def logged_in(self) -> None:
        """Whoever is at the other end has proved who they are."""
        self._trusted = True
        self._strangers.leave(self)

    def slice_read(self, data: bytes) -> None:
        """Have a slice handled: at once, or in the turn of a stranger."""
        if self._trusted and not self._deaf:
            self.data_received(data)
        else:
            self._strangers.read(self, data)

    def take_turn(self, data: bytes) -> None:
        """Handle a slice, or throw it away after the end."""
        if self._deaf:
            self._ignore(len(data))
        else:
            self.data_received(data)

    def _ignore(self, nbytes: int) -> None:
        self._ignored_bytes += nbytes
        if self._ignored_bytes > LINGER_BYTES_MAX:
            self.transport.abort()

    def _look_for_close(self, nbytes: int) -> None:
        """A slice has come after our close frame: only the peer's own one is looked for, and not for long."""
        if not self._deaf:
            self._ignore(nbytes)
            self._deaf = self._ignored_bytes > HELLO_BYTES_MAX

    def _close_slowly(self) -> None:
        """Look at nothing more that comes; close once the peer has, or after a while."""
        self._deaf = True
        self.transport.resume_reading()
        self._arm_linger()

    def _arm_linger(self) -> None:
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    def _ended(self) -> None:
        self._strangers.leave(self)
        if self._linger is not None:
            self._linger.cancel()


class UvicornConnection(FairConnection):
    """One with a protocol of uvicorn, between which and its transport a `_SlicedReader` stands."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is written to."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """The peer has read."""
        raise NotImplementedError

    def _read_in_slices(self) -> None:
        self.transport.pause_reading()  # uvloop asks for the kind of a protocol when reading begins
        self.transport.set_protocol(_SlicedReader(self))
        self.transport.resume_reading()


class _SlicedReader(asyncio.BufferedProtocol):
    """Decides how much is read at once.

    It is an object of its own because uvloop takes nothing that is an `asyncio.Protocol` for a buffered one.
    """

    def __init__(self, connection: UvicornConnection) -> None:
        self._connection = connection
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next slice goes."""
        return self._connection.next_slice()

    def buffer_updated(self, nbytes: int) -> None:
        """A slice has come."""
        self._connection.slice_came(nbytes)

    def eof_received(self) -> None:
        """The peer sends nothing more: the connection is closed."""
