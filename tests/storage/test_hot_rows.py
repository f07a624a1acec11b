"""What the store on SQLite takes from memory is what is in its file, whatever was done in between."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatkit.core.log.keys import Keys
from chatkit.core.log.state import State
from chatkit.drivers.sqlite import Connection, Params, Row, open_sqlite
from chatkit.errors import UnavailableError
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore, hot
from chatkit.storage.sqlite.load import load
from chatkit.testing.contracts.storage_commands import (
    NOW,
    add,
    delivered,
    device,
    do,
    group,
    head,
    read,
    remove,
    send,
    single,
)

from .ids import seeded_ids

CONVERSATIONS = ("s0", "s1", "s2", "g0", "g1")
USERS = ("ann", "bob", "cat")
DEVICES = ("phone", "tablet")


class Counted:
    """A connection that counts what it loads of conversations, and that can refuse to commit."""

    def __init__(self, inner: Connection) -> None:
        self.inner = inner
        self.loads = 0
        self.broken = False
        self.executemany, self.change, self.begin = inner.executemany, inner.change, inner.begin
        self.rollback, self.close = inner.rollback, inner.close

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        self.loads += "CROSS JOIN conversation AS c ON c.conversation_id" in sql
        return self.inner.execute(sql, params)

    def commit(self) -> None:
        if self.broken:
            raise UnavailableError("storage refused: full", retry_after_s=1.0)
        self.inner.commit()


Opened = tuple[SqliteStore, Counted]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "chat.db")


@pytest.fixture
async def opened(path: str) -> AsyncIterator[Opened]:
    """A store with three SINGLEs and two GROUPs, and two devices of each user."""
    made: list[Counted] = []

    def connect(path: str, *, read_only: bool = False) -> Connection:
        made.append(Counted(open_sqlite(path, read_only=read_only)))
        return made[-1]

    store = SqliteStore(path, ids=seeded_ids(), threads=False, connect=connect)
    await store.migrate()
    await do(store, *(device(user, name) for user in USERS for name in DEVICES))
    await do(store, single("s0", "ann", "bob"), single("s1", "bob", "cat"), single("s2", "ann", "cat"))
    await do(store, group("g0", *USERS), group("g1", "ann", "bob"))
    yield store, made[0]
    await store.aclose()


def rows(value: Any) -> Any:
    """Everything that a row holds, by name."""
    if isinstance(value, msgspec.Struct):
        return {name: rows(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: rows(it) for key, it in value.items()}
    return [rows(it) for it in value] if isinstance(value, list | tuple) else value


def kept(store: SqliteStore) -> hot.HotRows | None:
    assert store._writer is not None
    return store._writer._hot


def check(store: SqliteStore, connection: Counted) -> bool:
    """What is kept is what would be loaded. Returns whether anything is."""
    it = kept(store)
    if it is None:
        return False
    keys, state = Keys(), State()
    keys.conversations.update(it._conversations)
    for name, membership in it._memberships.items():
        (keys.members if membership.loaded_devices is None else keys.cursors).add(name)
    keys.devices.update(it._devices)
    load(connection.inner, keys, state)
    for conversation_id, conversation in it._conversations.items():
        assert rows(conversation) == rows(state.conversations[conversation_id])
    for (_, user_id), membership in it._memberships.items():
        assert rows(membership) == rows(state.memberships[user_id][membership.conversation.key])
    assert rows(it._devices) == rows(state.devices)
    return True


def anything(rng: random.Random, number: int) -> base.Command:
    """Mostly what is hot, of anybody anywhere, allowed or not."""
    where, who, seq = rng.choice(CONVERSATIONS), rng.choice(USERS), rng.randrange(12)
    kind = rng.choices(("send", "delivered", "read", "add", "remove", "device"), (10, 8, 5, 1, 1, 1))[0]
    if kind == "send":
        return send(where, who, f"k{rng.randrange(number + 2)}")
    if kind == "delivered":
        return delivered(where, who, seq, rng.choice((*DEVICES, *DEVICES, *DEVICES, "new")))
    if kind == "read":
        return read(where, who, seq)
    if kind == "device":
        return device(who, rng.choice(DEVICES))
    return add(where, "ann", who) if kind == "add" else remove(where, who, who)


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_kept_is_what_would_be_loaded(opened: Opened, seed: int) -> None:
    store, connection = opened
    rng = random.Random(seed)
    found = 0
    for number in range(60):
        await store.commit([anything(rng, number) for _ in range(rng.choice((1, 2, 5)))])
        if not rng.randrange(12):
            await store.deliveries.claim(base.ClaimTerms(2 * NOW, 0, 1000, 1 + number), 10)
        found += check(store, connection)

    assert found > 15


async def test_the_next_batch_of_a_pair_loads_nothing(opened: Opened) -> None:
    store, connection = opened
    loads = []
    for number in range(3):
        before = connection.loads
        await do(store, send("s0", "ann", f"k{number}"), delivered("s0", "bob", number + 1))
        loads.append(connection.loads - before)

    assert loads == [1, 0, 0]


async def test_a_transaction_that_failed_leaves_nothing_in_memory(opened: Opened) -> None:
    store, connection = opened
    await do(store, send("s0", "ann", "a"))
    connection.broken = True
    with pytest.raises(UnavailableError):
        await store.commit([send("s0", "ann", "lost"), delivered("s0", "bob", 2)])
    assert kept(store) is None

    connection.broken = False
    await do(store, send("s0", "ann", "b"))
    assert (await head(store, "ann", "s0")).head_seq == 3
    assert check(store, connection)


async def test_what_somebody_else_writes_to_the_file_is_seen(opened: Opened, path: str) -> None:
    store, _ = opened
    await do(store, send("s0", "ann", "a"))
    other = open_sqlite(path)
    other.change("UPDATE conversation SET epoch = 'e9' WHERE conversation_id = 's0'")
    other.close()
    (sent,) = await store.commit([send("s0", "ann", "b")])

    assert isinstance(sent, base.Appended) and sent.entry.epoch == "e9"


async def test_it_is_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = opened
    monkeypatch.setattr(hot, "ROWS_MAX", 3)
    await do(store, send("s0", "ann", "a"))
    assert kept(store) is not None
    await do(store, send("s1", "bob", "a"))
    assert kept(store) is None
