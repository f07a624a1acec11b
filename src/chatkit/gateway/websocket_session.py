"""A session on its socket, driven straight from the event loop: no task, and one write per turn of the loop.

It takes a connection over from uvicorn's protocol once the app has accepted the handshake, and shares guards and ends
with the ASGI driver in `websocket_asgi`. Source: docs/design/0025-the-fast-path.md
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context, copy_context
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

from .._event_loop import for_callbacks
from ..core.connection import State
from ..server.login_request import LoginRequest
from ..server.server import ChatServer
from ..server.session import Session
from ..wire.codec import Codec
from ..wire.events import HELLO_BYTES_MAX
from .fair_connection import FairConnection, strangers_of
from .framing import Framing, head_of
from .session_end import CLOSE_TIMEOUT_S, close_of, failed

_WRITE_BYTES = 64 * 1024
"""Frames of a session are written together up to this size; after that the transport is asked whether it takes more."""


class WriteTurn:
    """The sessions that were woken in this turn of an event loop. In the next one they are written, in this order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = for_callbacks(Context())
        self._woken: list[SessionProtocol] = []

    def add(self, protocol: SessionProtocol) -> None:
        """Have this one written."""
        self._woken.append(protocol)
        if len(self._woken) == 1:
            self._loop.call_soon(self._write, context=self._context)

    def _write(self) -> None:
        woken, self._woken = self._woken[::-1], []
        try:
            while woken:
                woken.pop().write()
        finally:
            if woken:  # one has failed beyond all care: the others are written all the same
                self._woken[:0] = woken[::-1]
                self._loop.call_soon(self._write, context=self._context)


_turns: WeakKeyDictionary[ServerState, WriteTurn] = WeakKeyDictionary()


def _turn_of(state: ServerState) -> WriteTurn:
    found = _turns.get(state)
    if found is None:
        found = _turns[state] = WriteTurn(asyncio.get_running_loop())
    return found


