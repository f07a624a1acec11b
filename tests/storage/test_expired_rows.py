"""What is said of messages leaves every store with them, and nothing that is said of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkit.drivers.postgres import Database, Deadlines
from chatkit.drivers.sqlite import open_sqlite
from chatkit.storage import base
from chatkit.storage.cold import ColdTerms
from chatkit.storage.memory import MemoryStore
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import (
    NOW,
    do,
    edited,
    group,
    mentioning,
    one,
    pinned,
    reacted,
    recall,
    send,
)
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids

TABLES = {"reaction": "seq", "mention": "seq", "pin": "seq", "edit": "edited_by_seq"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


Rows = dict[str, list[int]]
"""By table, which entries have a row; of edits the edits."""


class Kept:
    """A store, and what is in its tables."""

    def __init__(self, store: Any, address: str) -> None:
        self.store = store
        self._address = address

    async def rows(self) -> Rows:
        if isinstance(self.store, MemoryStore):
            (log,) = self.store._tables.by_key.values()
            return {
                "reaction": sorted(seq for seq, reactions in log.reactions.items() for _ in reactions),
                "mention": sorted(seq for _, seq in log.mentions),
                "pin": sorted(log.pins),
                "edit": sorted(seq for edits in log.edits.values() for seq in edits),
            }
        return {name: [row[0] for row in await self._select(name, of)] for name, of in TABLES.items()}

    async def _select(self, table: str, of: str) -> list[Any]:
        sql = f"SELECT {of} FROM {table} ORDER BY 1"
        if isinstance(self.store, SqliteStore):
            connection = open_sqlite(self._address, read_only=True)
            try:
                return connection.execute(sql)
            finally:
                connection.close()
        database = Database(self._address, connections=1, deadlines=Deadlines())
        await database.open()
        try:
            async with database.transaction() as reading:
                return await reading.fetch(sql)
        finally:
            await database.aclose()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    made: Any
    address = str(tmp_path / "chat.db")
    if request.param == "memory":
        made = MemoryStore(ids=seeded_ids())
    elif request.param == "sqlite":
        made = SqliteStore(address, ids=seeded_ids(), threads=False)
    else:
        address = request.getfixturevalue("server").empty_log()
        made = PostgresStore(address, ids=seeded_ids())
    await made.migrate()
    yield Kept(made, address)
    await made.aclose()


async def talked_of(store: Any) -> tuple[str, str]:
    """Messages at seq 2 and 3, which are mentioned in, reacted to (4, 5), pinned (6, 7) and edited (8, 9)."""
    await do(store, group("g", "ann", "bob"))
    names = [
        (await one(store, mentioning("g", "ann", f"m{number}", "bob"), base.Appended)).entry.message_id
        for number in (1, 2)
    ]
    await do(store, *(reacted("g", "bob", name, "call 555-1234") for name in names))
    await do(store, *(pinned("g", "ann", name) for name in names))
    await do(store, *(edited("g", "ann", name, mentions=["bob", "*"]) for name in names))
    return names[0], names[1]


async def test_what_is_said_of_the_expired_goes_and_of_others_stays(kept: Kept) -> None:
    await talked_of(kept.store)
    all_of_it = {"reaction": [2, 3], "mention": [2, 3, 8, 9], "pin": [2, 3], "edit": [8, 9]}
    assert await kept.rows() == all_of_it
    await do(kept.store, base.Expire("g", 2, None, NOW))
    assert await kept.rows() == {"reaction": [3], "mention": [3, 8, 9], "pin": [3], "edit": [8, 9]}
    page = await kept.store.page("g", "bob", 0, 1, 1_000_000)
    (entry,) = page.entries
    assert (entry.seq, entry.edit.seq, [it.reaction for it in entry.reactions]) == (3, 9, ["call 555-1234"])
    assert [it.seq for it in await kept.store.pins("g", "bob", 0)] == [3]


async def test_the_next_floor_takes_what_an_older_version_left(kept: Kept) -> None:
    await talked_of(kept.store)
    await do(kept.store, send("g", "ann", "more"), send("g", "ann", "last"))
    await do(kept.store, base.Expire("g", 9, None, NOW))
    gone: Rows = {"reaction": [], "mention": [], "pin": [], "edit": [8, 9]}
    assert await kept.rows() == gone, "the words of the edits are still there"
    (conversation,) = (await kept.store.cold.due(ColdTerms(NOW, 1), 0)).conversations
    assert await kept.store.cold.move(conversation.conversation_key, 100) == 9
    await do(kept.store, base.Expire("g", 10, None, NOW))
    assert await kept.rows() == gone | {"edit": []}


async def test_a_recall_of_the_expired_takes_edits_along(kept: Kept) -> None:
    name, _ = await talked_of(kept.store)
    await do(kept.store, base.Expire("g", 2, None, NOW), recall(name, "ann"))
    page = await kept.store.page("g", "bob", 7, 1, 1_000_000)
    assert [it.payload for it in page.entries] == [b'{"type":"RECALLED"}']
