"""A FastAPI site whose users log in by its cookie, with the chat under /chat.

`RequestLogin` hands the site the whole handshake, and `origins` keeps pages of other sites from using the cookie.
Those cannot log anybody in or out either: that takes JSON from a page of the site.

Run: `pip install fastapi`, then `python examples/cookie_fastapi.py 8000`. Open http://127.0.0.1:8000/ and log in as
lina (lighthouse) or omar (orchard), who have a conversation, the lobby. `site_users.py` beside it has the users and
the page.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from site_users import DEMO_USERS, PAGE, SiteUsers, is_of_own_page

from chatkit import ChatServer, RequestLogin, asgi_app, open_store
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol


class Credentials(BaseModel):
    """The body of a login."""

    user: str
    password: str


def create_app(origin: str) -> FastAPI:
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
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await users.add_missing(DEMO_USERS)
        async with server:  # a mounted app's own lifespan never runs
            await server.ensure_conversation("lobby", "GROUP", "lina", ["omar"], title="Lobby")
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    def of_own_page(request: Request) -> None:
        if not is_of_own_page(request.headers, origin):
            raise HTTPException(403, "only pages of this site may do this")

    @app.post("/login", status_code=204, dependencies=[Depends(of_own_page)])
    async def log_in(given: Credentials, response: Response) -> None:
        cookie = await users.log_in(given.user, given.password)
        if cookie is None:
            raise HTTPException(401, "wrong user or password")
        response.set_cookie("session", cookie, httponly=True, samesite="lax")  # and secure=True behind TLS

    @app.post("/logout", status_code=204, dependencies=[Depends(of_own_page)])
    async def log_out(response: Response, session: Annotated[str, Cookie()] = "") -> None:
        user = await users.log_out(session)
        if user is not None:  # who is logged in elsewhere comes back: the site still knows them
            await server.revoke(user_id=user)
            await users.forget(session)  # only now: where that failed, a second try finds the login again
        response.delete_cookie("session")

    app.mount("/chat", asgi_app(server, origins=[origin]))
    return app


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(f"http://127.0.0.1:{port}")
    uvicorn.run(app, port=port, http=ChatHttpProtocol, ws=ChatWebSocketProtocol, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
