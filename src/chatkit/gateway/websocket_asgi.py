"""One Starlette app: WebSocket and HTTP on one port, mountable under any prefix (extra `server`).

Run alone, the app's own lifespan enters the server. Mounted, a host's lifespan must do it (`async with server`),
because a mounted app's lifespan never runs; requests before that get a clear refusal.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope, Send

from .._arguments import check_kind
from .._auto_reset_event import AutoResetEvent
from ..core.connection import State
from ..server.committer import NOT_RUNNING
from ..server.server import ChatServer
from ..wire.codec import CODECS, JSON, Codec, close_reason
from ..wire.events import CloseCode
from .http_api import HttpApi

__all__ = ["asgi_app"]

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 5.0


def asgi_app(server: ChatServer, *, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI app of a server.

    Args:
        server: Entered by the app's own lifespan when the app runs alone; by the host when it is mounted.
        extra_routes: Routes of the host on the same port, tried after chatkit's own under `/v1`.

    Raises:
        ConfigurationError: `server` is none.

    Returns:
        A Starlette app with `/v1/ws`, the HTTP requests of the contract, `/healthz` and `/readyz`.
    """

    check_kind("server", server, ChatServer)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if server.running:
            yield
            return
        async with server:
            yield

    http = HttpApi(server)
    routes: list[BaseRoute] = [
        WebSocketRoute("/v1/ws", WebSocketEndpoint(server)),
        *http.routes,
        *extra_routes,
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=http.exception_handlers)
    app.router.redirect_slashes = False  # a redirect would be built from the caller's Host
    return app


class WebSocketEndpoint:
    """Pumps frames between an ASGI WebSocket and a session: one reader, one writer."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        offered = scope.get("subprotocols") or []
        codec = next((CODECS[name] for name in offered if name in CODECS), None)
        if codec is None and offered:
            await _reject(send, CloseCode.VERSION_NOT_SUPPORTED, "no known subprotocol offered")
        elif not self._server.running:
            logger.error(NOT_RUNNING)
            await _reject(send, 1011, NOT_RUNNING)
        else:
            subprotocol = codec.subprotocol if codec is not None else None
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            await _Pump(self._server, codec or JSON, receive, send).run()


class _Pump:
    """One accepted connection."""

    def __init__(self, server: ChatServer, codec: Codec, receive: Receive, send: Send) -> None:
        self._server = server
        self._codec = codec
        self._receive = receive
        self._send = send
        self._woken = AutoResetEvent()
        self._drained = AutoResetEvent()
        self._scope: anyio.CancelScope | None = None
        self._session = server.connect(codec, self._wake)

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                self._wake()  # the session may have been refused before there was a scope to bound
                tasks.start_soon(self._write)
                await self._read()
                tasks.cancel_scope.cancel()
        finally:
            self._server.disconnected(self._session)

    def _wake(self) -> None:
        self._woken.set()
        if self._scope is not None and self._session.close_code is not None:
            # a peer that does not read must not hold the connection open
            self._scope.deadline = min(self._scope.deadline, anyio.current_time() + _CLOSE_TIMEOUT_S)

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

    async def _write(self) -> None:
        """Until the session is closed and everything buffered has left, or the peer is gone."""
        session, binary = self._session, self._codec.binary
        try:
            while True:
                frame = session.next_frame()
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
            reason = close_reason(session.close_reason)
            await self._send({"type": "websocket.close", "code": session.close_code, "reason": reason})
        except (OSError, RuntimeError):  # gone, or closed by the ASGI server after a broken frame
            logger.debug("session %s: the peer is gone", session.session_id)
        assert self._scope is not None
        self._scope.cancel()


async def _reject(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code, "reason": close_reason(reason)})
