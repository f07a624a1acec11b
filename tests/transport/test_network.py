"""Trust, proxy, headers and addresses: alike for the WebSocket and for HTTP, against real sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from chatkit import ChatApi, ChatClient, ClientConfig
from chatkit.errors import ConfigurationError, ConnectionLostError, DeadlineExceededError, ProtocolError
from chatkit.transport.base import ConnectFailedError
from chatkit.transport.network import Network
from chatkit.transport.websocket import WebSocketConnector

from .proxies import proxying

JSON = "chatkit.v1.json"


class Seen:
    """The requests a server got."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if request.path == "/v1/ws":
            return None
        response = connection.respond(HTTPStatus.OK, '{"status":"ok"}')
        response.headers["X-Seen"] = "yes"
        return response


async def hold(connection: ServerConnection) -> None:
    await connection.wait_closed()


@asynccontextmanager
async def both(ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[Seen]:
    """A server that speaks WebSocket at /v1/ws and is healthy."""
    seen = Seen()
    options: dict[str, Any] = {"ssl": ssl_context, "subprotocols": [JSON], "process_request": seen.answer}
    async with serve(hold, "127.0.0.1", 0, **options) as server:
        scheme = "http" if ssl_context is None else "https"
        seen.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
        yield seen


@contextmanager
def private_authority(tmp_path: Path) -> Iterator[tuple[ssl.SSLContext, Path]]:
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    yield context, file


async def try_both(url: str, **options: Any) -> None:
    """Both ways to the server, each once."""
    network = Network(**options)
    transport = await WebSocketConnector(url, network=network).connect(JSON)
    await transport.aclose()
    async with ChatApi(url, token="t", attempts_max=1, **options) as api:
        assert await api.health()


# --- trust ------------------------------------------------------------------------------------------------


async def test_one_ssl_context_is_for_both(tmp_path: Path) -> None:
    with private_authority(tmp_path) as (context, file):
        async with both(context) as server:
            await try_both(server.url, ssl_context=ssl.create_default_context(cafile=str(file)))


async def test_the_client_asks_by_http_as_it_connects(tmp_path: Path) -> None:
    with private_authority(tmp_path) as (context, file):
        async with both(context) as server:
            options: dict[str, Any] = {"ssl_context": ssl.create_default_context(cafile=str(file))}
            async with ChatClient(
                server.url, token="t", device_id="d", headers={"X-Gateway": "1"}, **options
            ) as chat:
                with pytest.raises(ProtocolError, match="does not fit the contract"):
                    await chat.status("m-1")
        (asked,) = [request for request in server.requests if "/m-1/status" in request.path]
        assert (asked.headers["X-Gateway"], asked.headers["Authorization"]) == ("1", "Bearer t")


async def test_ssl_cert_file_is_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_authority(tmp_path) as (context, file):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        async with both(context) as server:
            await try_both(server.url)


async def test_a_certificate_that_nobody_vouches_for_is_named_by_both(tmp_path: Path) -> None:
    with private_authority(tmp_path) as (context, _):
        async with both(context) as server:
            with pytest.raises(
                ConnectFailedError, match=r"certificate of localhost:\d+ is not trusted"
            ) as caught:
                await WebSocketConnector(server.url).connect(JSON)
            assert caught.value.kind == "certificate"
            async with ChatApi(server.url, token="t", attempts_max=1) as api:
                with pytest.raises(ConnectionLostError, match=r"certificate of localhost:\d+ is not trusted"):
                    await api.health()


async def test_a_file_of_certificates_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        await Network().ssl_context()
    async with ChatApi("https://chat.invalid", token="t") as api:
        for ask in (api.health, api.ready):
            with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
                await ask()


# --- proxies and headers ----------------------------------------------------------------------------------


async def test_a_proxy_is_used_by_both_with_tls_and_without(tmp_path: Path) -> None:
    with private_authority(tmp_path) as (context, file):
        async with proxying() as proxy, both(context) as secure, both() as plain:
            trusting = ssl.create_default_context(cafile=str(file))
            await try_both(secure.url, ssl_context=trusting, proxy=proxy.url)
            await try_both(plain.url, proxy=proxy.url)

            methods = [head.split(" ")[0] for head in proxy.heads]
            assert methods == ["CONNECT", "CONNECT", "CONNECT", "GET"]
            assert all("authorization" not in head.lower() for head in proxy.heads[:3])


async def test_a_proxy_that_refuses_is_named() -> None:
    async with proxying() as proxy, both() as server:
        proxy.refuses_with = 407
        with pytest.raises(ConnectFailedError, match=r"the proxy .* answered 407") as caught:
            await WebSocketConnector(server.url, network=Network(proxy=proxy.url)).connect(JSON)
        assert caught.value.kind == "proxy"


async def test_headers_go_with_both() -> None:
    async with both() as server:
        await try_both(server.url, headers={"X-Gateway": "let me in"})
        assert [request.headers["X-Gateway"] for request in server.requests] == ["let me in", "let me in"]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("wss://chat.test/v1/ws", "http://secure:1"),
        ("https://chat.test", "http://secure:1"),
        ("ws://chat.test:8080/v1/ws", "http://plain:1"),
        ("http://chat.test:8080", "http://plain:1"),
        ("https://inside.test", None),
        ("wss://deep.inside.test", None),
        ("ws://localhost:8080/v1/ws", None),
        ("http://127.0.0.1:8080", None),
        ("http://[::1]:8080", None),
    ],
)
def test_the_environment_says_the_same_to_both(
    url: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:1")
    monkeypatch.setenv("ALL_PROXY", "http://plain:1")
    monkeypatch.setenv("NO_PROXY", "inside.test")
    assert Network().proxy_for(url) == wanted
    assert Network(proxy=False).proxy_for(url) is None
    assert Network(proxy="http://mine:2").proxy_for(url) == "http://mine:2"


def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1080")
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        ChatClient("wss://chat.test", token="t", device_id="d")
    ChatClient("wss://chat.test", token="t", device_id="d", proxy=False)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"ssl_context": True}, "ssl_context"),
        ({"ssl_context": "ca.pem"}, "ssl_context"),
        ({"proxy": None}, "proxy"),
        ({"proxy": 3128}, "proxy"),
        ({"proxy": "proxy:3128"}, "proxy"),
        ({"proxy": "socks5://proxy:1080"}, "proxy"),
        ({"proxy": "http://user@proxy:1"}, "proxy"),
        ({"headers": ["X-A"]}, "headers"),
        ({"headers": {"X-A": 1}}, "headers"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "headers"),
        ({"headers": {"X A": "a"}}, "headers"),
        ({"headers": {"Authorization": "Basic x"}}, "headers"),
        ({"headers": {"Accept-Encoding": "gzip"}}, "headers"),
        ({"headers": {"Sec-WebSocket-Protocol": "x"}}, "headers"),
    ],
)
def test_what_can_never_work_is_refused_by_its_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ChatClient("wss://chat.test", token="t", device_id="d", **options)
    with pytest.raises(ConfigurationError, match=name):
        ChatApi("https://chat.test", token="t", **options)


