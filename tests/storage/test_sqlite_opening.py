"""What a SQLite file must be like to be served: whole, and in nobody else's hands."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from chatkit.drivers import sqlite as driver
from chatkit.drivers.file_lock import SUFFIX
from chatkit.drivers.sqlite import DamagedError, DamagedRowError, Params, Row, SqliteConnection, open_sqlite
from chatkit.errors import ConfigurationError, InternalError
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.opening import check_newest
from chatkit.testing.contracts.storage_commands import NOW, do, group, send, seqs

from .damage import (
    DAMAGES,
    FOUND_AT_OPENING,
    SECRET,
    Damage,
    change,
    cut_in_half,
    damage_bytes,
    make_log,
    with_second_half_zeroed,
)
from .ids import seeded_ids
from .test_sqlite import opened, raw

STEPS_MAX: Final = 40_000
"""Of SQLite's machine, for the check at an opening."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A log with two conversations and two recalls, closed cleanly."""
    path = str(tmp_path / "chat.db")
    make_log(path)
    return path


async def refusal(path: str) -> str:
    """What the refusal to open a file says is damaged: its newest end, or any part of one that is an older state."""
    with pytest.raises(ConfigurationError) as caught:
        await opened(path)
    assert SECRET not in str(caught.value)
    at_once = rf"the (?:log|SQLite file) {re.escape(path)} is damaged: (?P<at_once>.+); restore a backup"
    later = rf"the log {re.escape(path)} was put back, and is damaged: (?P<later>.+); see .+"
    found = re.fullmatch(f"{at_once}|{later}", str(caught.value))
    assert found, caught.value
    return found["at_once"] or found["later"]


async def test_a_whole_log_is_opened_whatever_was_recalled(path: str) -> None:
    store = await opened(path)
    assert await seqs(store, "g", "bob") == [1, 2, 3]
    await store.aclose()


@pytest.mark.parametrize("damage", [it for it in DAMAGES if it.at_opening], ids=lambda damage: damage.name)
async def test_a_log_whose_newest_end_is_damaged_is_not_served(path: str, damage: Damage) -> None:
    change(path, *damage.sql.split(";"))
    assert await refusal(path) == damage.at_opening


@pytest.mark.parametrize(
    "damage", [it for it in DAMAGES if not it.at_opening], ids=lambda damage: damage.name
)
async def test_other_damage_is_left_to_the_full_check(path: str, damage: Damage) -> None:
    """A bound on the work is one on what can be seen: this says where it is."""
    change(path, *damage.sql.split(";"))
    store = await opened(path, exclusive=False)
    await store.aclose()


@pytest.mark.parametrize("damage", FOUND_AT_OPENING)
async def test_a_file_that_is_not_all_there_is_not_served(
    path: str, damage: Callable[[bytes], bytes]
) -> None:
    damage_bytes(path, damage)
    assert await refusal(path)


