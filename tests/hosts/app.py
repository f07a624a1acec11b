"""A host as the pages show it: FastAPI, whose lifespan enters the server; `CHAT_DB` names the file of the log."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chatkit import ChatServer, ServerConfig, asgi_app, open_store
from chatkit.server.limits import Limits
from tests.server.harness import by_name

server = ChatServer(
    store=open_store(f"sqlite:///{os.environ['CHAT_DB']}"),
    authenticate=by_name,
    config=ServerConfig(limits=Limits.unlimited()),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with server:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/chat", asgi_app(server))
