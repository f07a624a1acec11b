"""The store on SQLite keeps the contract, with threads and without, and what only a file can break."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatkit.drivers import sqlite as driver
from chatkit.drivers.sqlite import Connection, DiskFailedError, Params, Row, open_sqlite
from chatkit.errors import ConfigurationError, InternalError, UnavailableError
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite import deliveries as sqlite_deliveries
from chatkit.storage.sqlite import load as sqlite_load
from chatkit.storage.sqlite import reads as sqlite_reads
from chatkit.storage.sqlite import trail as sqlite_trail
from chatkit.storage.sqlite import write as sqlite_write
from chatkit.storage.sqlite.select import with_keys
from chatkit.testing.contracts.storage import Make, StoreContract, VolatileStoreContract
from chatkit.testing.contracts.storage_blobs import BlobContract
from chatkit.testing.contracts.storage_commands import (
    NOW,
    delivered,
    device,
    do,
    group,
    one,
    read,
    recall,
    send,
    seqs,
)
from chatkit.testing.contracts.storage_contacts import ContactContract
from chatkit.testing.contracts.storage_import import ImportContract
from chatkit.testing.contracts.storage_moderation import DurableModerationContract, ModerationContract
from chatkit.testing.contracts.storage_person import PersonContract
from chatkit.testing.contracts.storage_search import SearchContract
from chatkit.testing.contracts.storage_trail import TrailContract

from .ids import seeded_ids
from .made_log import put_made_log


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "chat.db")


async def opened(path: str, **options: Any) -> SqliteStore:
    store = SqliteStore(path, ids=seeded_ids(), **options)
    await store.migrate()
    return store


class TestWithThreads(
    StoreContract,
    BlobContract,
    ContactContract,
    DurableModerationContract,
    PersonContract,
    ImportContract,
    SearchContract,
    TrailContract,
):
    @pytest.fixture
    def make(self, path: str) -> Make:
        put_made_log(path)
        ids = seeded_ids()  # of all: a second store would draw another secret
        return lambda: SqliteStore(path, ids=ids)


class TestInline(StoreContract):
    @pytest.fixture
    def make(self, path: str) -> Make:
        put_made_log(path)
        ids = seeded_ids()
        return lambda: SqliteStore(path, ids=ids, threads=False)


class TestInMemory(
    VolatileStoreContract,
    BlobContract,
    ContactContract,
    ModerationContract,
    PersonContract,
    ImportContract,
    SearchContract,
    TrailContract,
):
    @pytest.fixture
    async def store(self) -> AsyncIterator[SqliteStore]:
        store = await opened(":memory:", threads=False)
        yield store
        await store.aclose()


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.aclose()


def raw(store: SqliteStore) -> Connection:
    """The connection that the store writes with."""
    assert store._writer is not None
    return store._writer._connection


class Faulty:
    """A connection that fails where it is told to."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.faults: dict[str, Exception] = {}

    def _check(self, sql: str) -> None:
        for part, error in self.faults.items():
            if part in sql:
                raise error

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        self._check(sql + repr(params))
        return self._inner.execute(sql, params)

    def change(self, sql: str, params: Params = ()) -> int:
        self._check(sql + repr(params))
        return self._inner.change(sql, params)

    def executemany(self, sql: str, rows: Any) -> None:
        self._check(sql + repr(rows))
        self._inner.executemany(sql, rows)

    def begin(self) -> None:
        self._check("BEGIN")
        self._inner.begin()

    def commit(self) -> None:
        self._check("COMMIT")
        self._inner.commit()

    def rollback(self) -> None:
        self._check("ROLLBACK")
        self._inner.rollback()

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
async def faulty(path: str) -> AsyncIterator[tuple[SqliteStore, Faulty]]:
    """A store whose writer can be made to fail."""
    made: list[Faulty] = []

    def open_faulty(path: str, *, read_only: bool = False) -> Connection:
        inner = open_sqlite(path, read_only=read_only)
        if read_only:
            return inner
        made.append(Faulty(inner))
        return made[-1]

    store = SqliteStore(path, ids=seeded_ids(), connect=open_faulty)
    await store.migrate()
    await do(store, group("g", "ann", "bob"))
    yield store, made[0]
    made[0].faults.clear()
    await store.aclose()


