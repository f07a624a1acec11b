"""A chat server on PostgreSQL, and its host, who has a table beside chatkit's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import asyncpg

from chatkit import ChatClient, ChatServer, Identity, MemoryConnector, MessageReceived, ServerConfig
from chatkit.bus.base import Bus
from chatkit.storage.base import Entry
from chatkit.storage.postgres import PostgresStore

from ..ids import seeded_ids

MADE = "CREATE TABLE shop_order (number integer PRIMARY KEY)"
ORDER = "INSERT INTO shop_order VALUES ($1)"
NEVER_S = 3_600.0
WAIT_S = 30.0


async def by_name(token: str) -> Identity:
    return Identity(token)


@asynccontextmanager
async def node(
    address: str, *, bus: Bus | None = None, store: PostgresStore | None = None, **config: Any
) -> AsyncIterator[ChatServer]:
    """An entered server, which does not look at the log by itself unless it is told to."""
    server = ChatServer(
        store=store or PostgresStore(address, ids=seeded_ids()),
        authenticate=by_name,
        config=ServerConfig(**{"heads_check_s": NEVER_S, **config}),
        bus=bus,
    )
    async with server:
        yield server


@asynccontextmanager
async def connected(address: str, **options: Any) -> AsyncIterator[Any]:
    """A connection of the host's."""
    connection = await asyncpg.connect(address.replace("&pooler=transaction", ""), **options)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def online(server: ChatServer, user: str) -> AsyncIterator[ChatClient]:
    """A user's client that is in."""
    connector = MemoryConnector(server)
    async with ChatClient("ws://chat.test", token=user, device_id="phone", connector=connector) as chat:
        await chat.wait_connected()
        yield chat


async def texts(chat: ChatClient, last: str) -> list[str]:
    """The texts of others that a client gets, up to one; its seqs have no hole."""
    found: list[str] = []
    seqs: list[int] = []
    with anyio.fail_after(WAIT_S):
        async for event in chat.events():
            if isinstance(event, MessageReceived):
                seqs.append(event.message.seq)
                if event.message.type == "TEXT":
                    found.append(event.message.text)
            if found[-1:] == [last]:
                break
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    return found


async def log(server: ChatServer, name: str = "g") -> list[Entry]:
    """All of a log; its numbers have no hole."""
    entries = await server.store.entries(name, 0, 10_000)
    assert [it.seq for it in entries] == list(range(1, len(entries) + 1))
    return entries


async def keys(server: ChatServer, name: str = "g") -> list[str]:
    """The keys of the messages of a log, in order."""
    return [it.client_msg_id for it in await log(server, name) if it.client_msg_id is not None]


async def orders(connection: Any) -> list[int]:
    """The host's own rows."""
    return [row[0] for row in await connection.fetch("SELECT number FROM shop_order ORDER BY number")]


async def until_waiting(address: str) -> None:
    """Until a session waits for a lock."""
    async with connected(address) as watcher:
        with anyio.fail_after(10):
            while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await anyio.sleep(0.01)
