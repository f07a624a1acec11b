"""What peers send that is no request of the contract: refused by name, on a real uvicorn with our protocols."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import AsyncIterator

import anyio.to_thread
import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from chatkit import asgi_app
from chatkit.gateway import fair_connection
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol, hide_queries

from .both_ways import BOTH_WAYS
from .test_deadlines import UPGRADE, until_closed
from .test_mounting import new_server, running


@pytest.fixture(params=BOTH_WAYS)
async def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(fair_connection, "LINGER_S", 0.5)
    config = uvicorn.Config(
        asgi_app(new_server()),
        port=0,
        log_config=None,
        http=ChatHttpProtocol,
        ws=ChatWebSocketProtocol,
        **BOTH_WAYS[request.param],
    )
    config.ws_max_size = 1_000_000
    async with running(config) as number:
        yield number


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the last answer on a connection."""
    said = await anyio.to_thread.run_sync(until_closed, port, request)
    head, _, body = said.rpartition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n\r\n")[-1].rpartition(b"HTTP/1.1 ")[2].decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[0]), headers, body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode()


BAD_HEADS = {
    "no request": (b"hello\r\n\r\n", 400, "BAD_REQUEST"),
    "both lengths": (
        b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "BAD_REQUEST",
    ),
    "300 headers": (get("/healthz", *(f"X-{n}: 1" for n in range(300))), 431, "BAD_REQUEST"),
    "40 KB of head": (get("/healthz", "X-A: " + "a" * 40_000), 431, "BAD_REQUEST"),
    "head without end": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40_000, 431, "BAD_REQUEST"),
    "bad upgrade": (
        UPGRADE.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 99"),
        400,
        "BAD_REQUEST",
    ),
}


