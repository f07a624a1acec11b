"""However long a batch is, the store on SQLite issues as many statements: one for each kind of row (and 1,024 keys)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from chatkit.drivers.sqlite import Connection, Params, Row, open_sqlite
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import (
    add,
    confirm,
    delivered,
    device,
    do,
    group,
    read,
    recall,
    remove,
    send,
    single,
    title_entry,
)

from .ids import seeded_ids

FEW, MANY = 4, 400


class Counted:
    """A connection that counts statements."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.count = 0
        self.begin, self.commit = inner.begin, inner.commit
        self.rollback, self.close = inner.rollback, inner.close

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        self.count += 1
        return self._inner.execute(sql, params)

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        self.count += 1
        self._inner.executemany(sql, rows)

    def change(self, sql: str, params: Params = ()) -> int:
        self.count += 1
        return self._inner.change(sql, params)


Counting = tuple[SqliteStore, Counted]


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    """A store with 400 groups and 400 SINGLEs of ann's, in each a message, and a device of each user."""
    made: list[Counted] = []

    def connect(path: str, *, read_only: bool = False) -> Connection:
        made.append(Counted(open_sqlite(path, read_only=read_only)))
        return made[-1]

    store = SqliteStore(":memory:", ids=seeded_ids(), threads=False, connect=connect)
    await store.migrate()
    await do(store, device("ann"), *(device(f"u{n}") for n in range(MANY)))
    await do(store, *(group(f"g{n}", "ann", f"u{n}", "cat") for n in range(MANY)))  # numbers 1 to 400
    await do(store, *(single(f"s{n}", "ann", f"u{n}") for n in range(MANY)))
    await do(store, *(send(f"{kind}{n}", "ann", "first") for kind in "gs" for n in range(MANY)))
    yield store, made[0]
    await store.aclose()


async def forget(store: SqliteStore) -> None:
    """Whatever the store took from the batch before, it loads again from here on."""
    await do(store, device("cat"))


Make = Callable[[int], base.Command]
BATCHES: dict[str, list[Make]] = {
    "messages": [lambda n: send(f"s{n}", "ann", "k")],
    "messages to one conversation": [lambda n: send("g0", "ann", f"k{n}")],
    "repeats": [lambda n: send(f"s{n}", "ann", "first")],
    "confirmations": [lambda n: delivered(f"s{n}", f"u{n}", 2)],
    "confirmations in groups": [lambda n: delivered(f"g{n}", f"u{n}", 2)],
    "reading": [lambda n: read(f"g{n}", f"u{n}", 2)],
    "single confirmations": [lambda n: confirm(f"{n + 1:x}-e1-2", f"u{n}")],
    "unknown devices": [lambda n: delivered(f"g{n}", f"u{n}", 2, "web")],
    "recalls": [lambda n: recall(f"{n + 1:x}-e1-2", "ann")],
    "creations": [lambda n: group(f"new{n}", "ann", f"u{n}")],
    "pairs": [lambda n: single(f"new{n}", "cat", f"u{n}")],
    "joining": [lambda n: add(f"g{n}", "ann", "dan", f"u{n + 1}")],
    "joining by the host": [lambda n: add(f"g{n}", None, "dan")],
    "leaving": [lambda n: remove(f"g{n}", "ann", "cat")],
    "owners that leave": [lambda n: remove(f"g{n}", "ann", "ann")],
    "titles and owners": [lambda n: base.UpdateConversation(f"g{n}", "ann", title_entry("new"), f"u{n}", 9)],
    "blocks": [lambda n: base.BlockUser("ann", f"u{n}", 9)],
    "blocks that end": [lambda n: base.UnblockUser("ann", f"u{n}")],
    "sessions": [lambda n: device(f"u{n}", "new")],
    "logins": [lambda n: base.RenewLogin(f"u{n}", "phone", None, "", 9)],
    "epochs": [lambda n: base.RenewEpoch(f"g{n}", "e2", 9)],
    "mutes": [lambda n: base.Mute(f"g{n}", "ann", 9)],
    "push tokens": [lambda n: base.RegisterPush(f"u{n}", "phone", "log", f"{n}", False, 9)],
    "push tokens that go": [lambda n: base.UnregisterPush(f"u{n}", "phone")],
    "all at once": [
        lambda n: send(f"s{n}", "ann", "k"),
        lambda n: delivered(f"s{n}", f"u{n}", 3),
        lambda n: recall(f"{n + 1:x}-e1-2", "ann"),
        lambda n: group(f"new{n}", "ann", f"u{n}"),
        lambda n: send(f"new{n}", "ann", "k"),
        lambda n: add(f"g{n}", "ann", "dan"),
        lambda n: remove(f"g{n}", "ann", "cat"),
        lambda n: device(f"u{n}", "new"),
    ],
}


