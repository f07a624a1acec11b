"""Below `/v1/admin/`: there for administrators, for everybody else as any path that leads nowhere."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chatkit import ChatServer, asgi_app
from chatkit.errors import UnauthenticatedError, UnavailableError
from chatkit.ports import SystemIds
from chatkit.storage.memory import MemoryStore
from chatkit.types import Identity

from .test_mounting import running, starlette_host

SCOPES = {
    "ann": "chat",
    "ben": "",
    "eve": "chat:administrator xchat:admin chat:admin-not chat\tchat:admin",
    "adm": "chat chat:admin",
}


async def by_scope(token: str) -> Identity:
    """The token is the user's name."""
    if token == "down":
        raise UnavailableError("the login service does not answer")
    if token not in SCOPES:
        raise UnauthenticatedError("the token is not valid")
    return Identity(token, scope=SCOPES[token])


def new_server() -> ChatServer:
    return ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=by_scope)


def asking(user: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(headers={"Authorization": f"Bearer {user}"})


def bytes_of(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [it for it in response.headers.multi_items() if it[0] != "date"]
    return response.status_code, response.content, headers


STRANGERS = {
    "nobody": {},
    "no token": {"Authorization": "Basic YWRtOg=="},
    "a bad token": {"Authorization": "Bearer zed"},
    "a token that is too long": {"Authorization": "Bearer " + "x" * 20_000},
    **{name: {"Authorization": f"Bearer {name}"} for name in ("ann", "ben", "eve")},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
async def test_for_others_these_paths_do_not_exist(headers: dict[str, str]) -> None:
    async with running(asgi_app(new_server())) as port, httpx.AsyncClient(headers=headers) as http:
        base = f"http://127.0.0.1:{port}/v1"
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
            unknown = bytes_of(await http.request(method, f"{base}/nothing"))
            assert unknown[0] == 404
            for path in ("openapi.json", "nothing", "", "messages/m-1", "openapi.json?token=x"):
                found = bytes_of(await http.request(method, f"{base}/admin/{path}"))
                assert found == unknown, (method, path)


async def test_of_every_request_that_there_is_others_learn_nothing() -> None:
    """Made from the list itself: a new request is in it."""
    async with running(asgi_app(new_server())) as port:
        base = f"http://127.0.0.1:{port}"
        async with asking("adm") as http:
            paths = (await http.get(f"{base}/v1/admin/openapi.json")).json()["paths"]
        requests = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        assert len(requests) > 1
        for headers in STRANGERS.values():
            async with httpx.AsyncClient(headers=headers) as http:
                for method, path in requests:
                    named = re.sub("{.*?}", "1-e1-1", path)
                    unknown = await http.request(method, f"{base}/v1/nothing", content=b"{}")
                    found = await http.request(method, f"{base}{named}", content=b"{}")
                    assert bytes_of(found) == bytes_of(unknown), (method, path)


async def test_a_websocket_there_is_refused_as_anywhere() -> None:
    async with running(asgi_app(new_server())) as port:
        refused = []
        for path in ("nothing", "admin/openapi.json"):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{port}/v1/{path}", proxy=None)
            refused.append((caught.value.response.status_code, bytes(caught.value.response.body)))
    assert refused[0] == refused[1]


async def test_an_administrator_reads_what_there_is() -> None:
    async with running(asgi_app(new_server())) as port, asking("adm") as http:
        base = f"http://127.0.0.1:{port}/v1"
        document = (await http.get(f"{base}/admin/openapi.json")).json()
        public = (await http.get(f"{base}/openapi.json")).json()
        missing = await http.get(f"{base}/admin/nothing")
        wrong_method = await http.put(f"{base}/admin/openapi.json")

    assert "/v1/admin/openapi.json" in document["paths"]
    assert not [path for path in public["paths"] if "admin" in path]
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "GET, HEAD")


async def test_nobody_knows_now_is_not_taken_for_no() -> None:
    async with running(asgi_app(new_server())) as port, asking("down") as http:
        answer = await http.get(f"http://127.0.0.1:{port}/v1/admin/openapi.json")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


@pytest.mark.parametrize("prefix", ["/chat", "/v1/admin"])
async def test_mounted_in_a_host(prefix: str) -> None:
    host: Starlette = starlette_host(new_server(), prefix)
    assert isinstance(host.routes[0], Mount)
    async with running(host) as port, asking("adm") as http:
        answer = await http.get(f"http://127.0.0.1:{port}{prefix}/v1/admin/openapi.json")
    assert answer.json()["servers"] == [{"url": prefix}]
