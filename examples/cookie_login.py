"""A Starlette site whose users log in by its cookie, with the chat under /chat.

`RequestLogin` hands the site the whole handshake, and `origins` keeps pages of other sites from using the cookie.
Those cannot log anybody in or out either: that takes JSON from a page of the site.

Run: `python examples/cookie_login.py 8000`, then open http://127.0.0.1:8000/ and log in as lina (lighthouse) or omar
(orchard), who have a conversation, the lobby. `site_users.py` beside it has the users and the page.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import uvicorn
from site_users import COOKIE, DEMO_USERS, PAGE, SiteUsers, is_of_own_page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from chatkit import ChatServer, RequestLogin, asgi_app, open_store
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol


class Credentials(msgspec.Struct):
    """The body of a login."""

    user: str
    password: str


def create_app(origin: str) -> Starlette:
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

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await users.add_missing(DEMO_USERS)
        async with server:  # a mounted app's own lifespan never runs
            await server.ensure_conversation("lobby", "GROUP", "lina", ["omar"], title="Lobby")
            yield

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def log_in(request: Request) -> Response:
        if not is_of_own_page(request.headers, origin):
            return Response(status_code=403)
        try:
            given = msgspec.json.decode(await request.body(), type=Credentials)
        except msgspec.DecodeError:
            return JSONResponse({"error": "user and password are needed"}, 400)
        cookie = await users.log_in(given.user, given.password)
        if cookie is None:
            return JSONResponse({"error": "wrong user or password"}, 401)
        response = Response(status_code=204)
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="lax")  # and secure=True behind TLS
        return response

    async def log_out(request: Request) -> Response:
        if not is_of_own_page(request.headers, origin):
            return Response(status_code=403)
        cookie = request.cookies.get(COOKIE, "")
        user = await users.log_out(cookie)
        if user is not None:  # who is logged in elsewhere comes back: the site still knows them
            await server.revoke(user_id=user)
            await users.forget(cookie)  # only now: where that failed, a second try finds the login again
        response = Response(status_code=204)
        response.delete_cookie(COOKIE)
        return response

    routes = [
        Route("/", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Mount("/chat", asgi_app(server, origins=[origin])),
    ]
    return Starlette(lifespan=lifespan, routes=routes)


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(f"http://127.0.0.1:{port}")
    uvicorn.run(app, port=port, http=ChatHttpProtocol, ws=ChatWebSocketProtocol, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
