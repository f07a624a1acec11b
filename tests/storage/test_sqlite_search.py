"""The index of search beside a log on SQLite: what leaves it, what makes it anew, and what it never does to the log."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatkit.drivers.migrations import migrate, migration_files
from chatkit.drivers.sqlite import Connection, open_sqlite
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.storage import base
from chatkit.storage.search import INDEX_MAX
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite import search as statements
from chatkit.storage.sqlite.opening import APPLICATION_ID
from chatkit.storage.sqlite.search_store import SWEEP_AFTER
from chatkit.testing.contracts.storage_commands import NOW, do, group, one, recall, send
from chatkit.testing.contracts.storage_search import found, index_all, search_all

from .ids import seeded_ids
from .searched import search_alike
from .test_sqlite import Faulty

SECRET = "geheimniskraemer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


async def opened(path: Path, **options: Any) -> SqliteStore:
    store = SqliteStore(path, ids=seeded_ids(), **options)
    await store.migrate()
    await store.search.open()
    return store


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.aclose()


def index_files(path: Path) -> list[Path]:
    return sorted(path.parent.glob(path.name + "-search*"))


def holders(path: Path, words: str) -> list[str]:
    """The files of the index that hold these words."""
    return [it.name for it in index_files(path) if words.encode() in it.read_bytes()]


async def filled(store: SqliteStore, count: int = 300) -> list[base.Appended]:
    await do(store, group("g", "ann"), group("h", "ann"))
    sent = await do(
        store, *(send("gh"[n % 2], "ann", f"k{n}", f"message {n} of many", NOW + n) for n in range(count))
    )
    return [it for it in sent if isinstance(it, base.Appended)]


async def test_the_words_of_a_recall_leave_the_index_its_log_and_its_file(
    store: SqliteStore, path: Path
) -> None:
    await filled(store)
    sent = await one(store, send("g", "ann", "k", f"this is {SECRET} 東京都"), base.Appended)
    await filled_again(store)
    assert await found(store, "ann", SECRET) == [f"this is {SECRET} 東京都"]
    assert holders(path, SECRET)
    await do(store, recall(sent.entry.message_id, "ann"))
    await index_all(store)

    assert holders(path, SECRET) == holders(path, "東京") == []
    assert await found(store, "ann", SECRET) == []
    assert len(await found(store, "ann", "message")) == 500


async def filled_again(store: SqliteStore) -> None:
    """More of the index, in further parts."""
    for start in range(1000, 1200, 50):
        await do(
            store,
            *(send("h", "ann", f"k{n}", f"message {n} after", NOW + n) for n in range(start, start + 50)),
        )
        await index_all(store)


async def test_words_leave_the_write_ahead_log_once_no_search_is_in_the_way(
    store: SqliteStore, path: Path
) -> None:
    await filled(store, 3)
    sent = await one(store, send("g", "ann", "k", SECRET), base.Appended)
    await index_all(store)
    assert store.search._writer is not None
    store.search._writer.execute("PRAGMA busy_timeout = 1")
    searching = open_sqlite(str(path.with_name("chat.db-search")), read_only=True)
    searching.begin()
    searching.execute("SELECT 1 FROM search_entry")
    await do(store, recall(sent.entry.message_id, "ann"))
    for _ in range(10):
        assert await store.search.follow() == 1
    assert holders(path, SECRET)
    searching.rollback()
    searching.close()
    await index_all(store)

    assert holders(path, SECRET) == []


async def test_words_leave_while_more_and_more_is_written(store: SqliteStore, path: Path) -> None:
    await filled(store, 3)
    sent = await one(store, send("g", "ann", "k", SECRET), base.Appended)
    await index_all(store)
    await do(store, recall(sent.entry.message_id, "ann"))
    for n in range(20):
        await do(store, send("g", "ann", f"more{n}", "message"))
        assert await store.search.follow() > 0

    assert holders(path, SECRET) == []


async def test_the_words_of_what_expired_leave_the_index(store: SqliteStore, path: Path) -> None:
    await do(
        store, group("g", "ann"), send("g", "ann", "k", f"this is {SECRET}"), send("g", "ann", "k2", "x")
    )
    await index_all(store)
    assert holders(path, SECRET)
    await do(store, base.Expire("g", 2, None, NOW))
    for _ in range(SWEEP_AFTER + 1):
        await store.search.follow()
    await index_all(store)

    assert holders(path, SECRET) == []


async def test_what_was_recalled_before_it_was_indexed_never_comes_into_the_index(
    store: SqliteStore, path: Path
) -> None:
    await do(store, group("g", "ann"))
    sent = await one(store, send("g", "ann", "k", SECRET), base.Appended)
    await do(store, recall(sent.entry.message_id, "ann"))
    await index_all(store)

    assert holders(path, SECRET) == []


async def test_a_merge_that_was_broken_off_is_begun_again(path: Path) -> None:
    store = await opened(path)
    await filled(store)
    sent = await one(store, send("g", "ann", "k", SECRET), base.Appended)
    await index_all(store)
    await do(store, recall(sent.entry.message_id, "ann"))
    await store.search.follow()  # takes it out, and merges nothing yet
    await store.aclose()
    store = await opened(path)
    await index_all(store)

    assert holders(path, SECRET) == []
    await store.aclose()


async def test_the_index_goes_on_where_it_was(path: Path) -> None:
    store = await opened(path)
    await filled(store)
    await index_all(store)
    await store.aclose()
    store = await opened(path)

    assert not await store.search.is_behind("ann")
    await index_all(store)
    await do(store, send("g", "ann", "new", "message"))
    assert await store.search.is_behind("ann")
    assert await store.search.follow() == 1
    assert len(await search_all(store, "ann", "message")) == 301
    await store.aclose()


async def test_a_step_is_bounded(store: SqliteStore) -> None:
    await filled(store, 3 * INDEX_MAX)

    assert await store.search.follow() == INDEX_MAX


async def test_a_server_without_search_leaves_no_words(path: Path) -> None:
    store = await opened(path)
    await filled(store, 3)
    await index_all(store)
    await store.search.discard()

    assert index_files(path) == []
    with pytest.raises(UnavailableError, match="not open"):
        await search_all(store, "ann", "message")
    await store.search.discard()
    await store.aclose()


@pytest.mark.parametrize("damage", [b"", b"no database" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_index_is_made_anew(path: Path, damage: bytes) -> None:
    store = await opened(path)
    await filled(store, 3)
    await index_all(store)
    await store.aclose()
    path.with_name("chat.db-search").write_bytes(damage)
    store = await opened(path)

    assert len(await found(store, "ann", "message")) == 3
    await store.aclose()


async def test_an_index_of_another_version_is_made_anew(path: Path) -> None:
    store = await opened(path)
    await filled(store, 3)
    await store.aclose()
    other = open_sqlite(str(path.with_name("chat.db-search")))
    other.execute("PRAGMA user_version = 99")
    other.close()
    store = await opened(path)

    assert len(await found(store, "ann", "message")) == 3
    await store.aclose()


async def test_an_index_that_is_damaged_while_it_is_used_is_made_anew_and_the_log_goes_on(
    store: SqliteStore, path: Path
) -> None:
    await filled(store)
    await index_all(store)
    other = open_sqlite(str(path.with_name("chat.db-search")))
    other.execute("DELETE FROM search_words_data WHERE id > 10")
    other.close()

    with pytest.raises(UnavailableError, match="made anew"):
        await search_all(store, "ann", "message")
    await do(store, send("g", "ann", "new", "message"))
    assert len(await found(store, "ann", "message")) == 301


async def test_a_log_that_was_put_back_gets_another_index(path: Path, tmp_path: Path) -> None:
    store = await opened(path)
    await filled(store, 10)
    await index_all(store)
    await store.aclose()
    backup = tmp_path / "backup"
    shutil.copy(path, backup)
    store = await opened(path)
    await do(store, *(send("g", "ann", f"l{n}", f"lost {n}") for n in range(5)))
    assert len(await found(store, "ann", "lost")) == 5
    await store.aclose()
    shutil.copy(backup, path)
    store = await opened(path)

    assert store.restored
    assert await found(store, "ann", "lost") == []
    await store.confirm_restored()
    await do(store, *(send("g", "ann", f"m{n}", f"made {n}") for n in range(9)))
    assert len(await found(store, "ann", "made")) == 9
    assert len(await found(store, "ann", "message")) == 10
    await store.aclose()


async def test_a_log_that_was_put_back_and_grew_past_the_index_gets_another_one(path: Path) -> None:
    """Whoever serves it without a look at the index meanwhile: the rows are not those that were taken up."""
    store = await opened(path, exclusive=False)
    await filled(store, 10)
    await store.aclose()
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    store = await opened(path, exclusive=False)
    await do(store, send("g", "ann", "l1", "lost"))
    await index_all(store)
    await store.aclose()
    shutil.copy(backup, path)
    store = SqliteStore(path, ids=seeded_ids(), exclusive=False)
    await store.migrate()
    await do(store, send("h", "ann", "m1", "made"), send("h", "ann", "m2", "made"))
    await store.search.open()

    assert (await found(store, "ann", "lost"), len(await found(store, "ann", "made"))) == ([], 2)
    await store.aclose()


async def test_without_fts5_the_server_says_what_is_missing(path: Path) -> None:
    class Lacking(Faulty):
        def __init__(self, inner: Connection) -> None:
            super().__init__(inner)
            self.faults["USING fts5"] = sqlite3.OperationalError("no such module: fts5")

    store = SqliteStore(path, ids=seeded_ids(), connect=lambda *at, **how: Lacking(open_sqlite(*at, **how)))
    await store.migrate()
    with pytest.raises(ConfigurationError, match="FTS5"):
        await store.search.open()
    await do(store, group("g", "ann"))
    await store.aclose()


async def test_many_conversations_are_searched_at_once(store: SqliteStore) -> None:
    await do(store, *(group(f"g{n}", "ann") for n in range(1500)))
    await do(store, *(send(f"g{n}", "ann", "k", f"word {n}", NOW + n) for n in range(0, 1500, 100)))

    assert len(await found(store, "ann", "word")) == 15


def test_no_statement_goes_through_all_messages_or_members() -> None:
    connection = open_sqlite(":memory:")
    migrate(connection, migration_files("chatkit.storage.sqlite"), APPLICATION_ID)
    for sql, values in (
        (statements.SELECT_NEW, (1, 1)),
        (statements.SELECT_OWN, ("ann",)),
        (statements.SELECT_VISIBLE.replace("{keys}", "(?, ?, ?)"), (1, 1, 1, "ann", "ann")),
        (statements.SELECT_FLOORS, (1, 1)),
    ):
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + sql, values)]
        assert [it for it in plan if it.startswith("SEARCH")]
        assert not [it for it in plan if it in ("SCAN e", "SCAN m", "SCAN conversation_member")], plan
    connection.close()


@pytest.mark.parametrize("seed", range(12))
async def test_it_finds_what_the_store_in_memory_finds(seed: int) -> None:
    store = SqliteStore(":memory:", ids=seeded_ids(), threads=False)
    await store.migrate()

    assert await search_alike(store, seed) > 0
    await store.aclose()
