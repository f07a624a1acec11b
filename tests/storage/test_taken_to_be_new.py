"""The store on SQLite takes messages to be new, and looks their keys up only once one was not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chatkit.drivers.sqlite import Connection, Params, open_sqlite
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.writer import LOOKED_UP
from chatkit.testing.contracts.storage_commands import (
    delivered,
    device,
    do,
    group,
    recall,
    remove,
    send,
    single,
)

from .ids import seeded_ids


class Watched:
    """A connection that remembers how many statements looked keys up, and how many transactions were given up."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.looked_up = self.given_up = 0
        self.execute, self.executemany, self.begin = self._execute, inner.executemany, inner.begin
        self.change, self.commit, self.close = inner.change, inner.commit, inner.close

    def _execute(self, sql: str, params: Params = ()) -> list[tuple[object, ...]]:
        self.looked_up += "e.client_msg_id = k.client_msg_id" in sql
        return self._inner.execute(sql, params)

    def rollback(self) -> None:
        self.given_up += 1
        self._inner.rollback()


Opened = tuple[SqliteStore, Watched]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """A store with a SINGLE and a GROUP, in each a message with the key `old`."""
    made: list[Watched] = []

    def connect(path: str, *, read_only: bool = False) -> Connection:
        made.append(Watched(open_sqlite(path, read_only=read_only)))
        return made[-1]

    store = SqliteStore(":memory:", ids=seeded_ids(), threads=False, connect=connect)
    await store.migrate()
    await do(store, device("ann"), device("bob"), single("s", "ann", "bob"), group("g", "ann", "bob", "cat"))
    await do(store, send("s", "ann", "old"), send("g", "bob", "old"))
    yield store, made[0]
    await store.aclose()


async def seqs(store: SqliteStore, conversation_id: str) -> list[tuple[int, str | None]]:
    entries = await store.entries(conversation_id, 0, 100)
    return [(it.seq, it.client_msg_id) for it in entries]


async def test_nobody_looks_for_the_keys_of_new_messages(opened: Opened) -> None:
    store, connection = opened
    before = connection.given_up
    outcomes = await store.commit(
        [*(send("s", "ann", f"k{n}") for n in range(40)), delivered("s", "bob", 41)]
    )

    assert [it.repeat for it in outcomes if isinstance(it, base.Appended)] == [False] * 40
    assert (connection.looked_up, connection.given_up) == (0, before)


async def test_a_repeat_among_new_ones_has_its_old_answer_and_nothing_is_there_twice(opened: Opened) -> None:
    store, _ = opened
    batch = [send("s", "ann", "a"), send("g", "bob", "old"), send("s", "ann", "old"), send("s", "ann", "b")]
    outcomes = await store.commit(batch)

    found = [(it.entry.seq, it.repeat) for it in outcomes if isinstance(it, base.Appended)]
    assert found == [(3, False), (2, True), (2, True), (4, False)]
    assert await seqs(store, "s") == [(1, None), (2, "old"), (3, "a"), (4, "b")]
    assert await store.commit(batch) == [
        base.Appended(it.entry, True) for it in outcomes if isinstance(it, base.Appended)
    ]


async def test_a_key_twice_in_a_batch_is_one_message(opened: Opened) -> None:
    store, connection = opened
    first, again = await store.commit([send("s", "ann", "k"), send("s", "ann", "k")])

    assert isinstance(first, base.Appended) and again == base.Appended(first.entry, True)
    assert connection.looked_up == 0


async def test_what_would_be_refused_is_looked_for_first(opened: Opened) -> None:
    """Whoever left has the answers to what they sent; and a new message of theirs is refused as ever."""
    store, connection = opened
    await do(store, remove("g", "bob", "bob"))
    new, old, after = await store.commit(
        [send("g", "bob", "new"), send("g", "bob", "old"), send("s", "ann", "a")]
    )

    assert isinstance(new, base.Refused) and new.error.code == "NOT_FOUND"
    assert isinstance(old, base.Appended) and old.repeat
    assert isinstance(after, base.Appended) and not after.repeat
    assert connection.looked_up == 1


async def test_a_repeat_of_what_was_recalled_has_no_body(opened: Opened) -> None:
    store, _ = opened
    (sent,) = await store.commit([send("s", "ann", "k")])
    assert isinstance(sent, base.Appended)
    await do(store, recall(sent.entry.message_id, "ann"))
    again, _ = await store.commit([send("s", "ann", "k"), send("s", "ann", "new")])

    assert isinstance(again, base.Appended) and again.repeat
    assert again.entry.payload == b'{"type":"RECALLED"}'


async def test_other_commands_of_a_batch_that_is_tried_again_are_done_once(opened: Opened) -> None:
    store, _ = opened
    await do(
        store,
        group("new", "ann", "bob"),
        send("new", "ann", "k"),
        send("s", "ann", "old"),
        delivered("s", "bob", 2),
    )

    assert await seqs(store, "new") == [(1, None), (2, "k")]
    assert [it.head_seq for it in await store.heads("bob", "phone")] == [2, 2, 2]


async def test_after_a_repeat_keys_are_looked_up_for_a_while(opened: Opened) -> None:
    """So that who comes back with many of them makes no batch run twice but the first."""
    store, connection = opened
    await do(store, send("s", "ann", "old"))
    given_up = connection.given_up
    for number in range(LOOKED_UP + 3):
        await do(store, send("s", "ann", "old" if number < 2 else f"k{number}"))

    assert connection.given_up == given_up
    assert connection.looked_up == 1 + LOOKED_UP
