"""An import into a log on PostgreSQL that is served meanwhile: nothing that is sent live is taken for history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from chatkit.importing import importer as importer_module
from chatkit.importing.records import FoundConversation, FoundMessage
from chatkit.ports import SystemIds
from chatkit.storage.base import SetRole, UpdateConversation
from chatkit.storage.memory import MemoryStore
from chatkit.storage.postgres import PostgresStore
from chatkit.testing.contracts.storage_commands import NOW, do, group, send, title_entry
from tests.servers.postgres import PostgresServer, serving

from .exports import bring_in
from .test_log import exported, imported

LIVE, OLD = 40, 120


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


async def test_live_messages_between_those_of_an_import(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer_module, "ENTRIES_PER_BATCH", 3)
    address = server.empty_log()
    stores = [PostgresStore(address, ids=SystemIds()) for _ in "12"]
    secret, _ = [await store.migrate() for store in stores]
    begin = [FoundConversation("c", members=("ann", "bob")), FoundMessage("c", "ann", 1, "begin", "0")]
    await bring_in(stores[0], secret, begin)

    async def talk() -> None:
        for number in range(LIVE):
            await stores[1].commit([send("x:c", "x:ann", f"live {number}")])

    old = [FoundMessage("c", "zoe", 1_000 + it, f"old {it}", f"{it + 1}") for it in range(OLD)]
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            totals = await bring_in(stores[0], secret, [*begin, *old])
    again = await bring_in(stores[0], secret, [*begin, *old])

    texts = [json.loads(it.payload).get("text", "") for it in await stores[0].entries("x:c", 0, 1_000)]
    assert (totals.added, totals.known, again.added) == (OLD, 1, 0)
    assert [it for it in texts if it.startswith("old")] == [f"old {it}" for it in range(OLD)]
    assert [it for it in texts if it.startswith("live")] == [f"live {it}" for it in range(LIVE)]
    first_live = texts.index("live 0") + 1
    (head,) = await stores[1].heads("x:bob", "phone")
    assert (head.delivered_seq, head.read_seq) == (first_live - 1, first_live - 1)
    assert [it.first_seq for it in await stores[1].outbox(10)] == [first_live]
    for store in stores:
        await store.aclose()


async def test_roles_come_with_the_last_entries(server: PostgresServer, tmp_path: Path) -> None:
    memory = MemoryStore(ids=SystemIds())
    await memory.migrate()
    await do(memory, group("g", "ann", "bob"), UpdateConversation("g", None, title_entry("Tea"), "bob", NOW))
    await do(memory, SetRole("g", None, "ann", "ADMIN", NOW), send("g", "bob", "k", "x"))
    store = PostgresStore(server.empty_log(), ids=SystemIds())
    await imported(store, await store.migrate(), tmp_path, await exported(memory))

    members = await store.members("g", "ann", None, 10)
    assert {it.member.user_id: it.member.role for it in members} == {"ann": "ADMIN", "bob": "OWNER"}
    await store.aclose()
