"""The transport over a real socket: addresses, subprotocols, and every way it can end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from chatkit.client._http import http_url
from chatkit.errors import ConfigurationError
from chatkit.transport.base import ConnectFailedError, TransportClosedError
from chatkit.transport.websocket import WebSocketConnector, websocket_url

JSON = "chatkit.v1.json"
MSGPACK = "chatkit.v1.msgpack"


@asynccontextmanager
async def listening(
    handler: Callable[[ServerConnection], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    options.setdefault("subprotocols", [JSON, MSGPACK])
    server: Server = await serve(handler, "127.0.0.1", 0, **options)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def echo(connection: ServerConnection) -> None:
    async for frame in connection:
        await connection.send(frame)


@pytest.mark.parametrize(
    ("base", "wanted"),
    [
        ("ws://h:1", "ws://h:1/v1/ws"),
        ("wss://h/", "wss://h/v1/ws"),
        ("http://h/chat", "ws://h/chat/v1/ws"),
        ("https://h/a/b/", "wss://h/a/b/v1/ws"),
    ],
)
def test_the_path_is_put_behind_any_prefix(base: str, wanted: str) -> None:
    assert websocket_url(base) == wanted
    assert http_url(base) + "/v1/ws" == wanted.replace("ws", "http", 1)


@pytest.mark.parametrize(
    "base",
    ["h:1", "ftp://h", "ws://", "ws://h?token=x", "ws://u:p@h", "ws://h#t", "", "ws://h:99999", "ws://[::1"],
)
def test_other_addresses_are_refused(base: str) -> None:
    for url_of in (websocket_url, http_url):
        with pytest.raises(ConfigurationError, match="the server's address"):
            url_of(base)


@pytest.mark.parametrize(("subprotocol", "frame"), [(JSON, '{"到":1}'), (MSGPACK, b"\x81\xa1a\x01")])
async def test_frames_cross_in_both_kinds(subprotocol: str, frame: str | bytes) -> None:
    async with listening(echo) as url:
        transport = await WebSocketConnector(url).connect(subprotocol)
        await transport.send(frame)
        assert await transport.receive() == frame
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(TransportClosedError):
            await transport.receive()
        with pytest.raises(TransportClosedError):
            await transport.send(frame)


async def test_a_close_frame_tells_its_code_and_reason() -> None:
    async def banned(connection: ServerConnection) -> None:
        await connection.close(4202, "banned")

    async with listening(banned) as url:
        transport = await WebSocketConnector(url).connect(JSON)
        with pytest.raises(TransportClosedError) as caught:
            await transport.receive()
        assert (caught.value.close_code, caught.value.reason) == (4202, "banned")


async def test_a_cut_is_1006() -> None:
    async def cut(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with listening(cut) as url:
        transport = await WebSocketConnector(url).connect(JSON)
        with pytest.raises(TransportClosedError) as caught:
            await transport.receive()
        assert (caught.value.close_code, caught.value.retryable) == (1006, True)


async def test_a_frame_of_the_greatest_size_passes_and_a_greater_one_ends_it() -> None:
    async def send(connection: ServerConnection) -> None:
        await connection.send("x" * 1_000_000)
        await connection.send("x" * 1_100_000)
        await connection.wait_closed()

    async with listening(send) as url:
        transport = await WebSocketConnector(url).connect(JSON)
        assert len(await transport.receive()) == 1_000_000
        with pytest.raises(TransportClosedError) as caught:
            await transport.receive()
        assert caught.value.close_code == 1009


@pytest.mark.parametrize(("header", "wanted"), [("7", 7.0), ("soon", None), (None, None)])
async def test_a_refused_upgrade_hands_on_the_hint(header: str | None, wanted: float | None) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "busy")
        if header is not None:
            response.headers["Retry-After"] = header
        return response

    async with listening(echo, process_request=refuse) as url:
        with pytest.raises(TransportClosedError) as caught:
            await WebSocketConnector(url).connect(JSON)
        assert (caught.value.close_code, caught.value.retry_after_s) == (1006, wanted)


async def test_nobody_there_and_no_websocket_there_are_the_same_error() -> None:
    async def no_websocket(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"SMTP ready\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, no_websocket)
        with pytest.raises(TransportClosedError):
            await WebSocketConnector(f"ws://127.0.0.1:{port}").connect(JSON)
        group.cancel_scope.cancel()
    await listener.aclose()
    with pytest.raises(TransportClosedError):
        await WebSocketConnector(f"ws://127.0.0.1:{port}").connect(JSON)


async def test_a_server_of_another_subprotocol_is_refused() -> None:
    async with listening(echo, subprotocols=None) as url:
        with pytest.raises(TransportClosedError) as caught:
            await WebSocketConnector(url).connect(JSON)
        assert caught.value.close_code == 4204


@pytest.mark.parametrize("where", ["/elsewhere", "ws://localhost:99999/", "ws://a..b/", "ws://[::1/"])
async def test_a_redirect_is_not_followed_for_the_login_goes_nowhere_else(where: str) -> None:
    tries = []

    def redirect(connection: ServerConnection, request: Request) -> Response:
        tries.append(request.path)
        response = connection.respond(HTTPStatus.FOUND, "over there")
        response.headers["Location"] = where
        return response

    async with listening(echo, process_request=redirect) as url:
        with pytest.raises(TransportClosedError, match="302"):
            await WebSocketConnector(url).connect(JSON)
    assert tries == ["/v1/ws"]


async def test_a_name_that_is_none_is_a_connection_that_failed() -> None:
    with pytest.raises(TransportClosedError):
        await WebSocketConnector("ws://a..b").connect(JSON)


async def test_a_peer_that_never_answers_has_a_deadline() -> None:
    async def silent(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, silent)
        with pytest.raises(TransportClosedError):
            await WebSocketConnector(f"ws://127.0.0.1:{port}", connect_timeout_s=0.05).connect(JSON)
        group.cancel_scope.cancel()


async def test_a_close_that_is_cut_short_drops_the_socket() -> None:
    async with listening(echo) as url:
        transport = await WebSocketConnector(url).connect(JSON)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await transport.aclose()

        with pytest.raises(TransportClosedError):
            await transport.receive()
        assert transport._connection.transport.is_closing()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, "gone", "404 (gone); is the prefix of the address not right?"),
        (403, "", "403; is the prefix of the address not right, or is its Origin not let in?"),
        (426, "", "answered with 426"),
        (
            503,
            '{"title":"t","status":503,"detail":"the node drains","code":"UNAVAILABLE","retryable":true}',
            "503 (the node drains)",
        ),
        (403, "<html>\n" + "no " * 5000, "403 (<html> no no"),
    ],
)
async def test_what_else_than_an_upgrade_came_is_said_bounded(status: int, body: str, words: str) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus(status), body)

    async with listening(echo, process_request=refuse) as url:
        with pytest.raises(ConnectFailedError) as caught:
            await WebSocketConnector(url + "/chat").connect(JSON)
    assert words in str(caught.value) and "/chat/v1/ws" in str(caught.value)
    assert (caught.value.kind, caught.value.status) == ("status", status)
    assert len(str(caught.value)) < 500


async def test_who_ended_it_is_said() -> None:
    async def too_large(connection: ServerConnection) -> None:
        if await connection.recv() == "close":
            await connection.close(1009)
        await connection.send("x" * 1_100_000)
        await connection.wait_closed()

    async with listening(too_large) as url:
        for said, by_peer in (("close", True), ("send", False)):
            transport = await WebSocketConnector(url).connect(JSON)
            await transport.send(said)
            with pytest.raises(TransportClosedError) as caught:
                await transport.receive()
            assert (caught.value.close_code, caught.value.by_peer) == (1009, by_peer)
