"""Sites in four frameworks, each with its own users: log in by cookie, chat, a foreign page, log out."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from chatkit import ChatApi, ChatClient, Disconnected, MessageReceived, UnauthenticatedError

from .example import load, serving

SITES = ("cookie_login", "cookie_fastapi", "cookie_litestar", "cookie_django")
PASSWORDS = {"lina": "lighthouse", "omar": "orchard"}
FOREIGN = "https://evil.example"


async def csrf(web: httpx.AsyncClient) -> dict[str, str]:
    """What the page sends along where the framework asks for it, which Django does."""
    page = await web.get("/")
    assert 'import { ChatClient, contentOf } from "/chat/v1/client/chatkit.js";' in page.text
    found = re.search(r'<meta name="csrf" content="(\w+)">', page.text)
    return {"X-CSRFToken": found[1] if found else ""}


async def log_in(web: httpx.AsyncClient, user: str, password: str) -> int:
    body = {"user": user, "password": password}
    return (await web.post("/login", json=body, headers=await csrf(web))).status_code


async def refused_by_csrf(web: httpx.AsyncClient, path: str, body: dict[str, str]) -> bool:
    """Whether what pages elsewhere can make a browser send is refused: a form whose text is JSON, and a script's."""
    as_form = {"Content-Type": "text/plain", "Origin": FOREIGN}
    words = json.dumps({**body, "x": "=y"})
    answers = [
        await web.post(path, content=words, headers=as_form),
        await web.post(path, content=words, headers={**as_form, "Origin": web.headers["Origin"]}),
        await web.post(path, json=body, headers={"Origin": FOREIGN}),
        await web.post(path, json=body, headers={"Origin": "null"}),
    ]
    return [it.status_code // 100 for it in answers] == [4] * 4


def site(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, headers={"Origin": url})


def cookie_of(web: httpx.AsyncClient) -> tuple[str, str]:
    """Name and value of the login."""
    ((name, value),) = ((it.name, it.value) for it in web.cookies.jar if it.name != "csrftoken")
    return name, value or ""


async def by_cookie(url: str, web: httpx.AsyncClient, origin: str) -> ClientConnection:
    """What a browser opens on a page of that origin: it sends the cookie whatever page asks."""
    return await connect(
        url.replace("http", "ws") + "/chat/v1/ws",
        subprotocols=[Subprotocol("chatkit.v1.json")],
        origin=Origin(origin),
        additional_headers={"Cookie": "=".join(cookie_of(web))},
        proxy=None,
    )


async def logged_in_as(socket: ClientConnection) -> str:
    await socket.send('{"event":"HELLO","deviceId":"browser"}')
    said = json.loads(await socket.recv())
    welcome = next(it for it in ([said] if isinstance(said, dict) else said) if it["event"] == "WELCOME")
    return str(welcome["userId"])


async def next_text(chat: ChatClient) -> str:
    async for event in chat.events():
        match event:
            case MessageReceived(message=message) if message.type == "TEXT":
                return message.text
    raise AssertionError("the client stopped")


async def closed(socket: ClientConnection) -> int:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()
    assert socket.close_code is not None
    return socket.close_code


@pytest.mark.parametrize("name", SITES)
async def test_a_site_logs_in_its_own_users(name: str, tmp_path: Path) -> None:
    with serving(name, folder=tmp_path, prefix="/chat") as url, anyio.fail_after(60):
        async with site(url) as lina_web, site(url) as omar_web:
            assert (await lina_web.get("/chat/v1/conversations")).status_code == 401
            assert await refused_by_csrf(lina_web, "/login", {"user": "omar", "password": PASSWORDS["omar"]})
            assert not lina_web.cookies.jar or name == "cookie_django", "a page elsewhere logs nobody in"
            assert await log_in(lina_web, "lina", "orchard") == 401
            assert await log_in(lina_web, "nobody", "orchard") == 401
            assert await log_in(lina_web, "lina", PASSWORDS["lina"]) == 204
            assert await log_in(omar_web, "omar", PASSWORDS["omar"]) == 204

            assert await refused_by_csrf(lina_web, "/logout", {})
            socket = await by_cookie(url, lina_web, url)
            assert await logged_in_as(socket) == "lina"
            with pytest.raises(InvalidStatus) as foreign:
                await by_cookie(url, lina_web, FOREIGN)
            assert foreign.value.response.status_code == 403
            body = {"type": "GROUP", "memberIds": ["omar"]}
            assert (await lina_web.post("/chat/v1/conversations", json=body)).status_code == 201
            from_there = await lina_web.post("/chat/v1/conversations", json=body, headers={"Origin": FOREIGN})
            assert from_there.status_code == 403

            headers = {"origin": url}
            _, of_lina = cookie_of(lina_web)
            _, of_omar = cookie_of(omar_web)
            async with (
                ChatClient(f"{url}/chat", token=of_lina, device_id="phone", headers=headers) as lina,
                ChatClient(f"{url}/chat", token=of_omar, device_id="phone", headers=headers) as omar,
            ):
                await lina.send("lobby", "Hello")
                assert await next_text(omar) == "Hello"

                old = dict([cookie_of(lina_web)])
                assert (
                    await lina_web.post("/logout", json={}, headers=await csrf(lina_web))
                ).status_code == 204
                assert await closed(socket) == 4101
                ended = [event.code async for event in lina.events() if isinstance(event, Disconnected)]
                assert ended == [4101, 4101], "neither the login nor a resume token holds"
                await omar.send("lobby", "Are you there?")
                await lina.aclose()
            async with site(url) as afterwards:
                afterwards.cookies.update(old)
                assert (await afterwards.get("/chat/v1/conversations")).status_code == 401
            async with ChatApi(f"{url}/chat", token=of_lina) as api:
                with pytest.raises(UnauthenticatedError):
                    await api.conversations()


async def test_site_users_adds_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("site_users")
    passwords = iter(["first", "second"])
    monkeypatch.setattr(script.getpass, "getpass", lambda _: next(passwords))
    script.main(str(tmp_path / "site.db"), "lina")
    users = script.SiteUsers(tmp_path / "site.db")
    before = await users.log_in("lina", "first")
    assert before is not None
    script.main(str(tmp_path / "site.db"), "lina")
    assert await users.log_in("lina", "first") is None
    assert await users.log_out(before) is None, "another password ends what was logged in"
    await users.add_missing({"lina": "third", "omar": "fourth"})
    assert await users.log_in("omar", "fourth") is not None
    cookie = await users.log_in("lina", "second")
    assert await users.log_out(cookie) == "lina"
    assert await users.log_out(cookie) is None
