"""A small complete server: the chat, the web page at `/`, and a stub where a host's own login would be.

`/login/NAME` logs in as one of a few demo users without asking anything, so keep it on the loopback address.

Run: `CHATKIT_JWT_SECRET=... python examples/reference_server.py 8000 chat.db`, then open
`http://127.0.0.1:8000/login/lina` and `http://127.0.0.1:8000/login/omar` in two tabs.
"""

from __future__ import annotations

import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from chatkit import ChatServer, asgi_app, jwt_authenticator, open_store, sign_token
from chatkit.gateway.webpage import web_page_routes

USERS = ("lina", "omar", "yuki")


def create_app(secret: str, storage: str) -> Starlette:
    """The server as one ASGI app, to run alone."""

    async def login(request: Request) -> Response:
        user = request.path_params["user"]
        if user not in USERS:
            return PlainTextResponse(f"the demo users are {', '.join(USERS)}\n", 404)
        token = sign_token(secret, user_id=user, ttl_s=86_400)
        return RedirectResponse(
            f"/#token={token}", 303, {"Cache-Control": "no-store"}
        )  # behind #: not in logs

    server = ChatServer(store=open_store(storage), authenticate=jwt_authenticator(secret))
    return asgi_app(server, extra_routes=[Route("/login/{user}", login), *web_page_routes()])


def main(port: str = "8000", database: str = "chat.db") -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(os.environ["CHATKIT_JWT_SECRET"], f"sqlite:///{database}")
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
