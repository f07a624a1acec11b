"""The full check finds every damage that there is a name for, and none in a log that is whole."""

from __future__ import annotations

import os
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatkit.client.store.sqlite import APPLICATION_ID as CLIENT_STORE
from chatkit.drivers.sqlite import Params, Row
from chatkit.errors import ConfigurationError
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore, verify
from chatkit.storage.sqlite.verify import full_report, verify_file
from chatkit.storage.verify_report import LISTED_MAX, Finding, Report
from chatkit.testing.contracts.storage_commands import do, send

from .damage import (
    DAMAGES,
    FOUND_AT_OPENING,
    FOUND_BY_THE_FULL_CHECK,
    SECRET,
    Damage,
    change,
    damage_bytes,
    make_log,
    vacuum_into,
    with_page_over_another,
)
from .test_differential import History, Names
from .test_sqlite import opened


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "chat.db")
    make_log(path)
    return path


def verified(path: str) -> Report:
    """What the full check finds."""
    report = full_report(path)
    assert SECRET not in repr(report)
    assert report.whole == (not report.found)
    return report


# --- whole logs ---


def test_a_whole_log_is_whole(path: str) -> None:
    report = verified(path)
    assert (report.findings, report.conversations, report.messages) == ([], 2, 307)


async def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.db")
    await (await opened(path)).aclose()
    assert verified(path).whole


