"""What an ended connection leaves behind is freed at once, by reference counts: on a real uvicorn.

A server whose garbage is rarely collected, as `chatkit serve` is, would hold on to every cycle until then; so would one
with many connections, for which each collection is long.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import anyio
import httpx
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

from chatkit import ChatClient, asgi_app
from chatkit.gateway import fair_connection
from chatkit.gateway.framing import Framing
from chatkit.gateway.websocket_asgi import _Pump
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol
from chatkit.gateway.websocket_session import SessionProtocol
from chatkit.server.session import Session
from chatkit.wire.codec import JSON

from .both_ways import BOTH_WAYS
from .test_mounting import new_server, running

OF_A_CONNECTION = {
    Session,
    _Pump,
    ChatHttpProtocol,
    ChatWebSocketProtocol,
    ServerProtocol,
    SessionProtocol,
    Framing,
    Protocol,
}


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(params=BOTH_WAYS)
async def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(fair_connection, "LINGER_S", 0.1)
    config = uvicorn.Config(
        asgi_app(new_server()),
        port=0,
        log_config=None,
        http=ChatHttpProtocol,
        ws=ChatWebSocketProtocol,
        **BOTH_WAYS[request.param],
    )
    async with running(config) as number:
        yield number


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> Counter[str]:
    """What there is of connections."""
    return Counter(type(it).__name__ for it in gc.get_objects() if type(it) in OF_A_CONNECTION)


async def app(port: int) -> None:
    """An app that stays until it is logged in."""
    async with ChatClient(f"ws://127.0.0.1:{port}", token="ann", device_id="phone") as client:
        await client.wait_connected()


async def cut(port: int) -> None:
    """A peer that is gone without a word."""
    link = await websocket(port)
    await link.send('{"event":"HELLO","token":"ann","deviceId":"phone"}')
    await link.recv()
    link.transport.abort()


async def sent_away(port: int) -> None:
    """A peer that the server closes."""
    link = await websocket(port)
    await link.send('{"event":"HELLO"}')
    await until_closed(link)


async def broken(port: int) -> None:
    """A peer that sends what is no frame."""
    link = await websocket(port)
    link.transport.write(b"\xff\xff\xff\xff\xff\xff")
    await until_closed(link)


async def http(port: int) -> None:
    """Requests, one of which is refused."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/conversations")).status_code == 401


async def no_http(port: int) -> None:
    """What is no request."""
    async with await anyio.connect_tcp("127.0.0.1", port) as link:
        await link.send(b"NONSENSE\r\n\r\n")
        with suppress(anyio.EndOfStream):
            while True:
                await link.receive()


async def websocket(port: int) -> ClientConnection:
    return await connect(f"ws://127.0.0.1:{port}/v1/ws", subprotocols=[JSON.subprotocol], proxy=None)


async def until_closed(link: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            await link.recv()


@pytest.mark.parametrize("visit", [app, cut, sent_away, broken, http, no_http], ids=lambda it: it.__name__)
async def test_nothing_of_an_ended_connection_waits_for_the_collector(
    port: int, without_collector: None, visit: Callable[[int], Awaitable[None]]
) -> None:
    before = held()
    for _ in range(3):
        await visit(port)

    with anyio.move_on_after(5):
        while held() != before:
            await anyio.sleep(0.01)
    assert held() == before