@pytest.mark.parametrize("name", BATCHES)
async def test_the_number_of_statements_does_not_grow_with_the_batch(counting: Counting, name: str) -> None:
    store, connection = counting
    counts = []
    for numbers in (range(FEW), range(FEW, MANY // len(BATCHES[name]))):
        await forget(store)
        before = connection.count
        await do(store, *(make(n) for n in numbers for make in BATCHES[name]))
        counts.append(connection.count - before)

    assert counts[1] <= counts[0] <= 40


async def test_messages_of_pairs_and_their_confirmations_take_ten_statements_and_then_six(
    counting: Counting,
) -> None:
    """However many they are: five that load, four that write, and one for how far everybody has got. Where the batch
    before was in the same conversations, only one is left of the first five: that nobody else wrote to the file."""
    store, connection = counting
    counts = []
    for number, numbers in enumerate((range(1), range(FEW), range(MANY // 2), range(MANY))):
        await forget(store)
        for again in range(2):
            before = connection.count
            messages = [send(f"s{n}", "ann", f"{number}-{again}-{k}") for n in numbers for k in range(2)]
            await do(store, *messages, *(delivered(f"s{n}", f"u{n}", 2 + again) for n in numbers))
            counts.append(connection.count - before)

    assert counts == [10, 6] * 4


async def test_a_user_in_many_conversations_costs_as_many_statements(counting: Counting) -> None:
    """A device that is new, one that is driven out, and one that comes back, in 800 conversations."""
    store, connection = counting
    counts = []
    for user in ("cat", "ann"):
        await do(store, *(device(user, f"d{number}", number) for number in range(base.DEVICES_MAX)))
        before = connection.count
        await do(store, device(user, "new", 99), device(user, "d0", 100), device(user, "newer", 101))
        counts.append(connection.count - before)

    assert counts[1] <= counts[0] <= 30


async def test_a_large_group_costs_as_many_statements(counting: Counting) -> None:
    """A creation of 300, one that joins, one that leaves, and a confirmation there."""
    store, connection = counting
    counts = []
    for name, size in (("small", 3), ("large", 300)):
        before = connection.count
        await do(store, group(name, *(f"u{n}" for n in range(size))), add(name, "u0", "dan"))
        await do(store, remove(name, "u0", "u2"), delivered(name, "u1", 3))
        counts.append(connection.count - before)

    assert counts[1] <= counts[0]


async def rows_written(store: SqliteStore, connection: Counted, *commands: base.Command) -> int:
    """How many rows a batch writes."""
    ((before,),) = connection.execute("SELECT total_changes()")
    await do(store, *commands)
    ((after,),) = connection.execute("SELECT total_changes()")
    return int(after - before)


async def test_a_new_device_writes_as_many_rows_wherever_its_user_is(counting: Counting) -> None:
    """One for the device and one for its resume token, with 800 conversations and with none."""
    store, connection = counting
    assert [await rows_written(store, connection, device(user, "new")) for user in ("ann", "eve")] == [2, 2]


async def test_joining_writes_as_many_rows_however_many_devices_a_user_has(counting: Counting) -> None:
    store, connection = counting
    await do(store, *(device("eve", f"d{n}", n) for n in range(base.DEVICES_MAX)))
    many, one = [await rows_written(store, connection, add("g0", "ann", user)) for user in ("eve", "dan")]

    assert many == one


async def test_a_list_by_activity_takes_five_statements_however_long_it_is(counting: Counting) -> None:
    """The rows; where their last messages are, those, and what was said of them later; what is unread."""
    store, connection = counting
    counts = []
    for user, limit in (("u1", 1), ("u2", 2), ("cat", 200)):
        before = connection.count
        page = await store.recent(user, None, None, limit, 1_000_000)
        counts.append(connection.count - before)
        assert len(page.rows) == limit
        assert all(row.last is not None and row.unread == 1 for row in page.rows)

    assert counts == [5, 5, 5]
