"""One Starlette app: WebSocket and HTTP on one port, mountable under any prefix (extra `server`).

Run alone, the app's own lifespan enters the server. Mounted, a host's lifespan must do it (`async with server`),
because a mounted app's lifespan never runs; requests before that get a clear refusal.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import MethodType
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from .._arguments import check_kind
from .._auto_reset_event import AutoResetEvent
from ..core.connection import State
from ..errors import ForbiddenError, NotFoundError
from ..server.committer import NOT_RUNNING
from ..server.login_request import LoginRequest
from ..server.server import ChatServer
from ..wire.codec import CODECS, JSON, Codec, close_reason
from ..wire.events import CloseCode
from .call import CREDENTIAL_IN_URL, address_of, has_credential, login_request
from .http_api import HttpApi
from .origins import Origins
from .problems import NO_SUCH_PATH, SECURITY_HEADERS, problem
from .session_end import CLOSE_TIMEOUT_S, close_of, failed
from .strangers import Reader, reader_of

__all__ = ["asgi_app"]

WEBSOCKET_PATH = "/v1/ws"

logger = logging.getLogger(__name__)


def asgi_app(
    server: ChatServer, *, extra_routes: Sequence[BaseRoute] = (), origins: Sequence[str] = ()
) -> Starlette:
    """The ASGI app of a server.

    Args:
        server: Entered by the app's own lifespan when the app runs alone; by the host when it is mounted.
        extra_routes: Routes of the host on the same port, tried after chatkit's own under `/v1`.
        origins: Where pages may come from that use this server, such as `https://chat.example.org`, the server's own
            origin among them; `*` for anywhere. They may send requests and read the answers (CORS), and no other page
            may open a WebSocket. Empty: any page may open a WebSocket and none of another origin may send requests.
            With `RequestLogin` they are needed.

    Returns:
        A Starlette app with `/v1/ws`, the HTTP requests of the contract, `/healthz` and `/readyz`.

    Raises:
        ConfigurationError: `server` is none; one of `origins` is no origin; or they are needed and missing.
    """

    check_kind("server", server, ChatServer)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if server.running:
            yield
            return
        async with server:
            yield

    allowed = Origins(origins, cookies=server.login.by_request)
    http = HttpApi(server, allowed)
    endpoint = WebSocketEndpoint(server, allowed)
    app = ChatApp(
        endpoint,
        routes=[WebSocketRoute(WEBSOCKET_PATH, endpoint), *http.routes, *extra_routes],
        lifespan=lifespan,
        exception_handlers=http.exception_handlers,
        middleware=_cors(origins, http.methods, credentials=server.login.by_request) if origins else (),
    )
    app.router.redirect_slashes = False  # a redirect would be built from the caller's Host
    return app


def _cors(origins: Sequence[str], methods: Sequence[str], *, credentials: bool) -> list[Middleware]:
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=[origin.lower() for origin in origins],
            allow_methods=methods,
            allow_headers=["Authorization", "Content-Type", "Range", "Upload-Offset", "X-Device-Id"],
            expose_headers=["Content-Range", "Retry-After"],
            allow_credentials=credentials,
        )
    ]


_CALL: Final = Starlette.__call__
"""As it was when this was loaded: what follows requests may put something around it."""


class ChatApp(Starlette):
    """Puts the security headers on every answer, and takes a path as it was sent: `%2F` separates nothing."""

    def __init__(self, endpoint: WebSocketEndpoint, **settings: Any) -> None:
        super().__init__(**settings)
        self._endpoint = endpoint
        self._own = [*self.user_middleware], self.router.routes[0]

    @property
    def endpoint(self) -> WebSocketEndpoint | None:
        """Whoever answers at `WEBSOCKET_PATH`; None once the host has put something around or before it."""
        untouched = (
            (self.user_middleware, self.router.routes[0]) == self._own
            and Starlette.__call__ is _CALL
            and "build_middleware_stack" not in vars(self)
            and type(self.middleware_stack) in (ServerErrorMiddleware, type(None))
            and type(self.router.middleware_stack) is MethodType
        )
        return self._endpoint if untouched else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        if scope["type"] == "http" and b"%2f" in scope.get("raw_path", b"").lower():
            await problem(NotFoundError(NO_SUCH_PATH))(scope, receive, send_safely)
        else:
            await super().__call__(scope, receive, send_safely)


class WebSocketEndpoint:
    """Accepts WebSockets. Their sessions are driven by whoever reads the connection, if that is ours, else here."""

    def __init__(self, server: ChatServer, origins: Origins) -> None:
        self._server = server
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        offered = scope.get("subprotocols") or []
        codec = _codec_of(offered)
        subprotocol = codec.subprotocol if codec is not None else next(iter(offered), None)
        handshake = HTTPConnection(scope)
        try:
            self._origins.check_handshake(handshake.headers.get("origin"))
        except ForbiddenError as error:
            logger.info("a handshake is refused: %s", error)
            await send({"type": "websocket.close"})  # before accept: 403
            return
        reader = reader_of(scope)
        reader.await_login()
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        if codec is None and offered:
            await _close(send, CloseCode.VERSION_NOT_SUPPORTED, "no known subprotocol offered")
        elif has_credential(handshake):
            await self._refuse_url(receive, send)
        elif not self._server.running:
            self._server.warn_not_running()
            await _close(send, 1011, NOT_RUNNING)
        else:
            request = login_request(handshake) if self._server.login.by_request else address_of(handshake)
            codec = codec or JSON
            if not reader.take_over(self._server, codec, request):
                await _Pump(self._server, codec, receive, send, reader, request).run()

    def admit(
        self, offered: Sequence[str], headers: Mapping[bytes, bytes], client: tuple[str, int] | None
    ) -> tuple[ChatServer, Codec, LoginRequest] | None:
        """What `Reader.take_over` needs for a handshake that is accepted as a matter of course.

        Args:
            offered: Subprotocols.
            headers: By name in lower case; there is one of each, in ASCII.
            client: Where it comes from. The URL has no query.

        Returns:
            None for every other one: `__call__` says what becomes of it.
        """
        codec = _codec_of(offered) if offered else JSON
        if codec is None or not self._server.running:
            return None
        origin = headers.get(b"origin")
        try:
            self._origins.check_handshake(None if origin is None else origin.decode())
        except ForbiddenError:
            return None
        if self._server.login.by_request:
            scope = {"type": "websocket", "headers": [*headers.items()], "client": client}
            return self._server, codec, login_request(HTTPConnection(scope))
        return self._server, codec, LoginRequest(client_address=client[0] if client else None)

    async def _refuse_url(self, receive: Receive, send: Send) -> None:
        """Answer the first frame, whatever it is: a client that writes first then reads why."""
        with anyio.move_on_after(self._server.config.hello_timeout_s):
            if (await receive())["type"] == "websocket.disconnect":
                return
        await _close(send, CloseCode.PROTOCOL_ERROR, CREDENTIAL_IN_URL)


def _codec_of(offered: Sequence[str]) -> Codec | None:
    """The first one that is known."""
    return next((CODECS[name] for name in offered if name in CODECS), None)


class _Pump:
    """One accepted connection: one task reads, one writes.

    Reading and writing have a scope of their own each, and end in it: what is cancelled in a task group's scope leaves
    a reference cycle behind with everything that the connection held (findings/anyio_cancelled_child.sh).
    """

    def __init__(
        self,
        server: ChatServer,
        codec: Codec,
        receive: Receive,
        send: Send,
        reader: Reader,
        request: LoginRequest,
    ) -> None:
        self._server = server
        self._reader = reader
        self._codec = codec
        self._receive = receive
        self._send = send
        self._woken = AutoResetEvent()
        self._drained = AutoResetEvent()
        self._writing: anyio.CancelScope | None = None
        self._session = server.connect(codec, self._wake, request)

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._writing = anyio.CancelScope()
                self._wake()  # the session may have been refused before there was a scope to bound
                with anyio.CancelScope() as reading:
                    tasks.start_soon(self._write, self._writing, reading)
                    await self._read()
                self._writing.cancel()
        except Exception:
            await self._fail(*failed(self._session))
        finally:
            self._server.disconnected(self._session)

    async def _fail(self, code: int, reason: str) -> None:
        """Close with 1011 ourselves: what hosts' servers send when an app fails goes from 1011 to nothing at all."""
        with anyio.move_on_after(CLOSE_TIMEOUT_S), suppress(OSError, RuntimeError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def _wake(self) -> None:
        self._woken.set()
        if self._writing is not None and self._session.close_code is not None:
            # a peer that does not read must not hold the connection open
            self._writing.deadline = min(self._writing.deadline, anyio.current_time() + CLOSE_TIMEOUT_S)

    async def _read(self) -> None:
        """Until the peer is gone. What arrives after the session was closed is not looked at."""
        session, now_s = self._session, self._server.ports.clock.now_s
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            if session.state is State.CLOSED:
                continue
            text = message.get("text")
            session.received(message["bytes"] if text is None else text, now_s())
            while session.congested and session.close_code is None:
                await self._drained.wait()

    async def _write(self, writing: anyio.CancelScope, reading: anyio.CancelScope) -> None:
        with writing:
            await self._write_frames()
        reading.cancel()

    async def _write_frames(self) -> None:
        """Until the session is closed and everything buffered has left, or the peer is gone."""
        session, binary, stranger = self._session, self._codec.binary, True
        try:
            while True:
                frame = session.next_frame()
                if stranger and session.state is State.OPEN:
                    stranger = False
                    self._reader.logged_in()
                if frame is not None:
                    if binary:
                        await self._send({"type": "websocket.send", "bytes": frame})
                    else:
                        await self._send({"type": "websocket.send", "text": frame.decode()})
                    self._drained.set()
                elif session.close_code is not None:
                    break
                else:
                    await self._woken.wait()
            code, reason = close_of(session)
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):  # gone, or closed by the ASGI server after a broken frame
            logger.debug("session %s: the peer is gone", session.session_id)


async def _close(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.close", "code": code, "reason": close_reason(reason)})
