"""The connection seam: pragmas hold, errors are translated once."""

from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from chatkit.drivers import sqlite as driver
from chatkit.drivers.sqlite import (
    DamagedError,
    DamagedRowError,
    DiskFailedError,
    Params,
    SqliteConnection,
    open_sqlite,
    version_fault,
)
from chatkit.errors import ConfigurationError, UnavailableError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "it's 100% a #file?.db")


def test_the_pragmas_that_durability_rests_on_hold(path: str) -> None:
    connection = open_sqlite(path)

    found = {
        name: connection.execute(f"PRAGMA {name}")[0][0]
        for name in (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "secure_delete",
            "busy_timeout",
            "query_only",
        )
    }
    connection.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": driver.BUSY_TIMEOUT_MS,
        "query_only": 0,
    }


def test_a_client_may_ask_for_less(path: str) -> None:
    connection = open_sqlite(path, synchronous="NORMAL")
    assert connection.execute("PRAGMA synchronous") == [(1,)]
    connection.close()


def test_a_pragma_that_does_not_hold_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(driver._SYNCHRONOUS, "FULL", 9)  # SQLite takes 9 for another value without a word
    with pytest.raises(ConfigurationError, match="synchronous"):
        open_sqlite(path)


def test_a_reader_cannot_write(path: str) -> None:
    writer = open_sqlite(path)
    writer.execute("CREATE TABLE t (a INTEGER) STRICT")
    reader = open_sqlite(path, read_only=True)
    reader.begin()
    with pytest.raises(DiskFailedError, match="readonly"):
        reader.execute("INSERT INTO t VALUES (1)")
    reader.rollback()
    reader.close()
    writer.close()


def test_a_reader_keeps_its_snapshot(path: str) -> None:
    writer = open_sqlite(path)
    writer.execute("CREATE TABLE t (a INTEGER) STRICT")
    reader = open_sqlite(path, read_only=True)
    reader.begin()
    assert reader.execute("SELECT * FROM t") == []
    writer.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    assert reader.execute("SELECT * FROM t") == []
    reader.rollback()
    assert reader.execute("SELECT * FROM t") == [(1,), (2,)]
    reader.close()
    writer.close()


def test_rows_and_counts(path: str) -> None:
    connection = open_sqlite(path)
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT")
    connection.begin()
    assert connection.change("INSERT INTO t VALUES (?)", (1,)) == 1
    assert connection.change("INSERT INTO t VALUES (?) ON CONFLICT DO NOTHING", (1,)) == 0
    connection.rollback()
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(sqlite3.IntegrityError):
        connection.executemany("INSERT INTO t VALUES (?)", [(1,), (1,)])
    connection.close()
    connection.close()


def test_busy_is_unavailable_and_says_when_to_come_back(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "BUSY_TIMEOUT_MS", 1)
    first, second = open_sqlite(path), open_sqlite(path)
    first.begin()
    with pytest.raises(UnavailableError) as caught:
        second.begin()
    assert caught.value.retry_after_s == driver.RETRY_AFTER_S
    assert not isinstance(caught.value, DiskFailedError)
    first.rollback()
    second.begin()
    second.close()
    first.close()


