"""Numbered SQL files: once each, in order, all or nothing, never into another's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatkit.drivers.migrations import migrate, migration_files
from chatkit.drivers.sqlite import Connection, open_sqlite
from chatkit.errors import ConfigurationError

FIRST = (
    "0001_first.sql",
    "-- a note; with a semicolon\nCREATE TABLE a (b INTEGER) STRICT;\n"
    "CREATE TRIGGER t BEFORE DELETE ON a\nBEGIN\n    SELECT raise(ABORT, 'no; never');\nEND;\n-- the end\n",
)
SECOND = ("0002_second.sql", "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\n")
BROKEN = ("0002_second.sql", "INSERT INTO a VALUES (1);\nINSERT INTO nowhere VALUES (2);\n")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    connection = open_sqlite(str(tmp_path / "x.db"))
    yield connection
    connection.close()


def test_each_file_runs_once(connection: Connection) -> None:
    migrate(connection, [FIRST], 77)
    for _ in range(2):
        migrate(connection, [FIRST, SECOND], 77)

    assert connection.execute("SELECT b FROM a") == [(1,), (2,)]
    assert connection.execute("SELECT * FROM schema_migration") == [(1, FIRST[0]), (2, SECOND[0])]
    assert connection.execute("PRAGMA application_id") == [(77,)]
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute("DELETE FROM a")


def test_a_broken_file_leaves_nothing(connection: Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [FIRST, BROKEN], 77)

    assert connection.execute("SELECT name FROM sqlite_schema") == []
    assert connection.execute("PRAGMA application_id") == [(0,)]


def test_another_programs_file_is_refused(connection: Connection) -> None:
    migrate(connection, [FIRST], 77)
    with pytest.raises(ConfigurationError, match="another program"):
        migrate(connection, [FIRST], 78)


def test_a_file_with_unknown_tables_is_refused(connection: Connection) -> None:
    connection.execute("CREATE TABLE theirs (a INTEGER)")
    with pytest.raises(ConfigurationError, match="another program"):
        migrate(connection, [FIRST], 77)
    assert connection.execute("SELECT name FROM sqlite_schema") == [("theirs",)]


def test_a_newer_file_is_refused(connection: Connection) -> None:
    migrate(connection, [FIRST, SECOND], 77)
    with pytest.raises(ConfigurationError, match="newer"):
        migrate(connection, [FIRST], 77)
    with pytest.raises(ConfigurationError, match="newer"):
        migrate(connection, [FIRST, ("0002_other.sql", "")], 77)


def test_the_stores_files_are_numbered_without_holes() -> None:
    names = [name for name, _ in migration_files("chatkit.storage.sqlite")]
    assert [int(name.split("_")[0]) for name in names] == list(range(1, len(names) + 1))
