"""uvicorn's two protocols with the deadlines and bounds that they lack; `chatkit serve` runs on them.

A peer that connects and says nothing, that never ends its request, that sends tiny things without end, or that is
closed and does not read, must not hold a connection, memory or the event loop for long. Hosts that run uvicorn
themselves can use them too: `uvicorn.run(app, http=ChatHttpProtocol, ws=ChatWebSocketProtocol)`.

Source: docs/deploying.md
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from typing import Any
from weakref import proxy

import h11
import websockets.http11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol

from ..errors import BadRequestError, ForbiddenError, OverloadedError, RefusedError, TooLargeError
from ..server.login_request import LoginRequest
from ..server.server import ChatServer
from ..wire.codec import Codec
from ..wire.events import HELLO_BYTES_MAX
from . import fair_connection
from .fair_connection import UvicornConnection, strangers_of
from .http_head import Head, is_full
from .problems import SECURITY_HEADERS, problem
from .small_frames import CONTROL_FLOOD, FRAGMENT_FLOOD, SmallFrames
from .strangers import CONNECTION
from .upgrade import door_of, is_unfinished, upgrade_of
from .websocket_asgi import WEBSOCKET_PATH
from .websocket_session import SessionProtocol

REQUEST_TIMEOUT_S = 10.0
"""How long a connection may take to send the head of a request, from its opening or its last answer; and how long it
may send nothing of a body that is due, or read nothing of an answer."""

UNREAD_BODY_BYTES_MAX = 64 * 1024
"""The rest of a body whose request was answered without it; beyond that the connection is closed."""


def hide_queries(record: logging.LogRecord) -> bool:
    """A filter for the loggers of uvicorn: nothing behind `?` of a URL is logged, in case somebody put a token there.

    Use it as `logging.getLogger("uvicorn.access").addFilter(hide_queries)`, and for `uvicorn.error` alike.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(it.partition("?")[0] if isinstance(it, str) else it for it in record.args)
    return True


_ERRORS: dict[int, type[RefusedError]] = {413: TooLargeError, 503: OverloadedError}


def _raw_answer(response: Response) -> bytes:
    """An answer of our own, after which the connection is closed."""
    headers = [*response.raw_headers, *((n.encode(), v.encode()) for n, v in SECURITY_HEADERS.items())]
    lines = [b"HTTP/1.1 %d %s" % (response.status_code, HTTPStatus(response.status_code).phrase.encode())]
    lines += [name + b": " + value for name, value in [*headers, (b"connection", b"close")]]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


