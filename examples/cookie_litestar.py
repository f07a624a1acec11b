"""A Litestar site whose users log in by its cookie, with the chat under /chat.

`RequestLogin` hands the site the whole handshake, and `origins` keeps pages of other sites from using the cookie.
Those cannot log anybody in or out either: that takes JSON from a page of the site.

Run: `pip install litestar`, then `python examples/cookie_litestar.py 8000`. Open http://127.0.0.1:8000/ and log in as
lina (lighthouse) or omar (orchard), who have a conversation, the lobby. `site_users.py` beside it has the users and
the page.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, MediaType, Request, Response, asgi, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Receive, Scope, Send
from site_users import COOKIE, DEMO_USERS, PAGE, SiteUsers, is_of_own_page

from chatkit import ChatServer, RequestLogin, asgi_app, open_store
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol


class Credentials(msgspec.Struct):
    """The body of a login."""

    user: str
    password: str


def create_app(origin: str) -> Litestar:
    """The site and the chat on one port.

    Args:
        origin: Where the site is reached; only its pages may connect with the cookie.
    """
    users = SiteUsers("site.db")
    server = ChatServer(
        store=open_store("sqlite:///chat.db"),
        authenticate=RequestLogin(users.authenticate),
        authorize_resume=users.still_holds,
    )
    chat = asgi_app(server, origins=[origin])

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await users.add_missing(DEMO_USERS)
        async with server:  # a mounted app's own lifespan never runs
            await server.ensure_conversation("lobby", "GROUP", "lina", ["omar"], title="Lobby")
            yield

    @asgi("/chat", is_mount=True, copy_scope=True)
    async def mounted_chat(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].rstrip("/") or "/"  # Litestar adds a slash at the end
        scope["root_path"] = "/chat"
        await chat(scope, receive, send)

    @get("/", media_type=MediaType.HTML, sync_to_thread=False)
    def page() -> str:
        return PAGE

    def of_own_page(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if not is_of_own_page(connection.headers, origin):
            raise PermissionDeniedException("only pages of this site may do this")

    @post("/login", status_code=204, guards=[of_own_page])
    async def log_in(data: Credentials) -> Response[None]:
        cookie = await users.log_in(data.user, data.password)
        if cookie is None:
            raise NotAuthorizedException("wrong user or password")
        login = Cookie(COOKIE, value=cookie, httponly=True, samesite="lax")  # and secure=True behind TLS
        return Response(None, cookies=[login])

    @post("/logout", status_code=204, guards=[of_own_page])
    async def log_out(request: Request[None, None, object]) -> Response[None]:
        cookie = request.cookies.get(COOKIE, "")
        user = await users.log_out(cookie)
        if user is not None:  # who is logged in elsewhere comes back: the site still knows them
            await server.revoke(user_id=user)
            await users.forget(cookie)  # only now: where that failed, a second try finds the login again
        response: Response[None] = Response(None)
        response.delete_cookie(COOKIE)
        return response

    handlers = [page, log_in, log_out, mounted_chat]
    return Litestar(
        handlers, lifespan=[lifespan], logging_config=None
    )  # else it shows what every library logs at INFO


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(f"http://127.0.0.1:{port}")
    uvicorn.run(app, port=port, http=ChatHttpProtocol, ws=ChatWebSocketProtocol, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