# --- addresses --------------------------------------------------------------------------------------------


@contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.2 where a connection is never answered: the queue of its listener is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    def resolve(host: object, *args: Any, **kwargs: Any) -> list[Any]:
        return infos if host in ("chat.test", b"chat.test") else real(host, *args, **kwargs)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize("dead", ["silent", "refusing"])
async def test_a_dead_address_first_costs_a_fraction_of_a_second(
    dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both() as server:
        port = int(server.url.rsplit(":", 1)[1])
        with black_hole() as silent:
            first = ("127.0.0.2", silent if dead == "silent" else 1)
            resolve_to(monkeypatch, first, ("127.0.0.1", port))
            with anyio.fail_after(5):
                await try_both(f"http://chat.test:{port}")
    assert len(server.requests) == 2


async def test_a_dead_proxy_address_first_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying() as proxy, both() as server:
        port = int(proxy.url.rsplit(":", 1)[1])
        with black_hole() as silent:
            resolve_to(monkeypatch, ("127.0.0.2", silent), ("127.0.0.1", port))
            with anyio.fail_after(5):
                await try_both(server.url, proxy=f"http://chat.test:{port}")
    assert len(server.requests) == 2


async def test_a_dead_address_alone_is_named_with_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as silent:
        with pytest.raises(ConnectFailedError, match=f"no answer from 127.0.0.2:{silent} in time") as caught:
            await WebSocketConnector(f"ws://127.0.0.2:{silent}", connect_timeout_s=0.1).connect(JSON)
        assert caught.value.kind == "timeout"


# --- what a client says of it -----------------------------------------------------------------------------


async def failing(url: str, **options: Any) -> DeadlineExceededError:
    """What `wait_connected` raises at a server that cannot be reached."""
    config = ClientConfig(connect_timeout_s=0.5, backoff_base_s=0.05, backoff_max_s=0.05)
    async with ChatClient(url, token="t", device_id="d", config=config, **options) as chat:
        with pytest.raises(DeadlineExceededError) as caught:
            await chat.wait_connected(1.0)
        assert chat.last_failure is not None and chat.last_failure is caught.value.__cause__
    return caught.value


async def test_each_way_to_fail_is_in_the_error_of_the_app(tmp_path: Path) -> None:
    with private_authority(tmp_path) as (context, _):
        async with both(context) as secure, both() as plain, proxying() as proxy:
            proxy.refuses_with = 403
            for url, options, words in (
                ("ws://127.0.0.1:1", {}, "nobody listens at 127.0.0.1:1"),
                ("ws://chat.invalid", {}, "the name of chat.invalid:80 is not known"),
                (plain.url.replace("http", "wss"), {}, "is it http:// or ws://?"),
                (secure.url.replace("https", "ws"), {}, "is it https:// or wss://?"),
                (secure.url, {}, "is not trusted"),
                (plain.url + "/prefix", {}, "at /prefix/v1/ws was answered with 200"),
                (plain.url, {"proxy": proxy.url}, "answered 403"),
            ):
                assert words in str(await failing(url, **options))
