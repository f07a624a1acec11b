"""What became of a message whose words are in the archive: its account is the same, and says where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from chatkit._abilities import offers
from chatkit.archive.memory import MemoryArchive
from chatkit.storage.base import Store, TrailReader
from chatkit.storage.memory import MemoryStore
from chatkit.storage.postgres import PostgresStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import device, do, group, recall, send
from chatkit.testing.contracts.storage_reopening import opened
from tests.servers.postgres import PostgresServer, serving
from tests.storage.ids import seeded_ids

from .archived import archiver_of

Open = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "memory":
        return lambda: _in_memory()
    if request.param == "sqlite":
        return lambda: opened(lambda: SqliteStore(tmp_path / "chat.db", ids=seeded_ids(), threads=False))
    address = request.getfixturevalue("server").new_database()
    return lambda: opened(lambda: PostgresStore(address, ids=seeded_ids()))


@asynccontextmanager
async def _in_memory() -> AsyncIterator[Store]:
    store = MemoryStore(ids=seeded_ids())
    await store.migrate()
    yield store


async def test_where_the_words_are(open_store: Open) -> None:
    async with open_store() as store:
        assert offers(store, TrailReader)
        await do(store, device("bob"), group("g", "ann", "bob"), *(send("g", "ann", key) for key in "abc"))
        before = [await store.trail(f"1-e1-{seq}", None, 10) for seq in (1, 2, 4)]
        await do(store, recall("1-e1-3", "ann"))
        await archiver_of(store, MemoryArchive()).run(sweep=False)
        after = [await store.trail(f"1-e1-{seq}", None, 10) for seq in (1, 2, 4)]

    assert [it.body for it in before] == ["LOG", "LOG", "LOG"]
    assert [it.body for it in after] == ["LOG", "ARCHIVE", "ARCHIVE"], "the server's own entries stay"
    assert after[1].client_msg_id == before[1].client_msg_id == "a"
    assert after[1].devices == before[1].devices
