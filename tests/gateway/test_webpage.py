"""The page's routes: headers, revalidation, prefixes, and what they must leave to the app behind them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from chatkit.gateway.webpage import AT_THE_ROOT, CONTENT_SECURITY_POLICY, web_page_routes, with_web_page
from chatkit.web import assets, client_files

SDK = "../v1/client/chatkit.js"
"""The one module that the page takes from the SDK."""


async def _api(request: Request) -> Response:
    return PlainTextResponse(f"api {request.url.path}")


def _chat() -> Starlette:
    return Starlette(routes=[Route("/v1/{rest:path}", _api, methods=["GET", "POST"])])


def _client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.mark.parametrize("name", sorted(assets()))
async def test_every_file_is_served_with_strict_headers(name: str) -> None:
    path = AT_THE_ROOT.get(name, f"/static/{name}")
    async with _client(with_web_page(_chat())) as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.content == assets()[name]
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


async def test_media_types_are_what_browsers_demand() -> None:
    async with _client(with_web_page(_chat())) as client:
        found = [(await client.get(path)).headers["content-type"] for path in ("/", "/static/main.js")]
    assert found == ["text/html; charset=utf-8", "text/javascript; charset=utf-8"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}'])
async def test_a_known_file_is_not_sent_again(form: str) -> None:
    async with _client(with_web_page(_chat())) as client:
        etag = (await client.get("/static/chat.css")).headers["etag"]
        again = await client.get("/static/chat.css", headers={"If-None-Match": form.format(etag)})
        changed = await client.get("/static/chat.css", headers={"If-None-Match": '"other"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert changed.status_code == 200


async def test_head_is_answered_and_other_methods_are_refused() -> None:
    async with _client(with_web_page(_chat())) as client:
        head, post = await client.head("/"), await client.post("/")
    assert (head.status_code, head.content) == (200, b"")
    assert post.status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/nothing.js",
        "/index.html",
        "/static/worker.js",
        "/static/..%2f__init__.py",
    ],
)
async def test_nothing_but_the_files_is_served(path: str) -> None:
    async with _client(with_web_page(_chat())) as client:
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("prefix", ["", "/chat", "/deep/below"])
async def test_page_and_api_share_one_address_under_any_prefix(prefix: str) -> None:
    app = Starlette(routes=[Mount(prefix or "/", with_web_page(_chat()))])
    async with _client(app) as client:
        page = await client.get(f"{prefix}/")
        script = await client.get(f"{prefix}/static/main.js")
        api = await client.post(f"{prefix}/v1/conversations")
    assert page.headers["content-type"].startswith("text/html")
    assert script.content == assets()["main.js"]
    assert api.text == f"api {prefix}/v1/conversations"


async def test_routes_fit_beside_others_in_one_app() -> None:
    app = Starlette(routes=[*_chat().routes, *web_page_routes()])
    async with _client(app) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/v1/x")).text == "api /v1/x"


async def test_the_lifespan_is_the_apps_own() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, str]:
        return next(messages)

    async def send(message: dict[str, str]) -> None:
        seen.append(message["type"])

    await with_web_page(Starlette(lifespan=lifespan))({"type": "lifespan"}, receive, send)
    assert seen == ["in", "lifespan.startup.complete", "out", "lifespan.shutdown.complete"]


def test_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    html = assets()["index.html"].decode()
    assert re.findall(r"<script(?![^>]*\bsrc=\"static/)", html) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", html) == []
    links = re.findall(r"\b(?:src|href)=\"([^\"]*)\"", html)
    assert links
    assert [link for link in links if not link.startswith(("static/", "#"))] == []


@pytest.mark.parametrize("name", sorted(name for name in assets() if name.endswith((".js", ".css"))))
def test_files_ask_for_nothing_from_elsewhere_and_parse_no_markup(name: str) -> None:
    source = assets()[name].decode()
    foreign = [
        url for url in re.findall(r"\bhttps?://[^\s\"'`)]+", source) if url != "http://www.w3.org/2000/svg"
    ]
    assert foreign == []
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source)
        == []
    )
    imported = re.findall(r"\bfrom \"([^\"]+)\"", source)
    assert [path for path in imported if not path.startswith("./") and path != SDK] == []


async def test_the_worker_is_told_of_every_file_that_the_page_needs_and_what_it_holds() -> None:
    async with _client(with_web_page(_chat())) as client:
        listed = (await client.get("/static/files.js")).text
        worker = await client.get("/worker.js")
    version, files = re.fullmatch(r'const VERSION = "(\w+)";\nconst FILES = (.*);\n', listed).groups()  # type: ignore[union-attr]
    own = {
        AT_THE_ROOT.get(name, f"/static/{name}").removeprefix("/"): content
        for name, content in assets().items()
    }
    needed = {
        **{path: content for path, content in own.items() if not path.endswith("worker.js")},
        **{f"v1/client/{name}": content for name, content in client_files().items()},
    }
    digests = {
        path: base64.b64encode(hashlib.sha256(content).digest()).decode() for path, content in needed.items()
    }
    assert json.loads(files) == {path: f"sha256-{digest}" for path, digest in digests.items()}
    assert len(version) == 16
    assert re.findall(r'"([^"]+)"', worker.text) == [
        "static/files.js",
        "static/offline_worker.js",
        "static/push_worker.js",
    ]


async def test_the_manifest_names_icons_that_are_there() -> None:
    async with _client(with_web_page(_chat())) as client:
        answer = await client.get("/static/chat.webmanifest")
        assert answer.headers["content-type"] == "application/manifest+json"
        for one in answer.json()["icons"]:
            icon = await client.get(f"/static/{one['src']}")
            assert (icon.status_code, icon.headers["content-type"]) == (200, one["type"])
            if one["type"] == "image/png":
                width = int.from_bytes(icon.content[16:20], "big")
                assert one["sizes"] == f"{width}x{width}"
