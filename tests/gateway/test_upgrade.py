"""The request for a WebSocket: taken by hand where it is plain, and answered as the app would answer it."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from chatkit import ChatServer, Identity, Limits, LoginRequest, RequestLogin, ServerConfig, asgi_app
from chatkit.gateway import fair_connection, websocket_protocol
from chatkit.gateway.upgrade import is_unfinished, upgrade_of
from chatkit.gateway.websocket_asgi import WebSocketEndpoint
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol
from chatkit.ports import SystemIds
from chatkit.storage.memory import MemoryStore
from tests.server.harness import by_name

from .both_ways import BOTH_WAYS
from .test_edges import HELLO, frame
from .test_mounting import new_server, running
from .test_websocket_session import Line

PAGE = "https://chat.example.org"
HEADERS = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455 section 1.3
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "chatkit.v1.json",
}
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def request(line: str = "GET /v1/ws HTTP/1.1", *more: str, without: str = "", **headers: str) -> bytes:
    """A request for a WebSocket: with some headers changed, one left out, and further lines."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in {**HEADERS, **changed}.items() if name != without]
    return "\r\n".join([line, *lines, *more, "", ""]).encode("latin-1")


TAKEN = {
    "the usual one": request(),
    "as Firefox says it": request(Connection="keep-alive, Upgrade", Upgrade="WebSocket"),
    "no subprotocol": request(without="Sec-WebSocket-Protocol"),
    "MessagePack": request(Sec_WebSocket_Protocol="chatkit.v1.msgpack"),
    "both": request(Sec_WebSocket_Protocol="chatkit.v1.msgpack ,chatkit.v1.json"),
    "a known and an unknown one": request(Sec_WebSocket_Protocol="chatkit.v9.json, chatkit.v1.json"),
    "extensions": request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
    "the page that is listed": request(Origin=PAGE, Cookie="session=ann; a=b"),
    "a long head": request(Cookie="a=" + "b" * 3_000),
    "spaces": request(Host="  x \t"),
}
LEFT = {
    "another method": request("POST /v1/ws HTTP/1.1"),
    "HTTP/1.0": request("GET /v1/ws HTTP/1.0"),
    "a query": request("GET /v1/ws?a=b HTTP/1.1"),
    "a token in the URL": request("GET /v1/ws?token=ann HTTP/1.1"),
    "another path": request("GET /v1/wss HTTP/1.1"),
    "a path in other letters": request("GET /v1/%77s HTTP/1.1"),
    "a whole URL": request("GET http://x/v1/ws HTTP/1.1"),
    "no host": request(without="Host"),
    "two hosts": request("GET /v1/ws HTTP/1.1", "Host: y"),
    "no key": request(without="Sec-WebSocket-Key"),
    "a short key": request(Sec_WebSocket_Key="dGhlIHNhbXBsZQ=="),
    "a key of other letters": request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZ!=="),
    "two keys": request("GET /v1/ws HTTP/1.1", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "no version": request(without="Sec-WebSocket-Version"),
    "another version": request(Sec_WebSocket_Version="8"),
    "several versions": request(Sec_WebSocket_Version="13, 8"),
    "no upgrade": request(without="Upgrade"),
    "an upgrade to something else": request(Upgrade="h2c"),
    "no connection": request(without="Connection"),
    "a connection that is closed": request(Connection="close"),
    "more of a connection": request(Connection="Upgrade, close"),
    "a subprotocol of two words": request(Sec_WebSocket_Protocol="chatkit.v1.json, a b"),
    "a subprotocol that is no token": request(Sec_WebSocket_Protocol="chatkit.v1.json, @"),
    "an empty subprotocol": request(Sec_WebSocket_Protocol="chatkit.v1.json,"),
    "a body": request(Content_Length="0"),
    "a body in chunks": request(Transfer_Encoding="chunked"),
    "a body that waits": request(Expect="100-continue"),
    "a space before the colon": request("GET /v1/ws HTTP/1.1", "X-A : b"),
    "a folded line": request("GET /v1/ws HTTP/1.1", "X-A: b", " c"),
    "a header without a name": request("GET /v1/ws HTTP/1.1", ": b"),
    "a control character": request("GET /v1/ws HTTP/1.1", "X-A: \x00"),
    "letters beyond ASCII": request("GET /v1/ws HTTP/1.1", "X-A: \xe9"),
    "lines that end otherwise": request().replace(b"Host: x\r\n", b"Host: x\n"),
    "only lines that end otherwise": request().replace(b"\r\n", b"\n"),
    "no HTTP": b"GET /v1/ws HTTP/1.1\r\nhello\r\n\r\n",
    "101 headers": request("GET /v1/ws HTTP/1.1", *(f"X-{n}: 1" for n in range(95))),
    "a head above 8 KiB": request(Cookie="a" * 9_000),
    "a head above 32 KiB": request(Cookie="a" * 33_000),
    "a repeated header": request("GET /v1/ws HTTP/1.1", "X-A: 1", "X-A: 2"),
}
DECIDED_BY_THE_APP = {
    "unknown subprotocols": request(Sec_WebSocket_Protocol="chatkit.v9.json"),
    "no words for a subprotocol": request(Sec_WebSocket_Protocol="a b"),
    "an empty subprotocol": request(Sec_WebSocket_Protocol=""),
    "another page": request(Origin="https://evil.example"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_plain_requests_are_taken_with_what_comes_behind_them(name: str) -> None:
    taken = upgrade_of(TAKEN[name] + b"\x89\x80rest")
    assert taken is not None
    assert taken.rest == b"\x89\x80rest"
    assert taken.headers[b"host"] == b"x"


@pytest.mark.parametrize("name", LEFT)
def test_every_other_one_is_left_to_the_parser(name: str) -> None:
    assert upgrade_of(LEFT[name]) is None


def test_a_request_is_waited_for_while_it_may_become_one() -> None:
    whole = request()
    assert all(is_unfinished(whole[:count]) for count in range(len(whole)))
    assert not is_unfinished(whole)
    assert not is_unfinished(b"GET /healthz")
    assert not is_unfinished(b"GET /v1/ws HTTP/1.1\r\nX: " + b"a" * 9_000), "it is refused as it comes"
    assert not is_unfinished(b"GET /v1/ws HTTP/1.1\r\nX: a\n\n"), "h11 takes it for whole"


@pytest.mark.parametrize(
    "line", [b"X:" + b" " * 8_000 + b"\x01\r\n", b"a" * 8_000 + b"\r\n", b"X: 1\r\n" * 1_300]
)
def test_a_hostile_head_is_read_once(line: bytes) -> None:
    """Time is not asserted: reading it again and again would take longer than the test may."""
    for _ in range(1_000):
        assert upgrade_of(b"GET /v1/ws HTTP/1.1\r\n" + line + b"\r\n") is None


# --- on a real uvicorn ---


def wrapped(app: ASGIApp) -> ASGIApp:
    """A host's middleware that does nothing."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return outer


@asynccontextmanager
async def serving(app: ASGIApp, **settings: Any) -> AsyncIterator[int]:
    ours = {"http": ChatHttpProtocol, "ws": ChatWebSocketProtocol, **BOTH_WAYS["straight"]}
    config = uvicorn.Config(app, port=0, log_config=None, **{**ours, **settings})
    async with running(config) as port:
        yield port


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Scope]:
    """The handshakes that came through ASGI."""
    scopes: list[Scope] = []
    through = WebSocketEndpoint.__call__

    async def noted(self: WebSocketEndpoint, scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await through(self, scope, receive, send)

    monkeypatch.setattr(WebSocketEndpoint, "__call__", noted)
    return scopes


def answer_to(port: int, said: bytes, until: bytes = b"", pieces: int = 100_000) -> bytes:
    """What the server says to this until it closes, or has said it all, without what is random in it."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        for at in range(0, len(said), pieces):
            link.sendall(said[at : at + pieces])
        heard = b""
        try:
            while not (until and until in heard) and (chunk := link.recv(65536)):
                heard += chunk
        except ConnectionResetError:
            pass
    return heard


def head_of(heard: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Status line, headers but for the date, and what follows."""
    head, _, rest = heard.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, {line.lower() for line in lines if not line.lower().startswith(b"date:")}, rest


async def by_cookie(login: LoginRequest) -> Identity:
    """What came with the handshake is who they are, so that WELCOME tells."""
    came = f"{login.client_address}.{login.cookies.get('session')}.{login.headers.get('host')}"
    return Identity(re.sub("[^a-z0-9.]", "-", came))


def of_a_page(said: bytes) -> bytes:
    """The same request, of the page that is listed if it names none: by cookie nobody else may connect."""
    named = b"Origin" in said
    return said if named else said.replace(b"Host:", b"Origin: " + PAGE.encode() + b"\r\nHost:", 1)


async def heard_of(port: int, said: bytes, device: str) -> tuple[bytes, set[bytes], bytes]:
    """Status line, headers, and what names the user, the refusal or the close after a HELLO."""
    if b"msgpack" in said:
        said, until = said + frame(2, b"\xc0") + frame(8, b"\x03\xe8"), b""
    else:
        said, until = said + frame(1, HELLO.replace(b"phone", device.encode())), b'"more":false'
    status, headers, rest = head_of(await anyio.to_thread.run_sync(answer_to, port, said, until))
    return status, headers, b"".join(re.findall(rb'"userId":"[^"]*"|"code":"[^"]*"|\x88.*', rest))


@pytest.mark.parametrize("cookies", [False, True], ids=["by token", "by cookie"])
async def test_the_app_would_answer_alike(cookies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the session that follows knows the same of its client."""
    monkeypatch.setattr(fair_connection, "LINGER_S", 0.5)
    monkeypatch.setattr(
        websocket_protocol, "REQUEST_TIMEOUT_S", 2.0
    )  # what is no upgrade keeps its connection
    asked = {**TAKEN, **LEFT, **DECIDED_BY_THE_APP}
    if cookies:
        asked = {name: of_a_page(said) for name, said in asked.items()}
    heard: dict[tuple[str, str], tuple[bytes, set[bytes], bytes]] = {}

    async def ask(name: str, which: str, port: int) -> None:
        heard[name, which] = await heard_of(port, asked[name], f"d-{[*asked].index(name)}")

    async with (
        serving(asgi_app(server_of(cookies), origins=[PAGE])) as straight,
        serving(wrapped(asgi_app(server_of(cookies), origins=[PAGE]))) as through_app,
        anyio.create_task_group() as tasks,
    ):
        for name in asked:
            tasks.start_soon(ask, name, "straight", straight)
            tasks.start_soon(ask, name, "through the app", through_app)
    for name in asked:
        assert heard[name, "straight"] == heard[name, "through the app"], name
    statuses = {heard[name, "straight"][0].split()[1] for name in asked}
    assert statuses == {b"101", b"400", b"403", b"405", b"426", b"431"}


def server_of(cookies: bool) -> ChatServer:
    return ChatServer(
        store=MemoryStore(ids=SystemIds()),
        authenticate=RequestLogin(by_cookie) if cookies else by_name,
        config=ServerConfig(limits=Limits.unlimited()),
    )


@pytest.mark.parametrize(
    ("name", "status"),
    [("a head above 8 KiB", b"431"), ("a head above 32 KiB", b"431"), ("a body in chunks", b"400")],
)
async def test_what_cannot_be_read_is_refused_at_once(
    name: str, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_connection, "LINGER_S", 0.1)
    async with serving(asgi_app(new_server())) as port:
        heard = await anyio.to_thread.run_sync(answer_to, port, LEFT[name])
    assert heard.startswith(b"HTTP/1.1 " + status)
    assert b"application/problem+json" in heard


@pytest.mark.parametrize("name", TAKEN)
async def test_plain_requests_do_not_go_through_the_app(name: str, seen: list[Scope]) -> None:
    async with serving(asgi_app(new_server())) as port:
        heard = await anyio.to_thread.run_sync(answer_to, port, TAKEN[name], b"\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT in heard
    assert seen == []


def with_middleware(app: Starlette) -> Starlette:
    """A host that looks at everything."""
    app.add_middleware(wrapped)
    return app


def with_a_wrapper_inside(app: Starlette) -> Starlette:
    """A host that puts something around what Starlette builds."""
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: wrapped(build())  # type: ignore[method-assign, arg-type, return-value]
    return app


def with_a_wrapper_around_the_router(app: Starlette) -> Starlette:
    """A host that puts something around the routes."""
    app.router.middleware_stack = wrapped(app.router.middleware_stack)  # type: ignore[assignment]
    return app


def with_a_route_before(app: Starlette) -> Starlette:
    """A host that answers itself where it likes."""
    app.router.routes.insert(0, app.router.routes.pop())
    return app


@pytest.mark.parametrize(
    ("around", "settings"),
    [
        (wrapped, {}),
        (with_middleware, {}),
        (with_a_wrapper_inside, {}),
        (with_a_wrapper_around_the_router, {}),
        (with_a_route_before, {}),
        (None, {"ws": WebSocketsSansIOProtocol}),
        (None, {"ws_ping_interval": 20.0}),
        (None, {"ws_per_message_deflate": True}),
        (None, {"root_path": "/chat"}),
    ],
    ids=[
        "wrapped",
        "middleware",
        "built",
        "around the router",
        "a route",
        "another protocol",
        "pings",
        "compression",
        "a root path",
    ],
)
async def test_a_host_that_wants_a_say_has_one(
    around: Callable[[Starlette], ASGIApp] | None, settings: dict[str, Any], seen: list[Scope]
) -> None:
    app = asgi_app(new_server())
    async with serving(around(app) if around else app, **settings) as port:
        heard = await anyio.to_thread.run_sync(answer_to, port, TAKEN["the usual one"], b"\r\n\r\n")
    assert len(seen) == 1
    assert heard.startswith(b"HTTP/1.1 101 ")


FORWARDED = ["10.1.2.3", "10.9.9.9, 10.1.2.3", "", "10.1.2.3:99, 127.0.0.1", "[2001:db8::1]:5"]


@pytest.mark.parametrize("forwarded", FORWARDED)
@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.1", "*"])
@pytest.mark.parametrize("proxy_headers", [True, False])
async def test_a_proxy_that_is_trusted_names_the_client(
    forwarded: str, trusted: str, proxy_headers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[LoginRequest] = []
    admit = ChatServer.connect

    def noted(server: ChatServer, codec: Any, wake: Any, login: LoginRequest | None = None) -> Any:
        assert login is not None
        came.append(login)
        return admit(server, codec, wake, login)

    monkeypatch.setattr(ChatServer, "connect", noted)
    said = request(X_Forwarded_For=forwarded, X_Forwarded_Proto="https")
    for wrap in (lambda app: app, wrapped):
        settings = {"proxy_headers": proxy_headers, "forwarded_allow_ips": trusted}
        async with serving(wrap(asgi_app(new_server())), **settings) as port:
            await anyio.to_thread.run_sync(answer_to, port, said, b"\r\n\r\n")
    straight, through_asgi = came
    assert straight == through_asgi
    assert straight.client_address is not None


@pytest.mark.parametrize("pieces", [1, 100, 100_000])
@pytest.mark.parametrize("wrap", [lambda app: app, wrapped], ids=["straight", "wrapped"])
@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_what_comes_with_the_handshake_is_taken_for_the_first_frames(
    way: str, wrap: Callable[[ASGIApp], ASGIApp], pieces: int
) -> None:
    async with serving(wrap(asgi_app(new_server())), **BOTH_WAYS[way]) as port:
        said = request() + frame(9, b"are you there") + frame(1, HELLO)
        heard = await anyio.to_thread.run_sync(answer_to, port, said, b'"more":false', pieces)
    assert b"are you there" in heard
    assert b"WELCOME" in heard


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_middleware_that_takes_its_time_after_the_handshake_loses_nothing(way: str) -> None:
    """Where a session has taken the connection over, it hears that it is over once its app has ended."""
    over: list[Message] = []

    def slow(app: ASGIApp) -> ASGIApp:
        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_slowly(message: Message) -> None:
                await send(message)
                if message["type"] == "websocket.accept":
                    for _ in range(100):
                        await anyio.sleep(0)

            await app(scope, receive, send_slowly)
            if scope["type"] == "websocket" and way == "straight":
                over.append(await receive())

        return outer

    async with serving(slow(asgi_app(new_server())), **BOTH_WAYS[way]) as port:
        heard = await anyio.to_thread.run_sync(answer_to, port, request() + frame(1, HELLO), b'"more":false')
    assert b"WELCOME" in heard
    assert [message["type"] for message in over] == ["websocket.disconnect"] * (way == "straight")


async def test_a_peer_that_pings_and_does_not_read_is_owed_one_pong_by_asgi_too() -> None:
    accepted, over = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        accepted.set()
        await over.wait()

    config = uvicorn.Config(app, log_config=None, **BOTH_WAYS["straight"])
    config.load()
    protocol = ChatWebSocketProtocol(config=config, server_state=ServerState(), app_state={})
    line = Line()
    protocol.connection_made(line)
    protocol.data_received(request())
    await accepted.wait()
    line.taken()

    protocol.pause_writing()
    for number in range(50):
        protocol.data_received(frame(9, b"%d" % number))
    assert line.taken() == b""
    protocol.resume_writing()
    assert line.taken() == b"\x8a\x0249"
    protocol.resume_writing()
    assert line.taken() == b""

    protocol.pause_writing()
    protocol.data_received(frame(9, b"late") + frame(8, b"\x03\xe8"))
    protocol.resume_writing()
    assert b"late" not in line.taken(), "nothing follows a close"
    over.set()
    await anyio.lowlevel.checkpoint()
