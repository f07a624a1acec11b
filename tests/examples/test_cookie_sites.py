"""Sites in four frameworks, each with its own users: log in by cookie, chat, a foreign page, log out."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from chatkit import (
    ChatApi,
    ChatClient,
    ChatServer,
    Disconnected,
    LoginRequest,
    MemoryConnector,
    MessageReceived,
    RequestLogin,
    UnauthenticatedError,
    open_store,
)

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
    one_each = httpx.Limits(max_keepalive_connections=0)  # uvicorn hangs up after an error
    return httpx.AsyncClient(base_url=url, trust_env=False, headers={"Origin": url}, limits=one_each)


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


async def hello(socket: ClientConnection, **more: str) -> dict[str, Any]:
    """The WELCOME."""
    await socket.send(json.dumps({"event": "HELLO", "deviceId": "browser", **more}))
    said = json.loads(await socket.recv())
    return next(it for it in ([said] if isinstance(said, dict) else said) if it["event"] == "WELCOME")


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
            assert (await hello(socket))["userId"] == "lina"
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


async def log_out(web: httpx.AsyncClient) -> int:
    return (await web.post("/logout", json={}, headers=await csrf(web))).status_code


async def codes_at_the_end(chat: ChatClient) -> list[int]:
    return [event.code async for event in chat.events() if isinstance(event, Disconnected)]


@pytest.mark.parametrize("name", SITES)
async def test_a_logout_that_failed_can_be_repeated(name: str, tmp_path: Path) -> None:
    with serving(name, folder=tmp_path, prefix="/chat", fault="revoke-fails-once") as url:
        async with site(url) as web:
            assert await log_in(web, "lina", PASSWORDS["lina"]) == 204
            _, cookie = cookie_of(web)
            async with ChatClient(
                f"{url}/chat", token=cookie, device_id="phone", headers={"origin": url}
            ) as lina:
                await lina.wait_connected()
                assert await log_out(web) == 500
                await lina.send("lobby", "Still here")
                assert await log_out(web) == 204
                with anyio.fail_after(20):
                    assert await codes_at_the_end(lina) == [4101, 4101]
                await lina.aclose()
            assert [it.name for it in web.cookies.jar if it.name != "csrftoken"] == [], (
                "and the cookie is gone"
            )
            assert await log_in(web, "lina", PASSWORDS["lina"]) == 204


async def test_own_login_can_repeat_a_logout_that_failed(tmp_path: Path) -> None:
    with serving("own_login", folder=tmp_path, fault="revoke-fails-once") as url:
        async with site(url) as web:
            session = (await web.post("/login", json={"user": "lina", "password": "lighthouse"})).json()[
                "token"
            ]
            bearer = {"Authorization": f"Bearer {session}"}
            async with ChatClient(url, token=session, device_id="phone") as lina:
                await lina.wait_connected()
                assert (await web.post("/logout", headers=bearer)).status_code == 500
                assert (await web.post("/logout", headers=bearer)).status_code == 204
                with anyio.fail_after(20):
                    assert await codes_at_the_end(lina) == [4101, 4101]
                await lina.aclose()


async def test_django_has_ended_the_session_before_the_chat_ends_the_login(tmp_path: Path) -> None:
    with serving("cookie_django", folder=tmp_path, prefix="/chat", fault="sessions-end-slowly") as url:
        async with site(url) as web:
            assert await log_in(web, "lina", PASSWORDS["lina"]) == 204
            _, key = cookie_of(web)
            async with ChatClient(
                f"{url}/chat", token=key, device_id="phone", headers={"origin": url}
            ) as lina:
                await lina.wait_connected()
                assert await log_out(web) == 204
                with anyio.fail_after(20):
                    assert await codes_at_the_end(lina) == [4101, 4101], "it does not come back meanwhile"
                await lina.aclose()
            with closing(sqlite3.connect(tmp_path / "site.db")) as database:
                assert database.execute("SELECT * FROM django_session").fetchall() == []


async def test_django_logs_nobody_out_within_a_transaction(tmp_path: Path) -> None:
    """The chat would find the session until the transaction ends, so the first logout shows it."""
    with serving("cookie_django", folder=tmp_path, prefix="/chat", fault="views-in-a-transaction") as url:
        async with site(url) as web:
            assert await log_in(web, "lina", PASSWORDS["lina"]) == 204
            assert await log_out(web) == 500
            assert (await web.get("/chat/v1/conversations")).status_code == 200


async def test_a_chat_login_ends_with_djangos_session(tmp_path: Path) -> None:
    with serving("cookie_django", folder=tmp_path, prefix="/chat") as url:
        async with site(url) as web:
            assert await log_in(web, "lina", PASSWORDS["lina"]) == 204
            with closing(sqlite3.connect(tmp_path / "site.db")) as database, database:
                database.execute("UPDATE django_session SET expire_date = datetime('now', '60 seconds')")
            async with await by_cookie(url, web, url) as socket:
                left_s = (await hello(socket))["expiresTs"] / 1000 - time.time()
                assert 30 < left_s <= 60


@pytest.mark.parametrize("name", [it for it in SITES if it != "cookie_django"])
async def test_another_password_ends_the_chats_resume_tokens(name: str, tmp_path: Path) -> None:
    with serving(name, folder=tmp_path, prefix="/chat") as url:
        async with site(url) as web:
            assert await log_in(web, "lina", PASSWORDS["lina"]) == 204
            async with await by_cookie(url, web, url) as socket:
                resume_token = (await hello(socket))["resumeToken"]
            async with await by_cookie(url, web, url) as socket:
                welcome = await hello(socket, resumeToken=resume_token)
                assert welcome["resumed"], "the login holds"
                resume_token = welcome["resumeToken"]
            load("site_users").SiteUsers(tmp_path / "site.db").put_now("lina", "another")
            async with await by_cookie(url, web, url) as socket:
                await socket.send(
                    json.dumps({"event": "HELLO", "deviceId": "browser", "resumeToken": resume_token})
                )
                with anyio.fail_after(20):
                    assert await closed(socket) == 4101


async def test_another_password_and_revoke_end_what_is_open(tmp_path: Path) -> None:
    users = load("site_users").SiteUsers(tmp_path / "site.db")
    users.put_now("lina", "first")
    cookie = await users.log_in("lina", "first")
    async with (
        ChatServer(
            store=open_store("memory://"),
            authenticate=RequestLogin(users.authenticate),
            authorize_resume=users.still_holds,
        ) as server,
        ChatClient("ws://host", token=cookie, device_id="phone", connector=MemoryConnector(server)) as lina,
    ):
        await lina.wait_connected()
        users.put_now("lina", "second")
        await server.revoke(user_id="lina")
        with anyio.fail_after(20):
            assert await codes_at_the_end(lina) == [4101, 4101]
        await lina.aclose()


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
    assert (await users.authenticate(LoginRequest(token=cookie))).user_id == "lina"
    await users.forget(cookie)
    assert await users.log_out(cookie) == "lina", "only what has ended is forgotten"
    with pytest.raises(UnauthenticatedError):
        await users.authenticate(LoginRequest(token=cookie))
    assert await users.log_in("omar", "fourth") is not None
    assert await users.log_out(cookie) == "lina", "a logout can be repeated"
    await users.forget(cookie)
    assert await users.log_out(cookie) is None
