"""chatkit inside a FastAPI app: its lifespan enters the server, and the chat is mounted under /chat.

Run: `pip install '.[server]' fastapi`, then `python examples/embed_fastapi.py 8000`. Clients connect to
`http://127.0.0.1:8000/chat`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from chatkit import ChatServer, asgi_app, jwt_authenticator, open_store


def create_app() -> FastAPI:
    """The host's app with the chat in it."""
    secret = os.environ["CHATKIT_JWT_SECRET"]
    server = ChatServer(store=open_store("memory://"), authenticate=jwt_authenticator(secret))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with server:  # a mounted app's own lifespan never runs
            await server.ensure_conversation("lobby", "GROUP", "host", [], title="Lobby")  # at every start
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/hello")
    async def hello() -> dict[str, bool]:
        return {"chat_is_ready": server.ready}

    app.mount("/chat", asgi_app(server))
    return app


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
