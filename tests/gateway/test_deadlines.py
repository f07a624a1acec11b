"""Peers that hold a connection without using it are let go: on a real uvicorn, with short deadlines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatkit import asgi_app
from chatkit.gateway import call, fair_connection, websocket_protocol

from .both_ways import BOTH_WAYS
from .test_mounting import new_server, running

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"{KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
PING = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125


async def upload(request: Request) -> Response:
    """A route of the host that reads what it is sent."""
    return Response(str(len(await request.body())))


async def slow(request: Request) -> Response:
    """A route of the host that takes a while before it looks at what it is sent."""
    await anyio.sleep(2 * websocket_protocol.REQUEST_TIMEOUT_S)
    return await upload(request)


async def large(request: Request) -> Response:
    """A route of the host that answers with more than any buffer holds."""
    return Response(b"x" * 20_000_000)


@pytest.fixture(params=BOTH_WAYS)
async def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(websocket_protocol, "REQUEST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(fair_connection, "LINGER_S", 0.2)
    monkeypatch.setattr(call, "BODY_TIMEOUT_S", 0.3)
    routes = [
        Route("/upload", upload, methods=["POST"]),
        Route("/slow", slow, methods=["POST"]),
        Route("/large", large),
    ]
    config = uvicorn.Config(
        asgi_app(new_server(), extra_routes=routes),
        port=0,
        log_config=None,
        http=websocket_protocol.ChatHttpProtocol,
        ws=websocket_protocol.ChatWebSocketProtocol,
        **BOTH_WAYS[request.param],
    )
    async with running(config) as number:
        yield number


def until_closed(port: int, begin: bytes) -> bytes:
    """Say something, then wait until the server ends the connection; returns what it said."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(begin)
        said = b""
        try:
            while chunk := link.recv(65536):
                said += chunk
        except ConnectionResetError:
            return said
        return said


@pytest.mark.parametrize(
    "begin", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["nothing", "half a head"]
)
async def test_a_request_that_never_comes_ends_the_connection(port: int, begin: bytes) -> None:
    assert await anyio.to_thread.run_sync(until_closed, port, begin) == b""


async def test_a_body_that_never_comes_is_refused(port: int) -> None:
    head = b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nContent-Length: 100\r\n\r\n{"
    said = await anyio.to_thread.run_sync(until_closed, port, head)

    assert said.startswith(b"HTTP/1.1 400")
    assert b"did not arrive in time" in said


async def test_a_body_for_a_route_of_the_host_that_never_comes_ends_the_connection(port: int) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    assert await anyio.to_thread.run_sync(until_closed, port, head) == b""


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_body_is_not_given_up_while_the_app_is_slow(port: int, size: int) -> None:
    head = b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    said = await anyio.to_thread.run_sync(until_closed, port, head + b"x" * size)
    assert said.endswith(b"\r\n\r\n%d" % size)


def without_reading(port: int, request: bytes) -> bool:
    """Send requests and read no answer. Returns whether the server ends the connection."""
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(20)
        link.connect(("127.0.0.1", port))
        try:
            while True:
                link.sendall(request)
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            return False


async def test_answers_that_are_not_read_end_the_connection(port: int) -> None:
    request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await anyio.to_thread.run_sync(without_reading, port, request)


class Line(asyncio.Transport):
    """A connection whose peer takes what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unread_bytes = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def abort(self) -> None:
        self.aborted = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def test_who_reads_an_answer_slowly_is_not_cut_off_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_protocol, "REQUEST_TIMEOUT_S", 60.0)
    line = Line()
    config = uvicorn.Config(asgi_app(new_server()), log_config=None)
    config.load()
    protocol = websocket_protocol.ChatHttpProtocol(
        config=config, server_state=uvicorn.server.ServerState(), app_state={}
    )
    protocol.connection_made(line)
    line.unread_bytes = 300
    protocol._await_request()  # the answer was written
    for unread_bytes in (200, 100):
        line.unread_bytes = unread_bytes
        protocol._expired()
        assert not line.aborted
    protocol._expired()
    assert line.aborted, "nothing was read since"
    protocol._disarm()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
    ],
    ids=["a body", "an answer"],
)
async def test_who_is_waited_for_holds_the_place_of_a_stranger(
    port: int, request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    expired = anyio.Event()
    let_go = websocket_protocol.ChatHttpProtocol._expired

    def noted(protocol: websocket_protocol.ChatHttpProtocol) -> None:
        held.append(len(protocol._strangers))
        expired.set()
        let_go(protocol)

    monkeypatch.setattr(websocket_protocol.ChatHttpProtocol, "_expired", noted)
    async with await anyio.connect_tcp("127.0.0.1", port) as link:
        await link.send(request_bytes)
        with anyio.fail_after(10):
            await expired.wait()
    assert held[0] == 1


def flood(port: int) -> int:
    """Ping without reading until the server cuts the connection; returns how many got through."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(UPGRADE)
        sent = 0
        try:
            while sent < 2_000_000:
                link.sendall(PING * 1_000)
                sent += 1_000
        except (ConnectionResetError, BrokenPipeError):
            return sent
        return sent


async def test_a_ping_flood_that_is_not_read_is_cut_off(port: int) -> None:
    assert await anyio.to_thread.run_sync(flood, port) < 2_000_000


async def test_a_slash_too_many_is_no_redirect_to_where_the_caller_says(port: int) -> None:
    request = b"GET /v1/conversations/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    said = await anyio.to_thread.run_sync(until_closed, port, request)

    assert said.startswith(b"HTTP/1.1 404")
    assert b"evil" not in said
