"""A server on a PostgreSQL database of the test's own, and the host's connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chatkit import ChatServer
from tests.servers.postgres import PostgresServer, serving

from .hosts import MADE, connected, node


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
async def server(address: str) -> AsyncIterator[ChatServer]:
    """A node with a group of ann and ben, and the host's table."""
    async with node(address) as server:
        await server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
        async with connected(address) as connection:
            await connection.execute(MADE)
        yield server


@pytest.fixture
async def host(address: str, server: ChatServer) -> AsyncIterator[Any]:
    """A connection of the host's."""
    async with connected(address) as connection:
        yield connection
