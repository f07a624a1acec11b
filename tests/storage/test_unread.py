"""Counts of unread messages that are kept, and never wrong for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chatkit.drivers.sqlite import Connection, Params, Row, open_sqlite
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.reads import SELECT_UNREAD
from chatkit.storage.unread import UnreadCounts
from chatkit.testing.contracts.storage_commands import add, do, group, one, read, recall, remove, send

from .ids import seeded_ids


class Counted:
    """A connection that notes how often unread messages are counted."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.counts = 0
        self.begin, self.commit, self.rollback = inner.begin, inner.commit, inner.rollback
        self.close, self.change, self.executemany = inner.close, inner.change, inner.executemany

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        if COUNTING in sql:
            self.counts += sum(it is not None for it in params[:-1]) // 4  # a place has four values
        return self._inner.execute(sql, params)


COUNTING = SELECT_UNREAD.partition("{keys}")[2]
Counting = tuple[SqliteStore, Counted]


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    made: list[Counted] = []

    def connect(path: str, *, read_only: bool = False) -> Connection:
        made.append(Counted(open_sqlite(path, read_only=read_only)))
        return made[-1]

    store = SqliteStore(":memory:", ids=seeded_ids(), threads=False, connect=connect)
    await store.migrate()
    yield store, made[0]
    await store.aclose()


async def unread(store: base.Store, user: str) -> list[int]:
    return [row.unread for row in await store.conversations(user, None, None, 100)]


async def test_a_list_counts_only_where_something_happened(counting: Counting) -> None:
    store, connection = counting
    await do(store, *(group(f"g{n}", "ann", "bob") for n in range(5)))
    await do(store, *(send(f"g{n}", "ann", "k") for n in range(5)))
    assert await unread(store, "bob") == [1] * 5
    before = connection.counts
    assert await unread(store, "bob") == [1] * 5
    assert connection.counts == before

    await do(store, send("g2", "ann", "k2"))
    assert await unread(store, "bob") == [1, 1, 2, 1, 1]
    assert connection.counts == before + 1


async def test_whatever_changes_a_count_is_seen(counting: Counting) -> None:
    store, _ = counting
    await do(store, group("g", "ann", "bob"))
    seen = [await unread(store, "bob")]
    sent = await one(store, send("g", "ann", "1"), base.Appended)
    for command in (
        send("g", "ann", "2"),
        send("g", "bob", "3"),
        recall(sent.entry.message_id, "ann"),
        read("g", "bob", 3),
        send("g", "ann", "4"),
        remove("g", "ann", "bob"),
        send("g", "ann", "5"),
        add("g", "ann", "bob"),
        send("g", "ann", "6"),
    ):
        await do(store, command)
        seen.append(await unread(store, "bob"))

    assert seen == [[0], [2], [2], [1], [0], [1], [], [], [1], [2]]


def test_what_is_kept_is_bounded() -> None:
    counts = UnreadCounts(counts_max=2)
    for key in (1, 2, 3):
        assert counts.keep((key, "bob", 0, 2), 10 * key) == 10 * key

    assert [counts.known((key, "bob", 0, 2)) for key in (1, 2, 3)] == [None, 20, 30]


def test_who_read_everything_has_nothing_unread_without_a_count() -> None:
    assert UnreadCounts().known((1, "bob", 2, 2)) == (0, 0)
