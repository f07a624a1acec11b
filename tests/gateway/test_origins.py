"""Which pages may connect: by token any unless a list is given, by cookie only those on it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chatkit import (
    ChatServer,
    ConfigurationError,
    Identity,
    LoginRequest,
    RequestLogin,
    UnauthenticatedError,
    asgi_app,
)
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol
from chatkit.ports import SystemIds
from chatkit.storage.memory import MemoryStore

from .test_mounting import new_server, running

HOME = "https://chat.example.org"
LOOK_ALIKES = [
    "https://evil.example",
    "https://chat.example.org.evil.example",
    "https://chat.example.org:444",
    "https://chat.example.orgx",
    "https://xchat.example.org",
    "http://chat.example.org",
    "https://chat.example.org/",
    "null",
    "",
]


async def by_cookie(request: LoginRequest) -> Identity:
    user_id = request.token or request.cookies.get("session")
    if not user_id:
        raise UnauthenticatedError("log in first")
    assert request.client_address == "127.0.0.1"
    assert request.headers["host"].startswith("127.0.0.1")
    return Identity(user_id)


def cookie_server() -> ChatServer:
    return ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=RequestLogin(by_cookie))


@asynccontextmanager
async def serving(server: ChatServer, **options: Any):
    """The app on a port, by our protocols."""
    config = uvicorn.Config(
        asgi_app(server, **options), port=0, log_config=None, http=ChatHttpProtocol, ws=ChatWebSocketProtocol
    )
    async with running(config) as port:
        yield port


async def handshake(port: int, hello: str, **headers: str) -> str:
    """What a connection with these headers hears first."""
    uri = f"ws://127.0.0.1:{port}/v1/ws"
    more = [(name.replace("_", "-"), value) for name, value in headers.items()]
    async with connect(uri, subprotocols=["chatkit.v1.json"], additional_headers=more, proxy=None) as link:
        await link.send(hello)
        return str(await link.recv())


BY_COOKIE = '{"event":"HELLO","deviceId":"phone"}'
BY_TOKEN = '{"event":"HELLO","deviceId":"phone","token":"ann"}'


async def test_the_cookie_of_a_listed_page_logs_in() -> None:
    async with serving(cookie_server(), origins=[HOME]) as port:
        for origin in (HOME, "HTTPS://Chat.Example.Org"):
            assert '"userId":"ann"' in await handshake(port, BY_COOKIE, Cookie="session=ann", Origin=origin)
        assert '"userId":"ben"' in await handshake(
            port, BY_TOKEN.replace("ann", "ben"), Cookie="session=ann", Origin=HOME
        )
        assert "UNAUTHENTICATED" in await handshake(port, BY_COOKIE, Origin=HOME)


@pytest.mark.parametrize("origin", [*LOOK_ALIKES, None])
async def test_a_cookie_from_anywhere_else_is_refused(origin: str | None) -> None:
    headers = {"Cookie": "session=ann"} | ({} if origin is None else {"Origin": origin})
    async with serving(cookie_server(), origins=[HOME]) as port:
        with pytest.raises(InvalidStatus) as refused:
            await handshake(port, BY_COOKIE, **headers)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
            body = {"type": "GROUP", "memberIds": []}
            posted = await http.post("/v1/conversations", json=body)
            read = await http.get("/v1/conversations")

    assert refused.value.response.status_code == 403
    assert posted.status_code == 403
    assert posted.json()["code"] == "FORBIDDEN"
    assert read.status_code == (200 if origin is None else 403)  # a page's own GET has no Origin


async def test_the_cookie_of_a_listed_page_is_good_for_requests() -> None:
    async with serving(cookie_server(), origins=[HOME]) as port:
        headers = {"Cookie": "session=ann", "Origin": HOME}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
            made = await http.post("/v1/conversations", json={"type": "GROUP", "memberIds": ["ben"]})
    assert made.status_code == 201
    assert made.headers["access-control-allow-origin"] == HOME
    assert made.headers["access-control-allow-credentials"] == "true"


async def test_by_token_any_page_connects_until_there_is_a_list() -> None:
    async with serving(new_server()) as port:
        assert "WELCOME" in await handshake(port, BY_TOKEN, Origin="https://anywhere.example")
    async with serving(new_server(), origins=[HOME]) as port:
        assert "WELCOME" in await handshake(port, BY_TOKEN, Origin=HOME)
        assert "WELCOME" in await handshake(port, BY_TOKEN)  # no browser
        for origin in LOOK_ALIKES:
            with pytest.raises(InvalidStatus):
                await handshake(port, BY_TOKEN, Origin=origin)


async def test_without_request_login_hello_needs_a_token() -> None:
    async with serving(new_server()) as port:
        assert "needs either" in await handshake(port, BY_COOKIE, Cookie="session=ann")


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_a_listed_page_may_send_every_request_of_the_contract() -> None:
    app = asgi_app(new_server(), origins=[HOME])
    refused = []
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://chat.example.org"
    ) as http:
        document = (await http.get("/v1/openapi.json")).json()
        asked = [(path, method) for path, item in document["paths"].items() for method in item]
        for path, method in asked:
            headers = {"Origin": HOME, **PREFLIGHT, "Access-Control-Request-Method": method.upper()}
            if (await http.options(path, headers=headers)).status_code != 200:
                refused.append((method, path))

    assert {method for _, method in asked} == {"get", "post", "put", "patch", "delete"}
    assert refused == []


async def test_cors_is_answered_to_listed_pages_only() -> None:
    async with (
        serving(new_server(), origins=[HOME]) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        asked = await http.options("/v1/messages/send", headers={"Origin": HOME, **PREFLIGHT})
        foreign = await http.options("/v1/messages/send", headers={"Origin": LOOK_ALIKES[0], **PREFLIGHT})
        refused = await http.get("/v1/conversations", headers={"Origin": HOME})

    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == HOME
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in asked.headers
    assert foreign.status_code == 400
    assert "access-control-allow-origin" not in foreign.headers
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, HOME)


@pytest.mark.parametrize("origins", [[], ["*"], [HOME, "*"]])
def test_cookies_need_a_list_without_everybody_on_it(origins: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="origins"):
        asgi_app(cookie_server(), origins=origins)


@pytest.mark.parametrize("origin", ["chat.example.org", f"{HOME}/", f"{HOME}/x", "ws://a", "https://a@b", ""])
def test_what_is_no_origin_is_refused_at_set_up(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin"):
        asgi_app(new_server(), origins=[origin])


def test_a_single_text_is_no_list() -> None:
    with pytest.raises(ConfigurationError, match="a list"):
        asgi_app(new_server(), origins=HOME)


async def test_an_unknown_subprotocol_is_echoed_so_that_browsers_see_the_close_code() -> None:
    async with serving(new_server()) as port:
        uri = f"ws://127.0.0.1:{port}/v1/ws"
        async with connect(uri, subprotocols=["chatkit.v9.json", "other"], proxy=None) as link:
            assert link.subprotocol == "chatkit.v9.json"
            with pytest.raises(ConnectionClosed) as closed:
                await link.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4204
