"""Peers that hold a connection without using it are let go: on a real uvicorn, with short deadlines."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest
import uvicorn

from chatkit import asgi_app
from chatkit.gateway import call, websocket_protocol

from .test_mounting import new_server, running

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"{KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
PING = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(websocket_protocol, "REQUEST_TIMEOUT_S", 0.05)
    monkeypatch.setattr(websocket_protocol, "LINGER_S", 0.2)
    monkeypatch.setattr(call, "BODY_TIMEOUT_S", 0.05)
    config = uvicorn.Config(
        asgi_app(new_server()),
        port=0,
        log_config=None,
        http=websocket_protocol.ChatHttpProtocol,
        ws=websocket_protocol.ChatWebSocketProtocol,
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
