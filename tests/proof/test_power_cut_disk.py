"""The recorded disk, the connection on it, and the model of what a power cut leaves of it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from chatkit.drivers import sqlite as driver
from chatkit.drivers.sqlite import Connect, Connection, DamagedError, DiskFailedError, open_sqlite
from chatkit.errors import ConfigurationError, UnavailableError

from .power_cut import DiskModel, FailAt, Fault, RecordedDisk, open_recorded, scratch_folder
from .power_cut.connection import translated
from .power_cut.recording import (
    Created,
    Deleted,
    Found,
    Operation,
    Synced,
    SyncFailed,
    Truncated,
    Wrote,
)

OLD, NEW, NEWER = b"a" * 512, b"b" * 512, b"c" * 512


def states(*operations: Operation, count: int = 300) -> list[dict[str, bytes]]:
    """Many of the states that a power cut leaves after these operations."""
    model = DiskModel()
    for operation in operations:
        model.apply(operation)
    return [model.cut_power(random.Random(seed)) for seed in range(count)]


def contents(*operations: Operation) -> set[bytes]:
    """What file `f`, found with one sector, may hold."""
    return {state["f"] for state in states(Found(1, "f", OLD), *operations)}


def test_what_was_found_or_synced_is_there() -> None:
    assert contents() == {OLD}
    assert contents(Wrote(1, 0, NEW), Synced(1, False)) == {NEW}
    assert contents(Truncated(1, 100), Synced(1, False)) == {OLD[:100]}


def test_a_sector_holds_any_of_its_contents_since_the_sync() -> None:
    assert contents(Wrote(1, 0, NEW), Wrote(1, 0, NEWER)) == {OLD, NEW, NEWER}


def test_a_part_of_a_sector_is_never_torn() -> None:
    assert contents(Wrote(1, 100, b"xyz")) == {OLD, OLD[:100] + b"xyz" + OLD[103:]}


def test_sectors_of_one_write_are_kept_or_lost_each_on_its_own() -> None:
    found = {state["f"] for state in states(Found(1, "f", OLD * 2), Wrote(1, 0, NEW * 2))}
    assert found == {OLD * 2, NEW * 2, OLD + NEW, NEW + OLD}


def test_a_file_that_grew_may_be_short_or_hold_zeros_or_rubbish() -> None:
    found = contents(Wrote(1, 512, NEW))
    assert {OLD, OLD + NEW, OLD + bytes(512)} < found
    assert {len(content) for content in found} == {512, 1024}
    assert all(content[:512] == OLD for content in found)


def test_a_file_that_was_cut_may_have_its_old_end() -> None:
    assert {OLD, b""} <= contents(Truncated(1, 0))


def test_what_grows_again_after_a_cut_does_not_show_what_was_there() -> None:
    assert contents(Truncated(1, 0), Wrote(1, 256, NEW[:256]), Synced(1, False)) == {bytes(256) + NEW[:256]}


def test_a_failed_sync_keeps_nothing_and_the_next_one_only_what_was_written_again() -> None:
    failed = (Wrote(1, 0, NEW), SyncFailed(1), Synced(1, False))
    assert contents(*failed) == {OLD, NEW}
    assert contents(*failed[:2], Wrote(1, 0, NEW), Synced(1, False)) == {NEW}


def test_names_may_be_lost_from_the_end_until_the_folder_is_synced() -> None:
    made = (Created(1, "a"), Created(2, "b"))
    assert {frozenset(state) for state in states(*made)} == {
        frozenset(),
        frozenset("a"),
        frozenset("ab"),
    }
    assert {frozenset(state) for state in states(*made, Synced(1, False))} >= {frozenset()}
    assert {frozenset(state) for state in states(*made, Synced(2, True))} == {frozenset("ab")}


def test_a_removed_file_may_be_back_until_the_folder_is_synced() -> None:
    assert {state.get("f") for state in states(Found(1, "f", OLD), Deleted("f", False))} == {OLD, None}
    assert {state.get("f") for state in states(Found(1, "f", OLD), Deleted("f", True))} == {None}


def test_a_file_made_anew_is_another_one() -> None:
    again = (Found(1, "f", OLD), Deleted("f", False), Created(2, "f"), Wrote(2, 0, NEW), Synced(2, False))
    assert {state.get("f") for state in states(*again)} == {OLD, None, NEW}
    assert {state.get("f") for state in states(*again, Synced(2, True))} == {NEW}


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture
def disk(folder: Path) -> RecordedDisk:
    return RecordedDisk(folder)


@pytest.fixture
def connection(folder: Path, disk: RecordedDisk) -> Iterator[Connection]:
    connection = open_recorded(str(folder / "x.db"), disk=disk)
    connection.execute("CREATE TABLE t (x)")
    yield connection
    disk.faults = None
    connection.close()


def test_the_journal_tells_the_whole_disk(folder: Path, disk: RecordedDisk, connection: Connection) -> None:
    for number in range(20):
        connection.change("INSERT INTO t VALUES (randomblob(?))", (number * 700,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("DELETE FROM t WHERE rowid % 2")
    numbers = {it.file for it in disk.journal if isinstance(it, Created)}
    (state,) = states(*disk.journal, *(Synced(number, True) for number in numbers), count=1)
    assert state == {name: (folder / name).read_bytes() for name in ("x.db", "x.db-wal")}


def test_the_first_sync_of_a_write_ahead_log_syncs_the_folder(
    disk: RecordedDisk, connection: Connection
) -> None:
    log = next(it.file for it in disk.journal if isinstance(it, Created) and it.name == "x.db-wal")
    at_opening, *syncs = [it.folder for it in disk.journal if isinstance(it, Synced) and it.file == log]
    assert at_opening, "what is found is made durable, with its name"
    assert syncs == [True, False]


@pytest.mark.parametrize("read_only", [False, True])
def test_the_pragmas_are_those_of_the_real_connection(
    folder: Path, disk: RecordedDisk, read_only: bool
) -> None:
    names = (
        *("journal_mode", "journal_size_limit", "cache_size", "synchronous", "fullfsync", "foreign_keys"),
        *("secure_delete", "busy_timeout", "query_only", "page_size", "temp_store"),
    )
    found = []
    connects: list[Connect] = [open_sqlite, partial(open_recorded, disk=disk)]
    for number, connect in enumerate(connects):
        path = str(folder / f"{number}.db")
        connect(path).close()
        connection = connect(path, read_only=read_only)
        found.append({name: connection.execute(f"PRAGMA {name}") for name in names})
        connection.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("code", sorted(range(1, 27)))
def test_every_error_is_told_as_by_the_real_connection(code: int) -> None:
    real = sqlite3.DatabaseError("words")
    real.sqlite_errorcode = code
    expected, found = driver._translated(real), translated(apsw.exception_for(code))
    if isinstance(expected, UnavailableError):
        assert type(found) is type(expected)
    else:
        assert isinstance(found, apsw.Error)


def test_it_does_what_a_connection_does(folder: Path, disk: RecordedDisk, connection: Connection) -> None:
    connection.begin()
    connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(3)])
    connection.commit()
    assert connection.change("UPDATE t SET x = x + ?1 WHERE x < ?2", (10, 2)) == 2
    connection.begin()
    connection.change("DELETE FROM t")
    connection.rollback()
    connection.rollback()
    assert connection.execute("SELECT x FROM t ORDER BY x") == [(2,), (10,), (11,)]

    reader = open_recorded(str(folder / "x.db"), read_only=True, disk=disk)
    assert reader.execute("SELECT count(*) FROM t") == [(3,)]
    with pytest.raises(DiskFailedError):
        reader.change("DELETE FROM t")
    reader.close()
    reader.close()


@pytest.mark.parametrize("content", [b"no SQLite file" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "x.db").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"cannot open|is damaged"):
        open_recorded(str(folder / "x.db"), disk=RecordedDisk(folder))


def test_a_text_that_is_not_utf8_is_damage(connection: Connection) -> None:
    with pytest.raises(DamagedError):
        connection.execute("SELECT CAST(x'ff41' AS TEXT)")


@pytest.mark.parametrize(
    ("call", "code", "error"),
    [
        ("write", apsw.SQLITE_FULL, UnavailableError),
        ("write", apsw.SQLITE_IOERR_WRITE, DiskFailedError),
        ("sync", apsw.SQLITE_IOERR_FSYNC, DiskFailedError),
    ],
)
def test_a_planted_fault_is_told_once_and_leaves_no_trace(
    connection: Connection, disk: RecordedDisk, call: Any, code: int, error: type[UnavailableError]
) -> None:
    disk.faults = fault = FailAt(call, 1, Fault(code, 0.5))
    with pytest.raises(UnavailableError, match="planted") as caught:
        connection.change("INSERT INTO t VALUES (1)")
    assert type(caught.value) is error
    assert fault.struck
    connection.change("INSERT INTO t VALUES (2)")
    assert connection.execute("SELECT x FROM t") == [(2,)]


@pytest.mark.parametrize("call", ["read", "write", "truncate", "sync"])
def test_a_checkpoint_that_fails_is_nobodys_error(folder: Path, disk: RecordedDisk, call: Any) -> None:
    connection = open_recorded(str(folder / "x.db"), disk=disk, checkpoint_pages=1)

    def faults(asked: str, name: str) -> Fault | None:
        return Fault(apsw.SQLITE_IOERR) if (asked, name) == (call, _file_of(call)) else None

    disk.faults = faults
    connection.execute("CREATE TABLE t (x)")
    connection.change("INSERT INTO t VALUES (1)")
    connection.close()
    disk.faults = None
    connection = open_recorded(str(folder / "x.db"), disk=disk)
    assert connection.execute("SELECT x FROM t") == [(1,)]
    connection.close()


def _file_of(call: str) -> str:
    """The file that only a checkpoint does this to."""
    return "x.db-wal" if call == "read" else "x.db"