class SessionProtocol(FairConnection, asyncio.BufferedProtocol):
    """One accepted connection, from now to its end.

    Args:
        transport: The connection, which has this protocol afterwards.
        state: Of its uvicorn server.
        server: Whose session it is.
        codec: The wire form that was agreed on.
        request: What came with the handshake.
        frame_bytes_max: Of a message of somebody who is logged in.
    """

    __slots__ = (
        "_binary",
        "_connections",
        "_context",
        "_frame_bytes_max",
        "_framing",
        "_full",
        "_late_pong",
        "_server",
        "_session",
        "_timeout",
        "_turn",
        "_unread",
        "_woken",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        state: ServerState,
        server: ChatServer,
        codec: Codec,
        request: LoginRequest,
        frame_bytes_max: int,
    ) -> None:
        super().__init__(strangers_of(state))
        self.transport = transport
        self._turn = _turn_of(state)
        self._context = for_callbacks(copy_context())  # the app's, for an authenticator that looks there
        self._connections = state.connections
        self._server = server
        self._binary = codec.binary
        self._frame_bytes_max = frame_bytes_max
        self._framing = Framing(HELLO_BYTES_MAX)
        self._woken = False
        self._full = False  # the transport takes no more
        self._late_pong = b""  # waits for that; the newest answers all pings before it (RFC 6455, 5.5.3)
        self._unread = False  # the session's answers do not drain
        self._timeout: asyncio.TimerHandle | None = None
        self._session: Session | None = server.connect(codec, self._wake, request)
        self._connections.add(self)  # type: ignore[arg-type]  # uvicorn asks it for `shutdown`
        self._strangers.enter(self)
        transport.pause_reading()  # uvloop asks for the kind of a protocol when reading begins
        transport.set_protocol(self)
        transport.resume_reading()

    # --- the transport calls ---

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next slice goes."""
        return self.next_slice()

    def buffer_updated(self, nbytes: int) -> None:
        """A slice has come."""
        if self._session is None:
            self._look_for_close(nbytes)
        self.slice_came(nbytes)

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is written to."""
        self._full = True

    def resume_writing(self) -> None:
        """The peer has read."""
        self._full = False
        if self._late_pong and not self._framing.ended:
            self.transport.write(self._late_pong)
        self._late_pong = b""
        self._wake()

    def eof_received(self) -> None:
        """The peer sends nothing more: the connection is closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._connections.discard(self)
        self._ended()
        self._framing.free()
        self._end()

    # --- uvicorn calls ---

    def shutdown(self) -> None:
        """The server ends."""
        if self._session is not None:
            self._close(1012, "")
        self.transport.close()

    # --- in ---

    def data_received(self, data: bytes) -> None:
        """Handle a slice: every message that it completes has reached the session before this returns."""
        self._framing.feed(data)
        self._context.run(self._read)

    def logged_in(self) -> None:
        """Take messages of every size that the server takes."""
        super().logged_in()
        self._framing.allow(self._frame_bytes_max)

    def _read(self) -> None:
        framing, session, now_s = self._framing, self._session, self._server.ports.clock.now_s()
        try:
            while not self._unread:
                message = framing.next_message(now_s)
                if message is None:
                    break
                if session is not None:
                    session.received(message, now_s, is_text=framing.is_text)
                    if session.congested and session.close_code is None:
                        self._unread = True
                        self.transport.pause_reading()
        except Exception:
            self._fail()
        self._answer_frames()

    def _answer_frames(self) -> None:
        """Do what the frames that were no messages ask for."""
        framing = self._framing
        if framing.output:
            output = framing.take_output()
            if self._full and not framing.ended:
                self._late_pong = output
            else:
                self.transport.write(output)
        if framing.answered:
            self._end()
            self.transport.close()
            self._arm_linger()
        elif framing.broken and not self._deaf:
            self._end()
            self._end_output()
            self._close_slowly()

    # --- out ---

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._turn.add(self)

    def write(self) -> None:
        """Write what the session has to say, as much as the transport takes, and close if it was closed."""
        self._woken = False
        session = self._session
        if session is None:
            return
        try:
            self._write_frames(session)
            if not self._trusted and session.state is State.OPEN:
                self.logged_in()
            if self._unread and not (session.congested and session.close_code is None):
                self._unread = False
                self.transport.resume_reading()
                self._context.run(self._read)
        except Exception:
            self._fail()
        if session.close_code is not None and self._session is session:
            self._close_in_time(session)

    def _write_frames(self, session: Session) -> None:
        chunks: list[bytes] = []
        size = 0
        while not self._full:
            frame = session.next_frame()
            if frame is None:
                break
            chunks += (head_of(len(frame), binary=self._binary), frame)
            size += len(frame)
            if size > _WRITE_BYTES:
                self.transport.write(b"".join(chunks))
                chunks, size = [], 0
        if chunks:
            self.transport.write(b"".join(chunks))

    # --- the end ---

    def _close_in_time(self, session: Session) -> None:
        """Send the close frame behind everything else. A peer that does not read cannot hold it up for ever."""
        if not self._full:
            self._close(*close_of(session))
        elif self._timeout is None:
            loop = asyncio.get_running_loop()
            self._timeout = loop.call_later(CLOSE_TIMEOUT_S, self._give_up)

    def _end_output(self) -> None:
        """Have the peer not wait for us to close, if all is written; with TLS it waits."""
        if self.transport.can_write_eof() and not self.transport.get_write_buffer_size():
            with suppress(OSError):  # the peer has gone
                self.transport.write_eof()

    def _close(self, code: int, reason: str) -> None:
        if not self._framing.ended:
            self._framing.close(code, reason)
            self.transport.write(self._framing.take_output())
        self._end()
        self._arm_linger()
        if self._unread:  # the peer's own close may be behind it
            self._unread = False
            self.transport.resume_reading()

    def _give_up(self) -> None:
        """The peer has not read what stands before its close frame."""
        self._end()
        self.transport.close()
        self._arm_linger()

    def _fail(self) -> None:
        if self._session is not None:
            self._close(*failed(self._session))

    def _end(self) -> None:
        """The session ends, once."""
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        if self._session is not None:
            session, self._session = self._session, None
            self._server.disconnected(session)
