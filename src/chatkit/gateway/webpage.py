"""The web page beside the chat app: its files, with strict headers, at the root of whatever serves the API.

No logic of chat and no login lives here: the page speaks the same wire contract as every client. Used by
`chatkit demo --serve`, by the reference server in `examples/` and by hosts that want the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..web import assets, client_files
from .static_files import file_route

AT_THE_ROOT: Mapping[str, str] = {"index.html": "/", "worker.js": "/worker.js"}
"""Files that are not below `/static`: the page, and its service worker, whose scope is what lies beside it."""

_OF_THE_WORKER = {"worker.js", "push_worker.js", "offline_worker.js"}
"""A browser keeps these itself."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "img-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing inline, nothing from elsewhere, nowhere to send a form, no frame around the page."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def web_page_routes() -> list[Route]:
    """Routes of the page: `/`, `/worker.js` and `/static/NAME`, for GET and HEAD, answered from memory.

    The page finds the API below its own address: put the routes where `/v1/...` of the chat app is reached, under
    any prefix. Hosts that mount the chat app as a whole use `with_web_page`.

    Returns:
        Starlette routes.

    Raises:
        OSError: The package's files are missing; a retry cannot help.

    Source: docs/embedding.md
    """
    page = assets()
    served = {**page, "files.js": _list_of_files(page)}
    return [file_route(_path_of(name), name, content, HEADERS) for name, content in sorted(served.items())]


def _path_of(name: str) -> str:
    return AT_THE_ROOT.get(name, f"/static/{name}")


def _list_of_files(page: Mapping[str, bytes]) -> bytes:
    """What the page consists of, for its service worker: each path below it with its hash, the SDK's modules too."""
    kept = {
        _path_of(name).removeprefix("/"): content
        for name, content in page.items()
        if name not in _OF_THE_WORKER
    }
    kept |= {f"v1/client/{name}": content for name, content in client_files().items()}
    hashes = {
        path: f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"
        for path, content in sorted(kept.items())
    }
    version = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:16]
    return f"const VERSION = {json.dumps(version)};\nconst FILES = {json.dumps(hashes)};\n".encode()


def with_web_page(app: ASGIApp) -> ASGIApp:
    """The same app with the page at its root; everything else, the lifespan included, reaches `app` untouched.

    Args:
        app: What `chatkit.asgi_app(server)` returned, or any ASGI app that serves `/v1/...` of chatkit.

    Returns:
        An ASGI app to run alone or to mount under any prefix; the lifespan is the given app's.

    Raises:
        OSError: The package's files are missing; a retry cannot help.

    Source: docs/embedding.md
    """
    routes = {route.path: route for route in web_page_routes()}

    async def page_or_app(scope: Scope, receive: Receive, send: Send) -> None:
        route = routes.get(_path(scope)) if scope["type"] == "http" else None
        if route is None:
            await app(scope, receive, send)
        else:
            await route.handle(scope, receive, send)

    return page_or_app


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/"))