class ChatHttpProtocol(H11Protocol, UvicornConnection):
    """HTTP/1.1 with a deadline for each request's head, and bounds on what a request is made of."""

    _deadline: asyncio.TimerHandle | None = None
    _unread_body_bytes = 0
    _unread_answer_bytes = 0
    _in_turn = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        UvicornConnection.__init__(self, strangers_of(kwargs["server_state"]))
        self.conn: Head = Head(partial(is_full, kwargs["server_state"], self.config.limit_concurrency))
        self.limit_concurrency = None  # `is_full` looks at it, and its answer is a problem document
        self.app_state = {**self.app_state, CONNECTION: proxy(self)}
        self._door = door_of(self.server_state, self.config)
        straight = self._door.is_open and self.ws_protocol_class is ChatWebSocketProtocol
        self._opening: bytes | None = b"" if straight else None  # None: it is HTTP, and goes to h11

    def connection_made(self, transport: Any) -> None:
        """A connection opens: its first request is due."""
        super().connection_made(transport)
        self._read_in_slices()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._disarm()
        self._ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle a slice."""
        if self._opening is not None:
            data, self._opening = self._opening + data, None
            if is_unfinished(data):
                self._opening = data
                return
            if self._upgraded(data):
                return
        if self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            self._ignore_body(len(data))
        super().data_received(data)

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is answered."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        self._watch()

    def logged_in(self) -> None:
        """Whoever asks has proved who they are; the app itself waits for the body."""
        super().logged_in()
        self._watch()

    def take_turn(self, data: bytes) -> None:
        """Handle a slice; an empty one stands for what came with a request before."""
        self._in_turn = True
        try:
            if data:
                super().take_turn(data)
            elif not self._deaf:
                self.handle_events()
        finally:
            self._in_turn = False

    def handle_events(self) -> None:
        """Handle what h11 holds; a stranger's next request that came with the one before waits for its own turn."""
        if self._trusted or self._in_turn:
            super().handle_events()
            self._watch()
        else:
            self._strangers.read(self, b"")

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection becomes a WebSocket, which has deadlines and a place of its own."""
        self._disarm()
        self._strangers.leave(self)
        self.app_state.pop(CONNECTION)  # it is somebody else's now, whose class may not be ours
        super().handle_websocket_upgrade(event)
        protocol = self.transport.get_protocol()
        if isinstance(protocol, ChatWebSocketProtocol):
            protocol.upgraded(self.conn.trailing_data[0])

    def _upgraded(self, data: bytes) -> bool:
        """Have a session driven on this connection, if it begins with a request for one that is plain to see."""
        upgrade = upgrade_of(data)
        if upgrade is None or self.conn.is_full():
            return False
        admitted = self._door.admit(upgrade, self.client)
        if admitted is None:
            return False
        server, codec, request = admitted
        self._disarm()
        self._strangers.leave(self)
        self.connections.discard(self)
        if self.logger.isEnabledFor(logging.INFO):
            address = request.client_address or ""  # of the client that a trusted proxy speaks for
            self.logger.info('%s - "WebSocket %s" [accepted]', address, WEBSOCKET_PATH)
        subprotocol = codec.subprotocol if upgrade.subprotocols else None
        self.transport.write(upgrade.answer(subprotocol, self.server_state.default_headers))
        protocol = SessionProtocol(
            self.transport, self.server_state, server, codec, request, self.config.ws_max_size
        )
        if upgrade.rest:
            protocol.slice_read(upgrade.rest)
        return True

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or more of it than is taken."""
        if self.conn.our_state in (h11.SEND_BODY, h11.DONE):
            self._close_slowly()  # beside an answer there is no room for another
            return
        self._refuse(*(self.conn.refused or (400, msg)))

    def on_response_complete(self) -> None:
        """An answer has left: the next request is due."""
        self._unread_body_bytes = 0
        self._await_request()
        super().on_response_complete()

    def _ignore_body(self, nbytes: int) -> None:
        """The rest of a body that nobody wants is passed over, if it is short."""
        self._unread_body_bytes += nbytes
        if self._unread_body_bytes > UNREAD_BODY_BYTES_MAX:
            self._close_slowly()

    def _refuse(self, status: int, words: str) -> None:
        self._disarm()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the app need not answer any more
            self.cycle.message_event.set()
        self.transport.write(_raw_answer(problem(_ERRORS.get(status, BadRequestError)(words), status)))
        self._close_slowly()

    def shutdown(self) -> None:
        """The server ends: what is closed already is not waited for."""
        if self._deaf:
            self.transport.abort()
        else:
            super().shutdown()

    def _await_request(self) -> None:
        self._trusted = False
        self._strangers.enter(self)
        self._await_peer()

    def _watch(self) -> None:
        """Something has happened while a request is answered: find out whether its peer or the app is waited for."""
        if self._is_answering() and not self._deaf:
            if self.flow.write_paused or self._lacks_body():
                self._await_peer()
            else:
                self._disarm()
                self._strangers.leave(self)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _lacks_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY and not self._trusted

    def _await_peer(self) -> None:
        if not self._trusted:
            self._strangers.stay(self)
        self._disarm()
        self._unread_answer_bytes = self.transport.get_write_buffer_size()
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        """Let go of a peer that did nothing; not of one that reads slowly, or whose body the app does not read."""
        reads = 0 < self.transport.get_write_buffer_size() < self._unread_answer_bytes
        app_is_slow = self._is_answering() and (self.flow.read_paused or self.cycle.waiting_for_100_continue)
        if reads or (app_is_slow and not self.flow.write_paused):
            self._await_peer()
        else:
            self.transport.abort()


class _Handshake(ServerProtocol):
    """Refuses with problem documents."""

    def reject(self, status: Any, text: str) -> websockets.http11.Response:
        """The answer to a request that becomes no WebSocket."""
        if status == HTTPStatus.FORBIDDEN:
            answer = problem(
                ForbiddenError("this page may not connect: its origin is not on the list of the server")
            )
        else:
            answer = problem(BadRequestError(f"no WebSocket: {text.strip()}"), int(status))
        headers = Headers({**answer.headers, **SECURITY_HEADERS, "Connection": "close"})
        return websockets.http11.Response(int(status), HTTPStatus(status).phrase, headers, bytes(answer.body))


def _free(parser: ServerProtocol) -> None:
    """End its generator and forget its error, which hold it: it goes with the connection, not with the collector."""
    parser.parser.close()
    parser.parser_exc = None


class _GivenAway(asyncio.Transport):
    """Instead of the transport of a connection that somebody else has."""

    def is_closing(self) -> bool:
        """Whether it can be written to no more."""
        return True

    def close(self) -> None:
        """Nothing is closed: the connection goes on."""


_GIVEN_AWAY = _GivenAway()


