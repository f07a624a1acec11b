"""A log that was imported, served: people log in, scroll back, and go on talking."""

from __future__ import annotations

from pathlib import Path

import anyio

from chatkit import (
    ChatClient,
    ChatServer,
    Identity,
    MemoryConnector,
    MessageReceived,
    ServerConfig,
    open_store,
)
from chatkit.importing.records import FoundConversation, FoundMessage

from .exports import bring_in


async def authenticate(token: str) -> Identity:
    return Identity(token)


def client(server: ChatServer, user: str, device: str = "phone") -> ChatClient:
    return ChatClient("http://chat", connector=MemoryConnector(server), token=user, device_id=device)


async def test_it_is_history_and_nothing_is_new(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'chat.db'}"
    store = open_store(address)
    secret = await store.migrate()
    old = [
        FoundMessage("c", author, at_ms, f"old {at_ms}")
        for at_ms, author in enumerate(["ann", "bob", "zoe"], 1)
    ]
    await bring_in(store, secret, [FoundConversation("c", "Tea", members=("ann", "bob")), *old])
    await store.aclose()

    config = ServerConfig(search=True)
    server = ChatServer(store=open_store(address), authenticate=authenticate, config=config)
    async with server, client(server, "x:ann") as ann, client(server, "x:bob") as bob:
        with anyio.fail_after(30):
            await ann.wait_connected()
            await bob.wait_connected()
            sent = await ann.send("x:c", "new")
            async for event in bob.events():
                if isinstance(event, MessageReceived):
                    break
        assert (event.message.seq, event.message.text) == (sent.seq, "new")  # and nothing came before it
        history = await bob.history("x:c")
        assert [(it.sender_id, it.server_ts, it.text) for it in history[1:4]] == [
            ("x:ann", 1, "old 1"),
            ("x:bob", 2, "old 2"),
            ("x:zoe", 3, "old 3"),
        ]
        assert await store_unread(server, "x:bob") == 1
        with anyio.fail_after(30):
            while not (page := await server.search("x:bob", "old")).hits or not page.up_to_date:
                await anyio.sleep(0.01)
        assert [it.text for it in page.hits] == ["old 3", "old 2", "old 1"]


async def store_unread(server: ChatServer, user: str) -> int:
    return (await server.store.deliveries.unread([user], 10**15))[user]