@pytest.mark.parametrize("seed", range(25))
async def test_no_history_of_commands_leaves_what_is_called_damaged(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the full check nor at an opening."""
    monkeypatch.setattr(base, "DEVICES_MAX", 2 + seed % 2)
    path, history = str(tmp_path / "chat.db"), History(seed)
    for _ in range(3):
        store = await opened(path, threads=False)
        names = Names(store)
        await names.learn()
        for _ in range(20):
            outcomes = await store.commit([names.own(command) for command in history.batch()])
            await names.learn()
            history.learn(outcomes, names)
        assert verified(path).findings == []
        await store.aclose()
    assert verified(path).findings == []


def test_progress_goes_on_to_the_end(path: str) -> None:
    steps = list(verify_file(path, Report()))
    assert list(dict.fromkeys(step.stage for step in steps)) == [
        "structure",
        "rows",
        "conversations",
        "audit",
        "messages",
    ]
    assert all(step.done <= step.total for step in steps)
    assert (steps[-1].done, steps[-1].total) == (307, 307)


def test_nothing_is_changed(path: str) -> None:
    before = Path(path).read_bytes()
    verified(path)
    assert Path(path).read_bytes() == before


# --- damage ---


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_a_damaged_table_is_found(path: str, damage: Damage) -> None:
    change(path, *damage.sql.split(";"))
    assert Finding(damage.check, damage.found) in verified(path).findings  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [*FOUND_AT_OPENING, *FOUND_BY_THE_FULL_CHECK])
def test_a_file_damaged_on_the_disk_is_found(path: str, damage: Callable[[bytes], bytes]) -> None:
    damage_bytes(path, damage)
    assert not verified(path).whole


@pytest.mark.parametrize("leaf", [1, 20, 40, 60])
def test_a_check_of_a_tree_that_leads_into_itself_ends(path: str, leaf: int) -> None:
    damage_bytes(path, lambda data: with_page_over_another(data, leaf))
    report = Report()
    for number, _ in enumerate(verify_file(path, report)):
        assert number < 100
    assert not report.whole


class Circling:
    """A connection on which a search for what comes after a number finds the same rows again."""

    def __init__(self, sql: str, rows: list[Row]) -> None:
        self._sql, self._rows = sql, rows
        self.reads = 0

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        if sql != self._sql:
            return []
        self.reads += 1
        assert self.reads < 10, "it does not end"
        return self._rows


def test_a_read_that_goes_back_ends_its_pass() -> None:
    report = Report()
    connection = Circling(verify._SELECT_KEYS, [(5,), (3,)])
    list(verify._check_conversations(connection, report, 2))  # type: ignore[arg-type]
    assert [it.words for it in report.findings] == [
        f"conversations after number {-(2**63)} are not in their order"
    ]

    report = Report()
    rows: list[Row] = [(7, 1, 7, None, b"{}", None, 0), (8, 1, 8, None, b"{}", None, 0)]
    connection = Circling(verify._SELECT_MESSAGES, rows)
    list(verify._check_messages(connection, report, 1000, 0, 1000))  # type: ignore[arg-type]
    assert [it.words for it in report.findings] == [
        "messages after row 8 are not in their order; the rest was not read"
    ]


def test_every_text_and_every_check_of_the_schema_is_looked_at(path: str) -> None:
    connection = sqlite3.connect(path)
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'"))
    texts = {
        f"a text that is not UTF-8 in {table}.{column}"
        for table in tables
        for _, column, type_, *_ in connection.execute(f"PRAGMA table_info({table})")
        if type_ == "TEXT"
    }
    connection.close()
    with closing(verify._model()) as model:
        faults = [fault for check in verify._row_checks(model) for fault in check.faults]
    assert texts <= set(faults)
    assert len(faults) == len(texts) + sum(sql.count("CHECK (") for sql in tables.values())


def test_texts_in_every_script_are_whole(path: str) -> None:
    change(path, "UPDATE conversation SET title = 'Grüße, 你好 🙂' || char(0) || 'é'")
    assert verified(path).findings == []


def test_a_conversation_whose_name_is_no_text_is_named_by_its_number(path: str) -> None:
    change(path, "UPDATE conversation SET conversation_id = CAST(x'ff' AS TEXT) WHERE conversation_key = 1")
    found = "the conversation with number 1 has a text that is not UTF-8 in conversation.conversation_id"
    assert Finding("row", found) in verified(path).findings


def test_a_counter_that_is_no_number_is_found(path: str) -> None:
    change(path, "UPDATE sqlite_sequence SET seq = 'many' WHERE name = 'audit'")
    found = "a counter has something else where a number must be"
    assert [it.words for it in verified(path).findings] == [found]


def test_a_row_that_only_its_indexes_still_know_is_found(path: str) -> None:
    change(
        path,
        "CREATE TABLE rows AS SELECT * FROM message WHERE NOT (conversation_key = 2 AND seq = 6)",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema AS it SET rootpage = swap.rootpage FROM "
        "(SELECT name, rootpage FROM sqlite_schema WHERE name IN ('message', 'rows')) AS swap "
        "WHERE it.name IN ('message', 'rows') AND swap.name <> it.name",
    )
    found = [it for it in verified(path).findings if it.check == "structure"]
    assert any("sqlite_autoindex_message_1" in it.words for it in found), found


def test_a_trigger_that_keeps_nothing_any_more_is_found(path: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER audit_is_never_changed")
    connection.execute("CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN SELECT 1; END")
    connection.execute("DROP TRIGGER audit_is_never_deleted")
    connection.close()
    assert [it.words for it in verified(path).findings] == [
        "the trigger audit_is_never_changed is not as chatkit makes it",
        "the trigger audit_is_never_deleted is missing",
    ]


def test_without_a_table_the_rest_is_not_checked(path: str) -> None:
    change(path, "DROP TABLE device_exact")
    report = verified(path)
    assert Finding("schema", "the table device_exact is missing") in report.findings
    assert report.messages == 0


def test_all_of_many_findings_are_counted_and_some_of_each_kind_listed(path: str) -> None:
    change(path, "UPDATE message SET payload = x'7b' WHERE seq BETWEEN 10 AND 299", "DELETE FROM setting")
    report = verified(path)
    assert report.found == {"body": 290, "secret": 1}
    assert len(report.findings) == LISTED_MAX + 1


def test_memory_is_bounded(path: str) -> None:
    tracemalloc.start()
    try:
        verified(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * verify._ROWS_PER_READ * 1200 + 1_000_000


# --- beside a server ---


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.aclose()


async def test_a_server_writes_on_meanwhile_and_one_state_is_checked(path: str, store: SqliteStore) -> None:
    report = Report()
    steps = verify_file(path, report)
    next(steps)
    for number, step in enumerate(steps):
        await do(store, *(send("h", "ann", f"{step.stage} {number} {n}") for n in range(20)))
    assert (report.findings, report.messages) == ([], 307)
    assert (verified(path).findings, verified(path).messages) == ([], 307 + 20 * (number + 1))


def test_a_backup_without_a_write_ahead_log_is_whole(path: str, tmp_path: Path) -> None:
    """As VACUUM INTO makes it."""
    copied = str(tmp_path / "backup.db")
    vacuum_into(path, copied)
    assert (verified(copied).findings, verified(copied).messages) == ([], verified(path).messages)
    assert sorted(it.name for it in tmp_path.glob("backup.db*")) == ["backup.db"]


# --- what is no log ---


def cut_log(path: str) -> None:
    make_log(path)
    damage_bytes(path, lambda data: data[:99])


def plain_database(path: str, application_id: int = 0, mode: str = "delete") -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute(f"PRAGMA application_id = {application_id}")
    connection.execute("CREATE TABLE things (name TEXT)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "cannot read the file {path}: No such file or directory"),
        (os.mkdir, "{path} is a folder; name a file"),
        (os.mkfifo, "{path} is no regular file; name a file"),
        (lambda path: Path(path).touch(), "{path} is no SQLite file"),
        (
            lambda path: Path(path).write_bytes(b"SQLite f"),
            "{path} is only the first 8 bytes of a SQLite file; if it was a log, restore a backup",
        ),
        (cut_log, "{path} is only the first 99 bytes of a SQLite file; if it was a log, restore a backup"),
        (lambda path: Path(path).write_text("notes" * 100), "{path} is no SQLite file"),
        (plain_database, "{path} was made by another program; name another file"),
        (
            lambda path: plain_database(path, 77, "wal"),
            "this SQLite file was made by another program; name another file",
        ),
        (
            lambda path: plain_database(path, CLIENT_STORE, "wal"),
            "{path} is the local store of a client, not a server's log",
        ),
    ],
)
def test_what_is_no_log_is_said(tmp_path: Path, make: Callable[[str], object], words: str) -> None:
    path = str(tmp_path / "file")
    make(path)
    with pytest.raises(ConfigurationError) as caught:
        verified(path)
    assert str(caught.value) == words.format(path=path)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("INSERT INTO schema_migration VALUES (999, '0999_later.sql')", "newer version"),
        ("DELETE FROM schema_migration WHERE number = 1", "older version"),
        ("DROP TABLE schema_migration", "another program"),
    ],
)
def test_another_versions_log_is_said(path: str, sql: str, words: str) -> None:
    change(path, sql)
    with pytest.raises(ConfigurationError, match=words):
        verified(path)


def test_the_number_of_a_clients_store_is_known_here_too() -> None:
    assert verify._CLIENT_STORE == CLIENT_STORE
