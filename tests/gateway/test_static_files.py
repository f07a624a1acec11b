"""The JavaScript client below `/v1/client`: for anybody, mounted or alone, and for pages of allowed origins."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from chatkit import ChatServer, asgi_app
from chatkit.ports import SystemIds
from chatkit.storage.memory import MemoryStore
from chatkit.web import client_files

ENTRY = "/v1/client/chatkit.js"


def _client(*, prefix: str = "", origins: tuple[str, ...] = ()) -> httpx.AsyncClient:
    server = ChatServer(store=MemoryStore(ids=SystemIds()), authenticate=_nobody)
    app = Starlette(routes=[Mount(prefix or "/", asgi_app(server, origins=origins))])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def _nobody(token: str) -> None:
    return None


@pytest.mark.parametrize("prefix", ["", "/below/a/prefix"])
async def test_every_module_comes_without_a_login(prefix: str) -> None:
    async with _client(prefix=prefix) as client:
        for name, content in client_files().items():
            answer = await client.get(f"{prefix}/v1/client/{name}")
            assert (answer.status_code, answer.content) == (200, content)
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
            assert answer.headers["cache-control"] == "no-cache"
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_a_browser_holds_is_not_sent_again() -> None:
    async with _client() as client:
        etag = (await client.get(ENTRY)).headers["etag"]
        again = await client.get(ENTRY, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("origins", "allowed"), [((), None), (("https://a.example",), "https://a.example"), (("*",), "*")]
)
async def test_pages_of_allowed_origins_may_import_it(origins: tuple[str, ...], allowed: str | None) -> None:
    async with _client(origins=origins) as client:
        answer = await client.get(ENTRY, headers={"Origin": "https://a.example"})
        other = await client.get(ENTRY, headers={"Origin": "https://b.example"})
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert other.headers.get("access-control-allow-origin") in {None, "*"}


@pytest.mark.parametrize("path", ["/v1/client/", "/v1/client/package.json", "/v1/client/..%2f__init__.py"])
async def test_nothing_but_the_modules_is_served(path: str) -> None:
    async with _client() as client:
        assert (await client.get(path)).status_code == 404
