"""A server in this process, and the app on a client of it, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from chatkit.server.server import ChatServer
from chatkit.terminal.app import ChatApp
from chatkit.testing.backends import VIRTUAL

from .screen import Screen, client_of, running_server

Showing = Callable[..., AbstractAsyncContextManager[Screen]]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with running_server() as server:
        yield server


@pytest.fixture
def showing(server: ChatServer) -> Showing:
    """Shows the app to a user: `async with showing("ann") as screen`."""

    @asynccontextmanager
    async def show(user_id: str, size: tuple[int, int] = (100, 30), **options: Any) -> AsyncIterator[Screen]:
        async with client_of(server, user_id, **options) as client:
            app = ChatApp(client, "ws://chat")
            async with app.run_test(size=size) as pilot:
                yield Screen(app, pilot)

    return show
