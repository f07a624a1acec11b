"""The ASGI app alone, mounted in hosts, and in a host that forgot to enter the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import anyio
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from chatkit import ChatServer, asgi_app
from chatkit.ports import SystemIds
from chatkit.storage.memory import MemoryStore
from tests.server.harness import by_name


@asynccontextmanager
async def running(app: ASGIApp | uvicorn.Config) -> AsyncIterator[int]:
    """The app on a real port."""
    web = uvicorn.Server(
        app if isinstance(app, uvicorn.Config) else uvicorn.Config(app, port=0, log_config=None)
    )
    async with anyio.create_task_group() as tasks:
        with_signals_off(web)
        tasks.start_soon(web.serve)
        with anyio.fail_after(10):
            while not web.started:
                await anyio.lowlevel.checkpoint()
        try:
            yield web.servers[0].sockets[0].getsockname()[1]
        finally:
            web.should_exit = True


def with_signals_off(web: uvicorn.Server) -> None:
    web.capture_signals = nullcontext  # type: ignore[method-assign]  # pytest keeps its own


def new_server() -> ChatServer:
    return ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=by_name)


async def create(port: int, prefix: str) -> httpx.Response:
    async with httpx.AsyncClient(headers={"Authorization": "Bearer ann"}) as http:
        return await http.post(
            f"http://127.0.0.1:{port}{prefix}/v1/conversations",
            json={"type": "GROUP", "conversationId": "g-1", "memberIds": ["ben"]},
        )


async def hello(port: int, prefix: str) -> str:
    uri = f"ws://127.0.0.1:{port}{prefix}/v1/ws"
    async with connect(uri, subprotocols=["chatkit.v1.json"], proxy=None) as socket:
        await socket.send('{"event":"HELLO","token":"ann","deviceId":"phone"}')
        return str(await socket.recv())


def fastapi_host(server: ChatServer, prefix: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with server:
            yield

    host = FastAPI(lifespan=lifespan)
    host.mount(prefix, asgi_app(server))
    return host


def starlette_host(server: ChatServer, prefix: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with server:
            yield

    return Starlette(routes=[Mount(prefix, asgi_app(server))], lifespan=lifespan)


@pytest.mark.parametrize("host", [fastapi_host, starlette_host])
@pytest.mark.parametrize("prefix", ["/chat", "/a/b"])
async def test_mounted_under_a_prefix(host, prefix: str) -> None:
    async with running(host(new_server(), prefix)) as port:
        created = await create(port, prefix)
        async with httpx.AsyncClient() as http:
            document = (await http.get(f"http://127.0.0.1:{port}{prefix}/v1/openapi.json")).json()

        assert created.status_code == 201
        assert "WELCOME" in await hello(port, prefix)
        assert document["servers"] == [{"url": prefix}]


async def test_alone_its_own_lifespan_enters_the_server() -> None:
    server = new_server()
    async with running(asgi_app(server)) as port:
        assert (await create(port, "")).status_code == 201
        assert "WELCOME" in await hello(port, "")
    assert not server.running


async def test_a_host_that_did_not_enter_the_server_gets_a_clear_refusal(caplog) -> None:
    host = FastAPI()
    host.mount("/chat", asgi_app(new_server()))
    async with running(host) as port:
        refused = await create(port, "/chat")
        with pytest.raises(ConnectionClosed) as closed:
            await hello(port, "/chat")

    assert refused.status_code == 503
    assert refused.json()["code"] == "UNAVAILABLE"
    assert "async with server" in refused.json()["detail"]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert "async with server" in closed.value.rcvd.reason
    assert [it.levelname for it in caplog.records if "daphne" in it.message] == ["ERROR"], "said once"


async def test_an_endpoint_that_fails_closes_with_1011(caplog) -> None:
    app = asgi_app(new_server())

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_nothing() -> Message:
            message = await receive()
            return {"type": message["type"]} if message["type"] == "websocket.receive" else message

        await app(scope, receive_nothing, send)

    async with running(broken) as port:
        with pytest.raises(ConnectionClosed) as closed:
            await hello(port, "")

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "the server failed")
    assert "its connection failed" in caplog.text


async def test_openapi_describes_every_request_and_resolves() -> None:
    app = asgi_app(new_server())
    routes = [it for it in app.routes if isinstance(it, Route) and it.path.startswith("/v1/")]
    async with running(app) as port, httpx.AsyncClient() as http:
        document = (await http.get(f"http://127.0.0.1:{port}/v1/openapi.json")).json()
        unknown = await http.get(f"http://127.0.0.1:{port}/v1/nothing")
        wrong_method = await http.put(f"http://127.0.0.1:{port}/v1/sync")

    operations = [(method, path) for path, item in document["paths"].items() for method in item]
    references = {
        reference.removeprefix("#/components/schemas/")
        for reference in str(document).split("'")
        if reference.startswith("#/components/schemas/")
    }
    assert document["openapi"].startswith("3.1")
    others = {"/v1/ws", "/v1/openapi.json", "/v1/client/{name}"}
    assert {path for _, path in operations} == {it.path for it in routes} - others
    assert len(operations) == len([it for it in routes if it.path not in others])
    assert references <= set(document["components"]["schemas"])
    assert (unknown.status_code, unknown.json()["code"]) == (404, "NOT_FOUND")
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, "BAD_REQUEST")
    assert wrong_method.headers["content-type"] == "application/problem+json"
