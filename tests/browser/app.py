"""A real server with the web page at `/` and again below `/below/a/prefix/`, as a process for the browser tests.

`python -m tests.browser.app --port 0 --db PATH [--push KEY AUTHORITY] [--origin ORIGIN] [--edition TEXT]` prints
`ready PORT` once it takes messages. The secret comes from CHATKIT_JWT_SECRET. The JavaScript tests are served too, so
that the browser can import them.
"""

from __future__ import annotations

import argparse
import os
import ssl
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from chatkit import ChatServer, ServerConfig, asgi_app, jwt_authenticator, open_archive, open_store
from chatkit.gateway import webpage
from chatkit.push.webpush import WebPushProvider
from chatkit.server.delivery.config import DeliveryConfig
from chatkit.server.limits import Limits

PREFIX = "/below/a/prefix"
UNITS = Path(__file__).with_name("units")
ROOT = Path(__file__).parents[2]
MODULES = ("tests/javascript", "src/chatkit/web/client", "spec")
"""Folders that are served as they lie here, so that tests import the same modules in Node.js and in a browser."""


OWN_PAGES = {
    "blank": '<!doctype html><title>blank</title><link rel="icon" href="data:,">',
}
"""Pages of a host beside the API, at `/own/NAME`."""


async def own_page(request: Request) -> HTMLResponse:
    """One of `OWN_PAGES`."""
    return HTMLResponse(OWN_PAGES[request.path_params["name"]])


class _Announcing(uvicorn.Server):
    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"ready {port}", flush=True)


def web_push(key: str, authority: str) -> WebPushProvider:
    """Pushes to a push service on this machine that this authority vouches for."""
    trusting = ssl.create_default_context(cafile=authority)
    return WebPushProvider(
        key=Path(key).read_text(),
        contact="mailto:ops@example.org",
        services=None,
        private_addresses=True,
        ssl_context=trusting,
    )


def build(database: str, push: WebPushProvider | None, origins: list[str]) -> Starlette:
    """One server under two addresses; its lifespan is the root app's. Pages of `origins` may use it."""
    server = ChatServer(
        store=open_store(f"sqlite:///{database}"),
        authenticate=jwt_authenticator(os.environ["CHATKIT_JWT_SECRET"]),
        config=ServerConfig(limits=Limits.unlimited(), search=True),
        blobs=open_archive(f"dir://{Path(database).absolute().parent}/files"),
        push=None if push is None else {"browsers": push},
        delivery=DeliveryConfig(push_after_s=0, poll_s=0.05),
    )
    chat = asgi_app(server, origins=origins)
    page = webpage.with_web_page(chat)
    modules = [Mount(f"/{folder}", StaticFiles(directory=ROOT / folder)) for folder in MODULES]
    own = Route("/own/{name}", own_page)
    routes = [
        own,
        Mount("/units", StaticFiles(directory=UNITS)),
        *modules,
        Mount(PREFIX, page),
        Mount("/", page),
    ]
    return Starlette(routes=routes, lifespan=lambda _: chat.router.lifespan_context(chat))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", required=True)
    parser.add_argument(
        "--edition", default="", help="ends the style sheet, as a later version of the page has others"
    )
    parser.add_argument("--origin", action="append", default=[])
    parser.add_argument("--push", nargs=2, metavar=("KEY", "AUTHORITY"), help="files; without, no push")
    options = parser.parse_args()
    page = webpage.assets()
    later = {**page, "chat.css": page["chat.css"] + options.edition.encode()}
    webpage.assets = lambda: later
    push = None if options.push is None else web_push(*options.push)
    config = uvicorn.Config(
        build(options.db, push, options.origin), host="127.0.0.1", port=options.port, log_level="warning"
    )
    _Announcing(config).run()


if __name__ == "__main__":
    main()
