"""A server inside the test's own loop, on a real port, with a heartbeat as short as a test can wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn

from chatkit import ChatServer, ServerConfig, asgi_app, jwt_authenticator
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol
from chatkit.ports import SystemIds
from chatkit.server.limits import Limits
from chatkit.server.session import Session
from chatkit.storage.memory import MemoryStore
from tests.gateway.test_mounting import running

from .tokens import SECRET

HEARTBEAT_S = 0.3


class HostedServer(ChatServer):
    """Notes with which code the sessions of each user were closed, in the order of their ends."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            store=MemoryStore(ids=SystemIds()),
            authenticate=jwt_authenticator(SECRET),
            config=ServerConfig(heartbeat_s=HEARTBEAT_S, limits=Limits.unlimited()),
            **options,
        )
        self.port = 0
        self._closed: list[tuple[str, int | None]] = []
        self._changed = anyio.Event()

    def disconnected(self, session: Session) -> None:
        super().disconnected(session)
        self._closed.append((session.user_id, session.close_code))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def codes(self, user: str) -> list[int | None]:
        """How this user's sessions were closed; None for those that the peer left."""
        return [code for of, code in self._closed if of == user]

    async def until_closed(self, user: str) -> int | None:
        """Wait for the end of the user's first session that ends; its close code."""
        with anyio.fail_after(20):
            while not self.codes(user):
                await self._changed.wait()
        return self.codes(user)[0]


@asynccontextmanager
async def hosted(**options: Any) -> AsyncIterator[HostedServer]:
    """A server that is reached by its `port`; options are those of `ChatServer`."""
    async with HostedServer(**options) as server:
        config = uvicorn.Config(
            asgi_app(server), port=0, log_config=None, ws_ping_interval=None,
            http=ChatHttpProtocol, ws=ChatWebSocketProtocol,
        )  # fmt: skip
        async with running(config) as server.port:
            yield server