async def copied_while_served(path: str, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a log and its write-ahead log, taken from a server that went on after the last checkpoint."""
    copy, wal = tmp_path / "copy.db", tmp_path / "copy.db-wal"
    store = await opened(path)
    await do(store, *(send("g", "ann", f"later {n}") for n in range(30)))
    copy.write_bytes(Path(path).read_bytes())
    wal.write_bytes(Path(path + "-wal").read_bytes())
    await store.aclose()
    return copy, wal


@pytest.mark.parametrize("damage", [cut_in_half, with_second_half_zeroed])
async def test_a_broken_copy_beside_a_whole_write_ahead_log_is_not_served(
    path: str, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """The sizes agree with the write-ahead log, so that SQLite opens it."""
    copy, _ = await copied_while_served(path, tmp_path)
    damage_bytes(str(copy), damage)
    assert await refusal(str(copy))


async def test_a_lost_write_ahead_log_leaves_an_older_log_that_nothing_can_tell(
    path: str, tmp_path: Path
) -> None:
    copy, wal = await copied_while_served(path, tmp_path)
    store = await opened(str(copy))
    assert len(await seqs(store, "g", "bob")) == 33
    await store.aclose()

    copy, wal = await copied_while_served(path, tmp_path)
    wal.unlink()
    store = await opened(str(copy))
    assert len(await seqs(store, "g", "bob")) == 33
    await store.aclose()


# --- the work is bounded ---


class CountingConnection:
    """A connection that counts the steps of SQLite's machine, and keeps the statements."""

    def __init__(self, path: str) -> None:
        self._inner = open_sqlite(path)
        self.steps = 0
        self.statements: list[tuple[str, Params]] = []
        assert isinstance(self._inner, SqliteConnection)
        self._inner._raw.set_progress_handler(self._count, 1)

    def _count(self) -> int:
        self.steps += 1
        return 0

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        self.statements.append((sql, params))
        return self._inner.execute(sql, params)

    def plan(self, sql: str, params: Params) -> list[str]:
        return [row[3] for row in self._inner.execute(f"EXPLAIN QUERY PLAN {sql}", params)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def counted(path: str) -> CountingConnection:
    """A connection after the check of an opening."""
    connection = CountingConnection(path)
    connection.steps = 0
    check_newest(connection)
    return connection


async def grow(path: str, conversations: int, messages: int) -> None:
    """Add groups of two to a log, and messages to each."""
    store = await opened(path, threads=False)
    for number in range(conversations):
        name = f"c{number}"
        texts = (send(name, "ann", f"{n}", at_ms=NOW + n) for n in range(messages))
        await do(store, group(name, "ann", "bob"), *texts)
    await store.aclose()


@pytest.mark.parametrize(("conversations", "messages"), [(1, 20_000), (120, 4), (1200, 4)])
async def test_the_work_does_not_grow_with_the_log(path: str, conversations: int, messages: int) -> None:
    """Counted in steps of SQLite's machine, which are the same on every computer."""
    await grow(path, conversations, messages)
    connection = counted(path)
    connection.close()
    assert connection.steps < STEPS_MAX


async def test_ten_times_the_log_is_the_same_work(tmp_path: Path) -> None:
    steps = []
    for conversations in (150, 1500):
        path = str(tmp_path / f"{conversations}.db")
        await grow(path, conversations, 20)
        connection = counted(path)
        connection.close()
        steps.append(connection.steps)
    assert steps[0] == steps[1]


_BOUNDED_SCAN = re.compile(
    r"SCAN (sqlite_sequence|j VIRTUAL TABLE.*|CONSTANT ROW|\(subquery-\d+\))$"  # a row a table, the keys, LIMIT 10
)


async def test_no_statement_of_it_reads_a_whole_table(path: str) -> None:
    """Each looks a row up in an index, or walks a table from its end up to a LIMIT, and sorts nothing."""
    await grow(path, 10, 10)
    connection = counted(path)
    plans = {sql: connection.plan(sql, params) for sql, params in connection.statements}
    connection.close()
    assert len(plans) > 5
    for sql, steps in plans.items():
        walks = re.search(r"ORDER BY [\w., ]+ LIMIT \?$", sql.strip()) is not None
        scans = [it for it in steps if it.startswith("SCAN") and not _BOUNDED_SCAN.match(it)]
        assert len(scans) <= walks, (sql, steps)
        assert "TEMP B-TREE" not in " ".join(steps), (sql, steps)


# --- what is left behind ---


async def test_a_refused_file_is_left_alone_and_free(path: str) -> None:
    change(
        path,
        "CREATE TABLE kept AS SELECT * FROM message WHERE seq = 302",
        "DELETE FROM message WHERE seq = 302",
    )
    before = Path(path).read_bytes()
    for _ in range(2):
        assert "conversation h" in await refusal(path)
    assert Path(path).read_bytes() == before
    change(path, "INSERT INTO message SELECT * FROM kept")
    store = await opened(path)
    await store.aclose()


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.aclose()


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'{"text":"\xff","type":"TEXT"}', b"\x00\x00", b"{}}"]
)
async def test_a_body_that_breaks_while_served_is_in_no_answer(
    store: SqliteStore, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    raw(store).change("UPDATE message SET payload = ? WHERE conversation_key = 2 AND seq = 9", (body,))
    with pytest.raises(DamagedError, match="conversation h, seq 9"):
        await store.page("h", "bob", 5, 10, 10**6)

    assert "the log is damaged: conversation h, seq 9" in caplog.text
    assert SECRET not in caplog.text
    page = await store.page("h", "bob", 0, 8, 10**6)
    assert [entry.seq for entry in page.entries] == list(range(1, 9))
    assert await seqs(store, "g", "bob") == [1, 2, 3]


async def test_a_text_that_breaks_while_served_is_in_no_answer(store: SqliteStore) -> None:
    sql = "UPDATE message SET sender_id = CAST(x'ff41' AS TEXT) WHERE conversation_key = 2 AND seq = 9"
    raw(store).execute(sql)
    with pytest.raises(DamagedRowError, match="UTF-8"):
        await store.page("h", "bob", 5, 10, 10**6)


async def test_a_damaged_row_refuses_its_own_commands_and_no_others(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    raw(store).execute(
        "UPDATE conversation SET title = CAST(x'544f50ff' AS TEXT) WHERE conversation_id = 'g'"
    )
    for number in range(2):
        to_g, to_h = await store.commit([send("g", "ann", f"g{number}"), send("h", "ann", f"h{number}")])
        assert isinstance(to_g, base.Refused)
        assert isinstance(to_g.error, InternalError)
        assert isinstance(to_h, base.Appended)
        assert store.healthy

    (alone,) = await store.commit([send("g", "ann", "alone")])
    assert isinstance(alone, base.Refused)
    assert store.healthy
    assert "Append of g is refused: storage is damaged: a text is not UTF-8" in caplog.text
    assert "TOP" not in caplog.text
    assert [it.seq for it in await store.entries("h", 304, 9)] == [305, 306]


async def test_a_creation_that_names_no_members_is_in_no_answer(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (b'{"type":"MEMBER","op":"CREATED"}', b'{"op":"CREATED","userIds":5}', b"{}", b"[]", b"\xff"):
        raw(store).change("UPDATE message SET payload = ? WHERE conversation_key = 2 AND seq = 1", (body,))
        with pytest.raises(DamagedRowError, match="conversation h"):
            await store.membership_changes(0, 100)
    assert "the log is damaged: conversation h" in caplog.text


@pytest.mark.parametrize(
    ("table", "column", "where"),
    [
        ("message", "conversation_key", "seq = 304"),
        ("conversation", "head_seq", "conversation_id = 'h'"),
        ("audit", "conversation_key", "audit_id = 7"),
        ("message", "seq", "seq = 304"),
    ],
)
async def test_a_row_of_other_types_at_the_newest_end_is_damage(
    path: str, table: str, column: str, where: str
) -> None:
    """Written while the schema said otherwise."""
    connection = sqlite3.connect(path)
    ((sql,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,))
    connection.close()
    loose = sql.replace("STRICT", "").replace(f"{column} INTEGER", f"{column} TEXT")
    set_schema(path, table, loose)
    change(path, f"UPDATE {table} SET {column} = 'x' WHERE {where}")
    set_schema(path, table, sql)
    assert await refusal(path) == "a row has something else where a number must be"


def set_schema(path: str, table: str, sql: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = 1")
    connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))
    connection.close()


async def test_a_counter_that_is_no_number_is_damage(path: str) -> None:
    change(path, "UPDATE sqlite_sequence SET seq = 'many' WHERE name = 'audit'")
    assert await refusal(path) == "a row has something else where a number must be"


async def test_a_file_has_one_server(path: str, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    first = await opened(path)
    for name in (path, str(link)):
        with pytest.raises(ConfigurationError, match=f"the log {name} is in use by another server"):
            await opened(name)
    assert await seqs(first, "g", "bob") == [1, 2, 3]
    await do(first, send("g", "ann", "still"))

    await first.aclose()
    second = await opened(str(link))
    assert await seqs(second, "g", "bob") == [1, 2, 3, 4]
    await second.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no lock on the file itself")
async def test_a_file_has_one_server_whatever_its_names(tmp_path: Path) -> None:
    """Also one that the first server has only just made."""
    path, link = tmp_path / "chat.db", tmp_path / "link.db"
    first = await opened(str(path))
    link.hardlink_to(path)
    with pytest.raises(ConfigurationError, match=f"the log {link} is in use by another server"):
        await opened(str(link))
    other = subprocess.run([sys.executable, "-c", _HOLD, str(link)], capture_output=True, text=True)
    assert f"the log {link} is in use by another server" in other.stderr
    await do(first, group("g", "ann", "bob"))
    await first.aclose()
    second = await opened(str(link))
    assert await seqs(second, "g", "bob") == [1]
    await second.aclose()


async def test_a_second_server_does_not_touch_the_file(path: str) -> None:
    """Opening it would write the first one's write-ahead log anew, and hold up its commits meanwhile."""

    def connect(path: str, *, read_only: bool = False) -> SqliteConnection:
        raise AssertionError("it is opened")

    first = await opened(path)
    with pytest.raises(ConfigurationError, match="in use by another server"):
        await opened(path, connect=connect)
    await first.aclose()


async def test_who_does_not_ask_for_the_file_alone_gets_it(store: SqliteStore, path: str) -> None:
    other = await opened(path, exclusive=False)
    assert await seqs(other, "g", "bob") == [1, 2, 3]
    await other.aclose()
    with pytest.raises(ConfigurationError, match="in use"):
        await opened(path)


_HOLD = """
import sys, anyio
from chatkit.ports import SystemIds
from chatkit.storage.sqlite import SqliteStore

async def hold():
    await SqliteStore(sys.argv[1], ids=SystemIds()).migrate()
    print("held", flush=True)
    await anyio.sleep_forever()

anyio.run(hold)
"""


async def test_a_killed_process_holds_nothing(path: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match="in use"):
            await opened(path)
    finally:
        process.kill()
        process.communicate()
    store = await opened(path)
    assert await seqs(store, "g", "bob") == [1, 2, 3]
    await store.aclose()


async def test_a_file_that_may_not_be_written_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = driver._connect
    monkeypatch.setattr(driver, "_connect", lambda path, read_only: connect(path, True))
    keeper = sqlite3.connect(path)
    keeper.execute("SELECT * FROM setting").fetchall()
    with pytest.raises(ConfigurationError, match=f"{path}: attempt to write a readonly database"):
        await SqliteStore(path, ids=seeded_ids()).migrate()
    keeper.close()


async def test_a_lock_file_that_cannot_be_made_is_named(path: str) -> None:
    lock = Path(path + SUFFIX)
    lock.mkdir()
    with pytest.raises(ConfigurationError, match=f"cannot open the lock file {lock}: "):
        await opened(path)
