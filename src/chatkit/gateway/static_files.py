"""Files of the package over HTTP, from memory and with revalidation; and the JavaScript SDK as such files.

Used by `http_api`, which serves the SDK below `/v1/client`, and by `webpage`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import NotFoundError
from ..web import client_files
from .problems import NO_SUCH_PATH, problem

_MEDIA_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webmanifest": "application/manifest+json",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


def client_route() -> Route:
    """The modules of the SDK at `/v1/client/NAME`. They are for anybody: no login, and CORS as the app has it.

    Raises:
        OSError: The package's files are missing; a retry cannot help.

    Source: docs/javascript.md
    """
    answers = {name: _answer(name, content, _HEADERS) for name, content in client_files().items()}

    async def answer(request: Request) -> Response:
        known = answers.get(request.path_params["name"])
        return problem(NotFoundError(NO_SUCH_PATH)) if known is None else await known(request)

    return Route("/v1/client/{name}", answer, methods=["GET"], name="client")


def file_route(path: str, name: str, content: bytes, headers: Mapping[str, str]) -> Route:
    """A file at `path` for GET and HEAD; whoever holds it already gets 304. Its name says what it is."""
    return Route(path, _answer(name, content, headers), methods=["GET"], name=name)


def _answer(
    name: str, content: bytes, headers: Mapping[str, str]
) -> Callable[[Request], Awaitable[Response]]:
    media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    sent = {**headers, "ETag": etag}

    async def answer(request: Request) -> Response:
        if etag in _etags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=sent)
        return Response(content, headers=sent, media_type=media_type)

    return answer


def _etags(if_none_match: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