async def test_the_secret_stays_with_the_file(path: str) -> None:
    first = SqliteStore(path, ids=seeded_ids())
    secret = await first.migrate()
    await first.aclose()
    second = SqliteStore(path, ids=seeded_ids(2))

    assert len(secret) == 32
    assert await second.migrate() == secret
    await second.aclose()


async def test_what_was_committed_is_there_after_reopening(path: str) -> None:
    first = await opened(path)
    await do(first, group("g", "ann", "bob"), send("g", "ann", "k"))
    await first.aclose()
    second = await opened(path)

    assert await seqs(second, "g", "bob") == [1, 2]
    again = await one(second, send("g", "ann", "k"), base.Appended)
    assert again.repeat
    await second.aclose()


async def test_the_writer_syncs_fully_and_the_tables_are_strict(store: SqliteStore) -> None:
    writer = raw(store)
    assert writer.execute("PRAGMA synchronous") == [(2,)]
    assert writer.execute("PRAGMA journal_mode") == [("wal",)]
    loose = writer.execute(
        "SELECT name FROM pragma_table_list WHERE type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'"
    )
    assert loose == []


async def test_wrong_types_never_get_in(store: SqliteStore) -> None:
    writer = raw(store)
    await do(store, group("g", "ann"))
    with pytest.raises(sqlite3.IntegrityError):
        writer.execute("UPDATE conversation SET head_seq = 'many'")