class ChatWebSocketProtocol(WebSocketsSansIOProtocol, UvicornConnection):
    """WebSocket with budgets for what is small, that lets go of peers that do not read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        usual = self.conn
        self.conn = _Handshake(
            extensions=usual.available_extensions, max_size=self.config.ws_max_size, logger=self.logger
        )
        _free(usual)
        self._state = kwargs["server_state"]
        UvicornConnection.__init__(self, strangers_of(self._state))
        self._small = SmallFrames()
        self._claimed = False  # the app may have a session take the connection over
        self._reads = False
        self._early = b""  # came with the handshake
        self._late_pong = (
            b""  # waits until the peer reads; the newest answers all pings (RFC 6455 section 5.5.3)
        )
        self.app_state = {**self.app_state, CONNECTION: proxy(self)}
        self.close_timeout = fair_connection.LINGER_S

    def connection_made(self, transport: Any) -> None:
        """The upgrade was asked for: nothing more is read before the app has accepted it."""
        super().connection_made(transport)
        self._strangers.enter(self)

    def upgraded(self, early: bytes) -> None:
        """The transport is this protocol's now: nothing is read before the app has accepted it.

        Args:
            early: What came behind the handshake.
        """
        self._early = early
        self._read_in_slices()
        if not self.handshake_initiated:
            self._refuse_unread()
        elif not self.handshake_complete:
            self.transport.pause_reading()

    def _refuse_unread(self) -> None:
        """Answer what HTTP allows and `websockets` cannot read, such as a line above 8 KiB."""
        unread = problem(BadRequestError("no WebSocket: this request cannot be read"), 400)
        self.transport.write(b"".join(self.conn.data_to_send()) or _raw_answer(unread))
        self.handshake_complete = self.close_sent = True
        self._close_slowly()

    def _read_on(self) -> None:
        """The connection is read from here on; nobody takes it over any more."""
        if self.handshake_complete and not self._reads and not self.transport.is_closing():
            self._reads = True
            self.transport.resume_reading()
            early, self._early = self._early, b""
            if early:
                self.slice_read(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._ended()
        super().connection_lost(exc)
        _free(self.conn)

    def take_over(self, server: ChatServer, codec: Codec, request: LoginRequest) -> bool:
        """Have a session driven straight from the event loop from now on; the app may end, and sends nothing more.

        Returns:
            False if that cannot be, and nothing has changed: the handshake was not accepted, frames have been asked for
            or sent since, may be compressed, or are pinged for by uvicorn.
        """
        if self.conn.state is not State.OPEN or self._reads or self.transport.is_closing():
            return False
        if self.conn.extensions or self.ping_timer is not None:
            return False
        self._strangers.leave(self)
        self.connections.discard(self)
        session = SessionProtocol(
            self.transport, self._state, server, codec, request, self.config.ws_max_size
        )
        if self._early:
            session.slice_read(self._early)
        self.disconnected = True  # for whoever wraps the app and goes on
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1005})
        self.transport = _GIVEN_AWAY
        _free(self.conn)
        return True

    def await_login(self) -> None:
        """Take small messages only, and keep the place of a stranger, until `logged_in`."""
        self._claimed = True
        self.conn.max_message_size = HELLO_BYTES_MAX

    def logged_in(self) -> None:
        """Take messages of every size that the server takes."""
        super().logged_in()
        self.conn.max_message_size = self.config.ws_max_size

    async def send(self, message: Any) -> None:
        """As uvicorn's.

        What is accepted is read, and is no stranger's. Where the app claims it, it is read once the app goes on: what
        has come by then goes to the session that takes it over, however long others take between the two.
        """
        await super().send(message)
        if message["type"] != "websocket.accept":
            self._read_on()
        elif not self._claimed:
            self.logged_in()
            self._read_on()

    async def receive(self) -> Any:
        """As uvicorn's."""
        self._read_on()
        return await super().receive()

    def slice_read(self, data: bytes) -> None:
        """A slice has come; after the close only the peer's own close is looked for, and not for long."""
        if self.close_sent:
            self._look_for_close(len(data))
        super().slice_read(data)

    def handle_ping(self) -> None:
        """Answer a ping within the budget; a peer that does not read is owed one answer, not all of them."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)
        elif pong:
            self._late_pong = pong
        self._count_control()

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        pong, self._late_pong = self._late_pong, b""
        if pong and self.conn.state is State.OPEN:
            self.transport.write(pong)

    def handle_pong(self, event: Frame) -> None:
        """Take a pong within the budget."""
        super().handle_pong(event)
        self._count_control()

    def handle_text(self, event: Frame) -> None:
        """The first frame of a message."""
        self._small.first_fragment()
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """The first frame of a message."""
        self._small.first_fragment()
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """A further frame of a message, within the budget."""
        if not self._small.fragment(len(event.data)):
            self.frames = []
            self._cut(*FRAGMENT_FLOOD)
        elif not self.close_sent:
            super().handle_cont(event)

    def handle_parser_exception(self) -> None:
        """The peer broke the protocol: say so, and close once that was read."""
        if self.close_sent:
            return
        assert self.conn.close_sent is not None
        close = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.frames = []
        self.close_timer = self.loop.call_later(fair_connection.LINGER_S, self.transport.abort)
        self._close_slowly()

    def send_500_response(self) -> None:
        """Refuse the handshake, unless it was refused already: uvicorn does both when it ends at that moment."""
        if not self.conn.eof_sent:
            super().send_500_response()

    def on_task_complete(self, task: Any) -> None:
        """The app has ended: what is unread after a while is dropped with the connection."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._arm_linger()

    def _count_control(self) -> None:
        if not self._small.control_frame(self.loop.time()):
            self._cut(*CONTROL_FLOOD)

    def _cut(self, code: int, reason: str) -> None:
        if self.conn.state is State.OPEN:
            self.conn.send_close(code, reason)
            self.handle_parser_exception()