@pytest.mark.parametrize("name", BAD_HEADS)
async def test_bad_heads_get_a_problem_document(port: int, name: str) -> None:
    request, status, code = BAD_HEADS[name]
    answered, headers, body = await ask(port, request)
    assert (answered, json.loads(body)["code"]) == (status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_what_is_no_http_after_a_good_request_is_answered_too(port: int) -> None:
    good = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    said = await anyio.to_thread.run_sync(until_closed, port, good + good + b"hello\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"400"]


async def test_a_large_head_within_the_bound_is_taken(port: int) -> None:
    status, _, _ = await ask(port, get("/healthz", "X-A: " + "a" * 30_000, *(f"X-{n}: 1" for n in range(90))))
    assert status == 200


async def test_a_body_in_too_many_chunks_is_refused(port: int) -> None:
    head = b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    status, _, body = await ask(port, head + b"1\r\n \r\n" * 1_100)
    assert status == 413
    assert json.loads(body)["code"] == "TOO_LARGE"


async def test_a_body_without_a_token_is_answered_before_it_is_read_and_not_read_to_its_end(
    port: int,
) -> None:
    head = b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    status, headers, _ = await ask(port, head + b"x" * 300_000)
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"


async def test_a_short_body_without_a_token_leaves_the_connection_open(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        for _ in range(3):
            refused = await http.post("/v1/conversations", content=b"x" * 20_000)
            assert refused.status_code == 401
        pool = http._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1


PATHS = [
    "/healthz",
    "/readyz",
    "/v1/openapi.json",
    "/v1/conversations",
    "/nothing",
    "/v1/ws",
    "/v1/sync?lastSeq=1",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
async def test_every_answer_has_the_security_headers(port: int, path: str, method: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        answer = await http.request(method, path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_plain_request_for_the_websocket_names_upgrade(port: int) -> None:
    status, headers, body = await ask(port, get("/v1/ws"))
    assert status == 426
    assert headers["upgrade"] == "websocket"
    assert "proxy" in json.loads(body)["detail"]


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
async def test_an_encoded_slash_separates_nothing(port: int, slash: str) -> None:
    headers = {"Authorization": "Bearer ann"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
        made = await http.post(
            "/v1/conversations", json={"type": "GROUP", "memberIds": ["ben"], "conversationId": "g-1"}
        )
        assert made.status_code == 201
        assert (await http.get("/v1/conversations/g-1/members")).status_code == 200
        found = await http.get(f"/v1/conversations/g-1{slash}members")
    assert found.status_code == 404


@pytest.mark.parametrize("name", ["token", "access_token", "Token", "authorization", "jwt"])
async def test_a_token_in_the_url_is_refused_whatever_else_is_right(port: int, name: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        refused = await http.get(
            "/v1/conversations", params={name: "ann"}, headers={"Authorization": "Bearer ann"}
        )
    assert refused.status_code == 401
    assert "URL" in refused.json()["detail"]


def test_queries_are_not_logged() -> None:
    args = ("127.0.0.1:5", "GET", "/v1/ws?token=canary", "1.1", 200)
    record = logging.LogRecord("uvicorn.access", 20, "", 1, '%s - "%s %s HTTP/%s" %d', args, None)
    assert hide_queries(record)
    assert record.getMessage() == '127.0.0.1:5 - "GET /v1/ws HTTP/1.1" 200'


@pytest.mark.parametrize(
    ("body", "words"),
    [(rb'{"title":"\ud800"}', "lone surrogate"), (b'{"title":NaN}', "NaN"), (b'{"title":', "truncated")],
)
async def test_a_body_that_is_no_json_is_refused_in_words_that_help(
    port: int, body: bytes, words: str
) -> None:
    headers = {"Authorization": "Bearer ann", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
        refused = await http.post("/v1/conversations", content=body)
        limit = await http.get("/v1/conversations", params={"limit": "-1"})
    assert refused.status_code == 400
    assert words in refused.json()["detail"]
    assert limit.json()["detail"] == "`limit` must be a whole number from 1"


# --- WebSocket ---


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    if len(data) < 126:
        size = bytes((0x80 | len(data),))
    elif len(data) < 65536:
        size = b"\xfe" + len(data).to_bytes(2, "big")
    else:
        size = b"\xff" + len(data).to_bytes(8, "big")
    return bytes((opcode | (0x80 if fin else 0),)) + size + b"\0\0\0\0" + data


def closed_with(port: int, frames: bytes) -> int:
    """The close code after these frames, read after all of them were sent; 1006 for a reset."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(UPGRADE)
        said = b""
        while b"\r\n\r\n" not in said:
            said += link.recv(65536)
        try:
            link.sendall(frames)
            said = said.partition(b"\r\n\r\n")[2]
            while chunk := link.recv(65536):
                said += chunk
        except (ConnectionResetError, BrokenPipeError):
            return 1006
    close = said.rfind(b"\x88")
    return int.from_bytes(said[close + 2 : close + 4], "big")


HELLO = b'{"event":"HELLO","deviceId":"phone","token":"ann"}'
FLOODS = {
    "pings": (frame(9) * 500, 4002),
    "pongs": (frame(10, b"x" * 125) * 500, 4002),
    "empty fragments": (frame(1, b"[", fin=False) + frame(0, fin=False) * 100, 1009),
    "byte fragments": (frame(1, b"[", fin=False) + frame(0, b" ", fin=False) * 2_000, 1009),
    "a frame above 20 KiB before WELCOME": (frame(1, b" " * 30_000), 1009),
    "a frame of 3 MB": (frame(1, b" " * 3_000_000), 1009),
    "fragments above 20 KiB before WELCOME": (
        frame(1, b"[" * 10_000, fin=False) + frame(0, b" " * 15_000),
        1009,
    ),
    "something else than HELLO": (frame(1, b'{"event":"PING"}'), 4203),
    "numbers as keys": (frame(1, b'[{"event":"PING"}]') * 1_000, 4203),
    "HELLO and more at once": (frame(1, HELLO) + frame(1, b'{"event":"PING"}'), 4203),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_what_a_stranger_floods_with_is_closed_and_the_reason_arrives(port: int, name: str) -> None:
    frames, code = FLOODS[name]
    assert await anyio.to_thread.run_sync(closed_with, port, frames) == code


async def test_who_is_logged_in_may_send_large_frames_and_some_pings(port: int) -> None:
    said = await anyio.to_thread.run_sync(
        talk, port, [frame(9)] * 50 + [frame(1, b" " * 500_000 + b'{"event":"PING"}')]
    )
    assert b"PONG" in said


def talk(port: int, frames: list[bytes]) -> bytes:
    """Log in, send frames, and return what came up to the answer to PING."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(UPGRADE)
        said = b""
        while b"\r\n\r\n" not in said:
            said += link.recv(65536)
        link.sendall(frame(1, HELLO))
        while b"HEADS" not in said:
            said += link.recv(65536)
        for it in frames:
            link.sendall(it)
        while b"PONG" not in said and (chunk := link.recv(65536)):
            said += chunk
        return said


async def test_a_handshake_that_was_refused_is_not_refused_again_when_the_server_ends() -> None:
    class Wire:
        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written.append(data)

    config = uvicorn.Config(asgi_app(new_server()), log_config=None)
    config.load()
    protocol = ChatWebSocketProtocol(config=config, server_state=ServerState(), app_state={})
    wire = Wire()
    protocol.transport = wire  # type: ignore[assignment]
    for _ in range(2):
        protocol.send_500_response()
    assert len(wire.written) == 1
    assert wire.written[0].startswith(b"HTTP/1.1 500")