async def test_the_audit_cannot_be_rewritten(store: SqliteStore) -> None:
    writer = raw(store)
    await do(store, group("g", "ann"))
    for sql in ("UPDATE audit SET actor_id = 'eve'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            writer.execute(sql)


async def test_foreign_and_newer_files_are_refused(path: str, tmp_path: Path) -> None:
    foreign = open_sqlite(str(tmp_path / "foreign.db"))
    foreign.execute("CREATE TABLE theirs (a INTEGER)")
    foreign.close()
    with pytest.raises(ConfigurationError, match="another program"):
        await opened(str(tmp_path / "foreign.db"))

    store = await opened(path)
    writer = raw(store)
    writer.execute("INSERT INTO schema_migration VALUES (9999, '9999_future.sql')")
    await store.aclose()
    with pytest.raises(ConfigurationError, match="newer"):
        await opened(path)


async def test_a_database_in_memory_has_one_connection() -> None:
    with pytest.raises(ConfigurationError, match="threads=False"):
        SqliteStore(":memory:", ids=seeded_ids())


async def test_a_store_that_is_not_open_takes_nothing(path: str) -> None:
    store = SqliteStore(path, ids=seeded_ids())
    for _ in range(2):
        assert not store.healthy
        with pytest.raises(UnavailableError):
            await store.commit([group("g", "ann")])
        with pytest.raises(UnavailableError):
            await store.outbox(1)
        await store.aclose()


async def test_it_opens_once(store: SqliteStore) -> None:
    with pytest.raises(ConfigurationError, match="open already"):
        await store.migrate()


async def test_two_stores_on_one_file_stay_dense(path: str) -> None:
    first, second = await opened(path, exclusive=False), await opened(path, exclusive=False)
    await do(first, group("g", "ann", "bob"))

    async def write(store: SqliteStore, user: str) -> None:
        for turn in range(20):
            await do(store, *(send("g", user, f"{turn}-{number}") for number in range(5)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, first, "ann")
        tasks.start_soon(write, second, "bob")

    page = await first.page("g", "ann", 0, 300, 10**6)
    assert [entry.seq for entry in page.entries] == list(range(1, 202))
    assert len({entry.message_id for entry in page.entries}) == 201
    await first.aclose()
    await second.aclose()


async def test_membership_changed_by_another_process_counts_at_once(path: str) -> None:
    first, second = await opened(path, exclusive=False), await opened(path, exclusive=False)
    await do(first, group("g", "ann", "bob"), send("g", "bob", "k"))
    await do(second, base.RemoveMember("g", "ann", "bob", NOW))

    (outcome,) = await first.commit([send("g", "bob", "k2")])
    assert isinstance(outcome, base.Refused)
    await first.aclose()
    await second.aclose()


async def test_many_at_once(store: SqliteStore) -> None:
    await do(store, group("g", "ann", "bob"))

    async def write(number: int) -> None:
        await do(store, send("g", "ann", f"{number}"), send("g", "bob", f"{number}"))
        assert len(await store.heads("ann", "phone")) == 1

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(write, number)

    assert await seqs(store, "g", "ann") == list(range(1, 62))


async def test_a_lock_held_elsewhere_is_unavailable_and_reads_go_on(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "BUSY_TIMEOUT_MS", 1)
    store = await opened(path)
    await do(store, group("g", "ann"), send("g", "ann", "k1"))
    other = open_sqlite(path)
    other.begin()

    with pytest.raises(UnavailableError) as caught:
        await store.commit([send("g", "ann", "k2")])
    assert caught.value.retry_after_s
    assert not store.healthy
    assert await seqs(store, "g", "ann") == [1, 2]
    other.rollback()
    await do(store, send("g", "ann", "k2"))
    assert store.healthy
    assert await seqs(store, "g", "ann") == [1, 2, 3]
    other.close()
    await store.aclose()


async def test_an_empty_batch_shows_whether_storage_takes_one(
    faulty: tuple[SqliteStore, Faulty], caplog: pytest.LogCaptureFixture
) -> None:
    store, connection = faulty
    for where in ("BEGIN", "COMMIT"):
        for fault in (UnavailableError("busy"), RuntimeError("a bug")):
            connection.faults[where] = fault
            with pytest.raises(UnavailableError):
                await store.commit([])
            assert not store.healthy
            connection.faults.clear()
            assert await store.commit([]) == []
            assert store.healthy
    assert not caplog.records


async def test_a_batch_of_which_nothing_was_committed_is_not_healthy(
    faulty: tuple[SqliteStore, Faulty],
) -> None:
    store, connection = faulty
    connection.faults["COMMIT"] = RuntimeError("a bug")
    outcomes = await store.commit([send("g", "ann", "a"), send("g", "bob", "a")])

    errors = [it.error for it in outcomes if isinstance(it, base.Refused)]
    assert [type(error) for error in errors] == [InternalError, InternalError]
    assert errors[0] is not errors[1]
    assert not store.healthy
    connection.faults.clear()
    await store.commit([])
    assert store.healthy


async def test_a_full_disk_refuses_and_recovers(store: SqliteStore) -> None:
    writer = raw(store)
    await do(store, group("g", "ann"))
    ((pages,),) = writer.execute("PRAGMA page_count")
    writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(UnavailableError, match="full"):
        await store.commit([send("g", "ann", "small"), send("g", "ann", "big", "x" * 60_000)])

    assert not store.healthy
    assert await seqs(store, "g", "ann") == [1]
    writer.execute("PRAGMA max_page_count = 1000000")
    await do(store, send("g", "ann", "small"), send("g", "ann", "big", "x" * 60_000))
    assert store.healthy
    assert await seqs(store, "g", "ann") == [1, 2, 3]


@pytest.mark.parametrize(
    "where", ["BEGIN", "COMMIT", "INSERT INTO message", "UPDATE conversation", "INTO outbox"]
)
async def test_after_a_refusal_of_storage_a_resend_finds_one_message(
    faulty: tuple[SqliteStore, Faulty], where: str
) -> None:
    store, connection = faulty
    await do(store, *(device(it) for it in ("ann", "bob")), *(delivered("g", it, 1) for it in ("ann", "bob")))
    connection.faults[where] = UnavailableError("disk is full", retry_after_s=1.0)
    with pytest.raises(UnavailableError):
        await store.commit([send("g", "ann", "a"), send("g", "ann", "b")])
    assert not store.healthy
    assert await seqs(store, "g", "ann") == [1]
    connection.faults.clear()

    outcomes = await do(store, send("g", "ann", "a"), send("g", "ann", "b"), send("g", "ann", "a"))
    assert [it.entry.seq for it in outcomes if isinstance(it, base.Appended)] == [2, 3, 2]


async def test_after_an_error_of_the_disk_nothing_is_committed_until_reopened(
    faulty: tuple[SqliteStore, Faulty],
) -> None:
    store, connection = faulty
    connection.faults["COMMIT"] = DiskFailedError("disk I/O error", retry_after_s=1.0)
    with pytest.raises(UnavailableError):
        await store.commit([send("g", "ann", "a")])
    connection.faults.clear()

    for _ in range(2):
        with pytest.raises(UnavailableError, match="opened anew"):
            await store.commit([send("g", "ann", "a")])
        assert not store.healthy
    assert await seqs(store, "g", "ann") == [1]
    await store.aclose()
    await store.migrate()
    await do(store, send("g", "ann", "a"))
    assert await seqs(store, "g", "ann") == [1, 2]


async def test_a_transaction_that_cannot_be_ended_stops_the_store(faulty: tuple[SqliteStore, Faulty]) -> None:
    store, connection = faulty
    connection.faults["COMMIT"] = UnavailableError("full")
    connection.faults["ROLLBACK"] = UnavailableError("full")
    with pytest.raises(UnavailableError, match="full"):
        await store.commit([send("g", "ann", "a")])
    connection.faults.clear()
    with pytest.raises(UnavailableError, match="opened anew"):
        await store.commit([send("g", "ann", "a")])


async def test_one_command_that_breaks_costs_only_itself(
    faulty: tuple[SqliteStore, Faulty], caplog: pytest.LogCaptureFixture
) -> None:
    store, connection = faulty
    connection.faults["'bad'"] = RuntimeError("a bug")
    outcomes = await store.commit(
        [send("g", "ann", "a"), send("g", "ann", "bad", "secret"), send("g", "bob", "b")]
    )

    assert [type(it) for it in outcomes] == [base.Appended, base.Refused, base.Appended]
    assert isinstance(outcomes[1], base.Refused) and type(outcomes[1].error) is InternalError
    assert await seqs(store, "g", "ann") == [1, 2, 3]
    assert store.healthy
    assert "Append failed" in caplog.text
    assert "secret" not in caplog.text


async def test_a_command_that_breaks_and_cannot_be_rolled_back_ends_the_batch(
    faulty: tuple[SqliteStore, Faulty],
) -> None:
    store, connection = faulty
    connection.faults["'bad'"] = RuntimeError("a bug")
    connection.faults["ROLLBACK"] = RuntimeError("another one")
    with pytest.raises(UnavailableError):
        await store.commit([send("g", "ann", "bad"), send("g", "bob", "b")])
    connection.faults.clear()
    with pytest.raises(UnavailableError):
        await store.commit([send("g", "bob", "b")])
    assert not store.healthy


async def test_after_a_message_that_breaks_its_sender_gets_no_later_one_in_before_it(
    faulty: tuple[SqliteStore, Faulty],
) -> None:
    store, connection = faulty
    await do(store, group("h", "ann", "bob"))
    connection.faults["'bad'"] = RuntimeError("a bug")
    batch = [
        send("g", "ann", "before"),
        send("g", "ann", "bad"),
        send("g", "bob", "of another"),
        send("g", "ann", "after"),
        send("h", "ann", "elsewhere"),
        read("g", "ann", 1),
        send("g", "ann", "last"),
    ]
    outcomes = await store.commit(batch)

    refused = [turn for turn, it in enumerate(outcomes) if isinstance(it, base.Refused)]
    assert refused == [1, 3, 6]
    errors = [it.error for it in outcomes if isinstance(it, base.Refused)]
    assert {type(error) for error in errors} == {InternalError}
    assert len({id(error) for error in errors}) == 3
    assert await seqs(store, "g", "ann") == [1, 2, 3]
    assert store.healthy
    connection.faults.clear()
    again = await do(store, *batch)
    assert [it.entry.seq for it in again if isinstance(it, base.Appended)] == [2, 4, 3, 5, 2, 6]


async def test_after_a_command_that_breaks_without_being_a_message_messages_go_on(
    faulty: tuple[SqliteStore, Faulty],
) -> None:
    store, connection = faulty
    connection.faults["member_cursor"] = RuntimeError("a bug")
    outcomes = await store.commit([read("g", "ann", 1), send("g", "ann", "a")])

    assert [type(it) for it in outcomes] == [base.Refused, base.Appended]


async def test_a_reader_that_cannot_be_opened_leaves_nothing_open(path: str) -> None:
    class Counted(Faulty):
        closed = 0

        def close(self) -> None:
            super().close()
            self.closed += 1

    made: list[Counted] = []

    few = True

    def open_some(path: str, *, read_only: bool = False) -> Connection:
        if few and len(made) == 3:
            raise UnavailableError("too many open files")
        made.append(Counted(open_sqlite(path, read_only=read_only)))
        return made[-1]

    store = SqliteStore(path, ids=seeded_ids(), connect=open_some)
    with pytest.raises(UnavailableError, match="too many"):
        await store.migrate()

    assert [connection.closed for connection in made] == [1, 1, 1]
    assert not store.healthy
    with pytest.raises(UnavailableError, match="not open"):
        await store.outbox(1)
    few = False
    await store.migrate()
    assert await store.outbox(1) == []
    await store.aclose()


async def test_a_value_that_sqlite_cannot_hold_costs_only_itself(store: SqliteStore) -> None:
    await do(store, group("g", "ann", "bob"))
    good, bad = send("g", "bob", "k"), send("g", "ann", "huge", at_ms=2**70)
    outcomes = await store.commit([bad, good])

    assert [type(it) for it in outcomes] == [base.Refused, base.Appended]


async def test_a_cancelled_commit_ends_whole(store: SqliteStore) -> None:
    await do(store, group("g", "ann"))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(store.commit, [send("g", "ann", f"{number}-{n}") for n in range(5)])
            await anyio.lowlevel.checkpoint()
            scope.cancel()

    assert scope.cancelled_caught
    found = await seqs(store, "g", "ann")
    assert found == list(range(1, len(found) + 1))
    assert (len(found) - 1) % 5 == 0
    await do(store, send("g", "ann", "after"))


async def test_recalled_bodies_leave_the_files_whatever_happened_to_their_pages(path: str) -> None:
    store = await opened(path)
    await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
    rng = random.Random(7)
    names: list[str] = []
    for turn in range(3):
        for number in range(300):
            words = f"TOPSECRET-{turn}-{number}-{'x' * rng.choice([0, 50, 900, 3000, 9000])}"
            sent = await one(store, send(rng.choice("gh"), "ann", f"{turn}-{number}", words), base.Appended)
            names.append(sent.entry.message_id)
        rng.shuffle(names)
        await do(store, *(recall(names.pop(), "ann") for _ in range(150)))
    await do(store, *(recall(name, "ann") for name in names))
    writer = raw(store)
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    left = b"".join(file.read_bytes() for file in Path(path).parent.iterdir())
    assert left.count(b"TOPSECRET") == 0
    await store.aclose()


async def test_the_inbox_view_shows_what_each_device_misses(store: SqliteStore) -> None:
    await do(store, group("g", "ann", "bob"), device("ann"), device("bob"), device("bob", "tablet"))
    await do(store, send("g", "ann", "k"), delivered("g", "ann", 2), delivered("g", "bob", 1))
    await do(store, read("g", "bob", 2))
    writer = raw(store)

    rows = writer.execute("SELECT * FROM offline_inbox ORDER BY user_id, device_id")
    assert rows == [("g", "bob", "phone", 2, 2), ("g", "bob", "tablet", 1, 2)]


def statements() -> list[tuple[str, str]]:
    """Every statement of the store, by name."""
    modules = (sqlite_load, sqlite_write, sqlite_reads, sqlite_deliveries, sqlite_trail)
    words = (
        "SELECT_",
        "INSERT_",
        "UPDATE_",
        "DELETE_",
        "DROP_",
        "WAKE_",
        "TAKE_",
        "FINISH_",
        "PUT_",
        "DISCARD_",
        "NOTE_",
        "KEEP_",
    )
    found = {(name, sql) for it in modules for name, sql in vars(it).items() if name.startswith(words)}
    return sorted((name, with_keys(sql, 4, columns_of_keys(sql))) for name, sql in found)


def columns_of_keys(sql: str) -> int:
    """How many columns a key has that a statement takes many of."""
    return sql[: sql.find("{keys}")].count(",") + 1 if "{keys}" in sql else 0


async def test_no_statement_scans_a_table(store: SqliteStore) -> None:
    writer = raw(store)
    assert len(statements()) > 40
    for name, sql in statements():
        plan = writer.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sqlite_parameters(sql))
        scans = [row[3] for row in plan if row[3].startswith("SCAN")]
        for scan in scans:
            assert is_bounded(scan, name), (name, scan)


def sqlite_parameters(sql: str) -> int:
    """How many values a statement takes."""
    numbered = [int(part[0]) for part in sql.split("?")[1:] if part[:1].isdigit()]
    return max(numbered) if numbered else sql.count("?")


KEYS = "SCAN 4 CONSTANT ROWS"


def is_bounded(scan: str, name: str) -> bool:
    """A scan of a statement's own argument, of a subquery with a limit, or of an index in the wanted order."""
    if (
        "VIRTUAL TABLE" in scan
        or scan.startswith("SCAN (subquery")
        or scan.endswith("VALUES CLAUSE")  # since 3.46 it says of how many rows
        or scan in ("SCAN k", "SCAN CONSTANT ROW", KEYS)
    ):
        return True
    if name == "SELECT_PAYLOADS":
        return scan == "SCAN t"  # the parts of one stream, found by its key
    if name == "SELECT_OUTBOX":
        return scan == "SCAN o"  # by its key, in whose order it is wanted
    if name in ("SELECT_DUE_DEVICES", "SELECT_OLDEST", "SELECT_NEWEST"):
        return scan in ("SCAN v", "SCAN o")  # what is found by the index
    if name in ("SELECT_DEAD_LETTERS", "SELECT_LAG"):  # in the index's order, up to a limit
        return any(index in scan for index in ("delivery_given_up", "delivery_ready", "outbox_ready"))
    return name.startswith(("SELECT_ROWS_OF_", "SELECT_RECENT_OF_")) and scan == "SCAN c"


def test_a_store_made_before_the_event_loop_works_in_it(path: str) -> None:
    store = SqliteStore(path, ids=seeded_ids())

    async def use() -> list[int]:
        await store.migrate()
        await do(store, group("g", "ann"), send("g", "ann", "k"))
        found = await seqs(store, "g", "ann")
        await store.aclose()
        return found

    assert anyio.run(use) == [1, 2]


async def test_a_closed_store_can_be_opened_again(path: str) -> None:
    store = await opened(path)
    await do(store, group("g", "ann"))
    await store.aclose()
    assert not store.healthy
    await store.migrate()

    assert store.healthy
    assert await seqs(store, "g", "ann") == [1]
    await store.aclose()


async def test_a_connection_is_given_back_when_its_read_has_ended(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "chat.db"), ids=seeded_ids(), readers=2)
    await store.migrate()
    free = list[bool]()

    def read(connection: Connection) -> int:
        free.append(connection in store._readers)
        ((count,),) = connection.execute("SELECT count(*) FROM conversation")
        free.append(connection in store._readers)
        return int(count)

    def fail(connection: Connection) -> None:
        free.append(connection in store._readers)
        raise ValueError("the read failed")

    assert await store._read(read) == 0
    with pytest.raises(ValueError, match="the read failed"):
        await store._read(fail)
    assert free == [False, False, False]
    assert len(store._readers) == 2
    await store.aclose()
