"""A login of one's own: opaque session tokens that the host keeps, hands out and withdraws.

Any async callable from token to `Identity` is a login. It raises `UnauthenticatedError` for a token that proves
nothing. `ChatServer.revoke` ends what a session has opened: sockets, and the resume tokens by which a client would come
back without asking. A real host keeps its sessions in its database and checks passwords with a slow hash.

Run: `python examples/own_login.py 8000`, then
`curl -X POST 127.0.0.1:8000/login -d '{"user": "lina", "password": "lighthouse"}'`.
"""

from __future__ import annotations

import hmac
import secrets
import sys

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chatkit import ChatServer, Identity, UnauthenticatedError, asgi_app, open_store

PASSWORDS = {"lina": "lighthouse", "omar": "orchard"}


class Credentials(msgspec.Struct):
    """The body of a login."""

    user: str
    password: str


class Sessions:
    """The host's logins: a random token for each, valid until it is withdrawn."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    async def authenticate(self, token: str) -> Identity:
        """What chatkit calls for each connection and request."""
        user_id = self._users.get(token)
        if user_id is None:
            raise UnauthenticatedError("no such session")
        return Identity(user_id)

    async def still_holds(self, resumed: Identity) -> Identity | None:
        """What chatkit calls when a client comes back by a resume token: None ends it."""
        return resumed if resumed.user_id in PASSWORDS else None

    async def login(self, request: Request) -> Response:
        """`POST /login`: a new session for a right password."""
        try:
            given = msgspec.json.decode(await request.body(), type=Credentials)
        except msgspec.DecodeError:
            return JSONResponse({"error": "user and password are needed"}, 400)
        known = PASSWORDS.get(given.user, "")
        if not known or not hmac.compare_digest(known.encode(), given.password.encode()):
            return JSONResponse({"error": "wrong user or password"}, 401)
        token = secrets.token_urlsafe(32)
        self._users[token] = given.user
        return JSONResponse({"token": token})

    def has(self, token: str) -> bool:
        """Whether there is such a session."""
        return token in self._users

    def forget(self, token: str) -> None:
        """End a session."""
        self._users.pop(token, None)


def create_app() -> Starlette:
    """The chat and the login on one port."""
    sessions = Sessions()
    server = ChatServer(
        store=open_store("memory://"),
        authenticate=sessions.authenticate,
        authorize_resume=sessions.still_holds,
    )

    async def logout(request: Request) -> Response:
        """`POST /logout`: the bearer's session ends, with every connection that it opened."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if sessions.has(token):  # anybody's words would be kept as revoked, for ever
            await server.revoke(token=token)  # the chat refuses it from here on, whatever the sessions say
            sessions.forget(token)  # only now: where that failed, a second try finds the session again
        return Response(status_code=204)

    routes = [
        Route("/login", sessions.login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]
    return asgi_app(server, extra_routes=routes)


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