def test_a_full_disk_is_unavailable(path: str) -> None:
    connection = open_sqlite(path)
    connection.execute("CREATE TABLE t (a BLOB) STRICT")
    connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(UnavailableError, match="full"):
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, DiskFailedError),
        (sqlite3.SQLITE_IOERR_WRITE, DiskFailedError),
        (sqlite3.SQLITE_CORRUPT_INDEX, DamagedError),
        (sqlite3.SQLITE_READONLY_DBMOVED, DiskFailedError),
        (sqlite3.SQLITE_NOTADB, DamagedError),
        (sqlite3.SQLITE_NOMEM, UnavailableError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, UnavailableError),
        (sqlite3.SQLITE_LOCKED, UnavailableError),
        (sqlite3.SQLITE_CANTOPEN, UnavailableError),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.OperationalError),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError),
    ],
)
def test_extended_codes_are_told_by_their_family(code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    assert type(driver._translated(error)) is kind


class WithoutMemory:
    """What sqlite3 does when SQLite says SQLITE_NOMEM."""

    def execute(self, sql: str, params: Params = ()) -> sqlite3.Cursor:
        raise MemoryError

    executemany = execute


def test_without_memory_storage_refuses() -> None:
    connection = SqliteConnection(cast(sqlite3.Connection, WithoutMemory()), "BEGIN")
    calls: list[Callable[[], object]] = [
        lambda: connection.execute("SELECT 1"),
        lambda: connection.change("SELECT 1"),
        lambda: connection.executemany("SELECT 1", []),
        connection.begin,
        connection.commit,
    ]
    for call in calls:
        with pytest.raises(UnavailableError, match="out of memory") as caught:
            call()
        assert not isinstance(caught.value, DiskFailedError)
        assert caught.value.retry_after_s == driver.RETRY_AFTER_S


def test_a_file_that_becomes_something_else_under_us_is_damaged(path: str) -> None:
    connection = open_sqlite(path)
    connection.execute("CREATE TABLE t (a INTEGER) STRICT")
    connection.close()
    reader = open_sqlite(path, read_only=True)
    Path(path).write_text("no database " * 1000)
    with pytest.raises(DamagedError):
        reader.execute("SELECT * FROM t")
    reader.close()


def test_a_text_that_is_none_is_damage_and_is_not_repeated() -> None:
    connection = open_sqlite(":memory:")
    with pytest.raises(DamagedRowError) as caught:
        connection.execute("SELECT CAST(x'736563726574ff' AS TEXT)")
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert not isinstance(caught.value, DiskFailedError)  # other rows can be written
    connection.close()


class WithoutWords:
    """What sqlite3 does when SQLite's words about an error hold a name that is not UTF-8."""

    def execute(self, sql: str, params: Params = ()) -> sqlite3.Cursor:
        raise UnicodeDecodeError("utf-8", b"secret\xa0", 6, 7, "invalid start byte")


def test_words_of_sqlite_that_are_not_utf8_are_damage_and_are_not_repeated() -> None:
    connection = SqliteConnection(cast(sqlite3.Connection, WithoutWords()), "BEGIN")
    with pytest.raises(DamagedError) as caught:
        connection.execute("SELECT 1")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_may_not_be_written_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = open_sqlite(path)
    connection.execute("CREATE TABLE t (a INTEGER) STRICT")
    connect = driver._connect
    # What SQLite does by itself with a file that this user may not write; tests may run as one who may all.
    monkeypatch.setattr(driver, "_connect", lambda path, read_only: connect(path, True))
    with pytest.raises(ConfigurationError) as caught:
        open_sqlite(path)
    assert str(caught.value) == f"cannot open the SQLite file {path}: attempt to write a readonly database"
    open_sqlite(path, read_only=True).close()
    connection.close()


def test_opening_changes_nothing_in_a_file(path: str) -> None:
    connection = open_sqlite(path)
    connection.execute("PRAGMA user_version = 7")
    before = Path(f"{path}-wal").read_bytes()
    again = open_sqlite(path)
    assert again.execute("PRAGMA user_version") == [(7,)]
    assert Path(f"{path}-wal").read_bytes() == before
    again.close()
    connection.close()


def test_what_is_no_database_is_a_wrong_set_up(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    for path in (tmp_path, tmp_path / "missing" / "x.db", tmp_path / "text"):
        with pytest.raises(ConfigurationError) as caught:
            open_sqlite(str(path))
        assert f"cannot open the SQLite file {path}: " in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"absent\.db: "):
        open_sqlite(str(tmp_path / "absent.db"), read_only=True)


@pytest.mark.parametrize(("version", "warned"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)])
def test_a_sqlite_with_a_known_fault_is_named(
    version: tuple[int, int, int], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SQLITE_VERSION", version)

    assert bool(version_fault()) is warned
    assert ("the server itself is safe" in version_fault()) is warned
