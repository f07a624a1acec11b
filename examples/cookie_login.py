"""A chat whose users log in by the cookie of the site: `RequestLogin`, and the page's own origin on the list.

Run: `python examples/cookie_login.py 8000`, then open http://127.0.0.1:8000/ and name yourself: the page says as whom
the chat knows you. `POST /login` stands for the login your site has, which checks a password.
"""

from __future__ import annotations

import secrets
import sys
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from chatkit import (
    ChatServer,
    Identity,
    LoginRequest,
    RequestLogin,
    UnauthenticatedError,
    asgi_app,
    open_store,
)
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol

COOKIE = "session"
PAGE = """<!doctype html><meta charset="utf-8"><title>Login by cookie</title>
<form method="post" action="/login"><input name="user" placeholder="your name"><button>Log in</button></form>
<p id="state">not connected</p>
<script>
const socket = new WebSocket(`ws://${location.host}/v1/ws`, "chatkit.v1.json");
const state = document.getElementById("state");
socket.onopen = () => socket.send(JSON.stringify({event: "HELLO", deviceId: "browser"}));
socket.onmessage = message => {
  for (const event of [JSON.parse(message.data)].flat()) {
    if (event.event === "WELCOME") state.textContent = `logged in as ${event.userId}`;
    if (event.event === "ERROR") state.textContent = event.message;
  }
};
setInterval(() => socket.readyState === 1 && socket.send('{"event":"PING"}'), 20000);
</script>"""


class Site:
    """The site's own logins: a random cookie for each."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    async def page(self, request: Request) -> Response:
        """The page with the login and the chat."""
        return HTMLResponse(PAGE)

    async def log_in(self, request: Request) -> Response:
        """Whoever comes is whom they say; a real site asks for a password here."""
        form = parse_qs((await request.body()).decode())
        cookie = secrets.token_urlsafe(32)
        self._users[cookie] = form.get("user", ["nobody"])[0]
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="lax")  # and secure=True behind TLS
        return response

    async def who(self, request: LoginRequest) -> Identity:
        """The user of the cookie that came with the handshake or the request."""
        user_id = self._users.get(request.cookies.get(COOKIE, ""))
        if user_id is None:
            raise UnauthenticatedError("log in on the page first")
        return Identity(user_id)


def create_app(origin: str) -> Starlette:
    """The page and the chat on one port.

    Args:
        origin: Where the page is reached; only it may connect with the cookie.
    """
    site = Site()
    server = ChatServer(store=open_store("memory://"), authenticate=RequestLogin(site.who))
    routes = [Route("/", site.page), Route("/login", site.log_in, methods=["POST"])]
    return asgi_app(server, extra_routes=routes, origins=[origin])


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(f"http://127.0.0.1:{port}")
    uvicorn.run(app, port=port, http=ChatHttpProtocol, ws=ChatWebSocketProtocol, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
