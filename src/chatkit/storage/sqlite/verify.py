"""The full check of a log on SQLite: `chatkit verify`, and each state of the power cut proof.

It reads all of a file, in one snapshot, and changes nothing. What is checked: SQLite's own integrity check; that the
tables, indexes and triggers are those that chatkit makes; the rules of `verify_rules`, and of each row its CHECKs and
texts; and that every body is JSON, or zeros if it was recalled, and says what it must if the server made it. What
nobody can see: a log that is whole but older (a lost write-ahead log), and a body that was changed into other JSON.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Final

from ...drivers.migrations import check_current, migrate, migration_files
from ...drivers.sqlite import (
    MEMORY,
    Connection,
    DamagedFileError,
    DamagedRowError,
    DiskFailedError,
    Params,
    Row,
    open_sqlite,
)
from ...errors import ConfigurationError
from ..verify_audit import ROWS_PER_READ, AuditCheck
from ..verify_entries import NOT_CARRIED_OUT, entry_fault, recalled_seq
from ..verify_report import Progress, Report
from ..verify_rules import RULES
from . import audit
from .opening import APPLICATION_ID, conversation_name
from .verify_rows import RowCheck, row_check

_CLIENT_STORE: Final = (
    0x63_6B_63_6C  # chatkit.client.store.sqlite.APPLICATION_ID, which storage may not import
)
_WAL_MODE: Final = (
    2  # in the file's header; whatever has another mode has no write-ahead log that knows better
)
_WORDS_MAX: Final = 200  # of SQLite's own finding
_INTEGRITY_MAX: Final = 100
_CONVERSATIONS_PER_READ: Final = 500
_ROWS_PER_READ: Final = 200  # bodies of 64 KiB at most
_BROKEN_PER_READ: Final = 1000
_UNREADABLE_MAX: Final = 1000  # reads of messages that fail before the rest is left
MAGIC: Final = b"SQLite format 3\0"
"""What a SQLite file begins with; see https://www.sqlite.org/fileformat.html."""

HEADER_BYTES: Final = 100
"""The length of its header."""

_FIRST_KEY: Final = -(2**63)
_LAST_KEY: Final = 2**63 - 1

_SELECT_SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type DESC, name"
_SELECT_SIZES = """
SELECT (SELECT count(*) FROM conversation), (SELECT ifnull(sum(head_seq), 0) FROM conversation),
    (SELECT ifnull(min(rowid), 1) - 1 FROM message), (SELECT ifnull(max(rowid), 0) FROM message)
"""
_SELECT_KEYS = "SELECT conversation_key FROM conversation WHERE conversation_key > ? ORDER BY 1 LIMIT ?"
_SELECT_SECRET = (
    "SELECT 1 FROM setting WHERE name = 'secret' AND typeof(value) = 'blob' AND length(value) > 0"  # noqa: S105
)
_SELECT_COUNTERS = """
SELECT
    (SELECT ifnull(max(conversation_key), 0) FROM conversation),
    (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'conversation'),
    (SELECT count(*) FROM audit), (SELECT ifnull(max(audit_id), 0) FROM audit),
    (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit')
"""
_SELECT_STRANGE_TOKENS = """
SELECT t.user_id, t.device_id FROM resume_token AS t WHERE NOT EXISTS (
    SELECT 1 FROM device AS d WHERE d.user_id = t.user_id AND d.device_id = t.device_id) LIMIT ?
"""
_SELECT_MESSAGES = """
SELECT
    e.rowid, e.conversation_key, e.seq,
    CASE e.kind WHEN 'MEMBER' THEN 'MEMBER' WHEN 'RECALL' THEN 'RECALL' END, e.payload, r.recalled_by_seq,
    ifnull(e.seq <= c.cold_seq, 0)
FROM message AS e NOT INDEXED
LEFT JOIN conversation AS c ON c.conversation_key = e.conversation_key
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
WHERE e.rowid > ? ORDER BY e.rowid LIMIT ?
"""
"""Kinds that are none of these are found by the CHECK of the column."""
_SELECT_RECALL = "SELECT 1 FROM recall WHERE conversation_key = ? AND seq = ? AND recalled_by_seq = ?"


_DAMAGE: Final = (DamagedFileError, DiskFailedError, DamagedRowError)


def verify_file(path: str, report: Report, tick: Callable[[], object] = lambda: None) -> Iterator[Progress]:
    """Check all of a log. A server may have it open: it is not blocked, and what it commits meanwhile is not seen.

    Memory is bounded, whatever the size of the log. Ctrl-C ends it, with what was found until then in the report.

    Args:
        path: The file. This process does not have it open (see `report_of_open`).
        report: What is found goes in there.
        tick: Called every few milliseconds, also within a statement that takes long.

    Raises:
        ConfigurationError: There is no such file, or it is no log of this version of chatkit.
        UnavailableError: The file is busy; a retry is safe.
    """
    check_header(path)
    yield from _verify_file(path, report, tick)


def _verify_file(path: str, report: Report, tick: Callable[[], object] | None = None) -> Iterator[Progress]:
    try:
        with closing(open_sqlite(path, read_only=True, tick=tick)) as connection:
            check_current(connection, migration_files(__package__), APPLICATION_ID)
            yield from _verify(connection, report)
    except _DAMAGE as error:
        report.add("structure", str(error))


def full_report(path: str) -> Report:
    """What `verify_file` finds in all of a log. Raises as it does."""
    report = Report()
    for _ in verify_file(path, report):
        pass
    return report


def report_of_open(path: str) -> Report:
    """What `verify_file` finds in a log that this process has open already.

    Only SQLite opens the file. Any other handle that a process closes on it ends the locks of its open connections;
    then the next program that reads the log deletes the write-ahead log under the server.
    """
    report = Report()
    for _ in _verify_file(path, report):
        pass
    return report


def check_header(path: str) -> None:
    """Say clearly what is not a log. SQLite keeps all of this in the first 100 bytes of a file."""
    header = read_header(path)
    if not header or header[: len(MAGIC)] != MAGIC[: len(header)]:
        raise ConfigurationError(f"{path} is no SQLite file")
    if len(header) < HEADER_BYTES:  # too little to tell whose it was
        raise ConfigurationError(
            f"{path} is only the first {len(header)} bytes of a SQLite file; if it was a log, restore a backup"
        )
    if application_id_of(header) == _CLIENT_STORE:
        raise ConfigurationError(f"{path} is the local store of a client, not a server's log")
    if header[18] != _WAL_MODE and application_id_of(header) != APPLICATION_ID:
        raise ConfigurationError(f"{path} was made by another program; name another file")


def application_id_of(header: bytes) -> int:
    """What the header of a file says whose it is. A write-ahead log may know better."""
    return int.from_bytes(header[68:72], "big")


def read_header(path: str) -> bytes:
    """The first bytes of a file. Whatever else has a name is not opened: a pipe would wait for a writer."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{path} is a folder; name a file")
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{path} is no regular file; name a file")
        with open(path, "rb") as file:
            return file.read(HEADER_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read the file {path}: {error.strerror}") from error


def _verify(connection: Connection, report: Report) -> Iterator[Progress]:
    connection.begin()
    try:
        yield Progress("structure", 0, 1)
        _check_structure(connection, report)
        with closing(_model()) as model:
            has_tables = _check_schema(connection, report, model)
            row_checks = _row_checks(model)
        if has_tables:
            ((conversations, total, *rowids),) = connection.execute(_SELECT_SIZES)
            _check_log(connection, report)
            for number, check in enumerate(row_checks):
                yield Progress("rows", number, len(row_checks))
                _check_rows(connection, report, check)
            yield from _check_conversations(connection, report, conversations)
            yield from _check_audit(connection, report)
            yield from _check_messages(connection, report, total, *rowids)
    finally:
        connection.rollback()


def _read(connection: Connection, report: Report, what: str, sql: str, params: Params = ()) -> list[Row]:
    """The rows of a statement; none where they cannot be read, which is a finding."""
    try:
        return connection.execute(sql, params)
    except _DAMAGE as error:
        report.add("unreadable", f"{what} cannot be read: {error}")
        return []


def _check_structure(connection: Connection, report: Report) -> None:
    sql = f"PRAGMA integrity_check({_INTEGRITY_MAX})"
    for (text,) in _read(connection, report, "the structure of the file", sql):
        if text != "ok":
            report.add("structure", " ".join(text.split())[:_WORDS_MAX])


def _model() -> Connection:
    """An empty log, to compare with."""
    model = open_sqlite(MEMORY)
    migrate(model, migration_files(__package__), APPLICATION_ID)
    return model


def _row_checks(model: Connection) -> list[RowCheck]:
    """What the rows of each table must be."""
    tables = [(name, sql) for kind, name, sql in model.execute(_SELECT_SCHEMA) if kind == "table"]
    columns = {
        name: [(column, type_) for _, column, type_, *_ in model.execute(f"PRAGMA table_info({name})")]
        for name, _ in tables
    }
    checks = (row_check(name, sql, columns[name]) for name, sql in tables)
    return [check for check in checks if check is not None]


def _check_rows(connection: Connection, report: Report, check: RowCheck) -> None:
    what = "what the check of single rows needs"
    for key, *flags in _read(connection, report, what, check.sql, (_BROKEN_PER_READ,)):
        name = "the log" if key is None else conversation_name(connection, key)
        for fault, is_broken in zip(check.faults, flags, strict=True):
            if is_broken:
                report.add("row", f"{name} has {fault}")


def _check_schema(connection: Connection, report: Report, model: Connection) -> bool:
    """Whether all tables are there as they must be, so that the rest can be checked at all."""
    found = {(kind, name): sql for kind, name, sql in _read(connection, report, "the schema", _SELECT_SCHEMA)}
    wanted = model.execute(_SELECT_SCHEMA)
    for kind, name, sql in wanted:
        if (kind, name) not in found:
            report.add("schema", f"the {kind} {name} is missing")
        elif found[kind, name] != sql:
            report.add("schema", f"the {kind} {name} is not as chatkit makes it")
    return all(found.get((kind, name)) == sql for kind, name, sql in wanted if kind == "table")


def _check_log(connection: Connection, report: Report) -> None:
    """What concerns no single conversation."""
    if not _read(connection, report, "the secret", _SELECT_SECRET):
        report.add("secret", "the log's secret is not there")
    for counters in _read(connection, report, "counters", _SELECT_COUNTERS):
        if not all(isinstance(it, int) for it in counters):
            report.add("entries", "a counter has something else where a number must be")
            continue
        key, last_key, rows, audit_id, last_id = counters
        if key > last_key:
            report.add(
                "entries", f"conversations are numbered up to {key}, but only {last_key} numbers were given"
            )
        if not rows == audit_id == last_id:
            report.add(
                "audit", f"{last_id} audit rows were written; {rows} are there, up to number {audit_id}"
            )
    tokens = _read(connection, report, "resume tokens", _SELECT_STRANGE_TOKENS, (_BROKEN_PER_READ,))
    for user_id, device_id in tokens:
        report.add("device", f"a resume token is there of device {device_id} of {user_id}, which is not")


def _check_conversations(connection: Connection, report: Report, total: int) -> Iterator[Progress]:
    """Range by range; the last range has no end, for rows whose conversation is not there."""
    after = _FIRST_KEY
    while after < _LAST_KEY:
        yield Progress("conversations", report.conversations, total)
        keys = _read(connection, report, "conversations", _SELECT_KEYS, (after, _CONVERSATIONS_PER_READ))
        up_to = keys[-1][0] if keys else _LAST_KEY
        if not _rises(after, keys):
            report.add("structure", f"conversations after number {after} are not in their order")
            up_to, keys = _LAST_KEY, []
        _check_rules(connection, report, after, up_to)
        report.conversations += len(keys)
        after = up_to


def _check_rules(connection: Connection, report: Report, after: int, up_to: int) -> None:
    for rule in RULES:
        what = f"what the check '{rule.check}' needs"
        for key, *values in _read(connection, report, what, rule.sql, (after, up_to, _BROKEN_PER_READ)):
            report.add(rule.check, rule.words.format(*values, name=conversation_name(connection, key)))


def _check_audit(connection: Connection, report: Report) -> Iterator[Progress]:
    """Every chain, and what is there from before there were chains."""
    check = AuditCheck(report, partial(conversation_name, connection))
    try:
        total, more = audit.audit_end(connection), True
        audit.add_unchained(connection, check.unchained)
        while more:
            yield Progress("audit", min(check.rows, total), total)
            more = check.feed(audit.audit_chains(connection, check.chain, check.number, ROWS_PER_READ))
    except _DAMAGE as error:
        report.add("unreadable", f"the audit cannot be read: {error}")


def _check_messages(
    connection: Connection, report: Report, total: int, after: int, last_rowid: int
) -> Iterator[Progress]:
    """Row by row in the order of the file: those without a body have rowids below all others."""
    unreadable = 0
    while after < last_rowid and unreadable < _UNREADABLE_MAX:
        yield Progress("messages", min(report.messages, total), total)
        what = f"messages among the rows {after + 1} to {after + _ROWS_PER_READ}"
        rows = _read(connection, report, what, _SELECT_MESSAGES, (after, _ROWS_PER_READ))
        if not _rises(after, rows):
            report.add(
                "structure", f"messages after row {after} are not in their order; the rest was not read"
            )
            break
        for row in rows:
            _check_message(connection, report, row)
        unreadable += not rows
        report.messages += len(rows)
        after = rows[-1][0] if rows else after + _ROWS_PER_READ
    yield Progress("messages", total, total)


def _rises(after: int, rows: list[Row]) -> bool:
    """Whether each row's number is above the one before it. In a damaged tree a search may find lower ones for ever."""
    return all(row[0] > before for before, row in zip([after, *(it[0] for it in rows)], rows, strict=False))


def _check_message(connection: Connection, report: Report, row: Row) -> None:
    _, key, seq, kind, payload, recalled_by, is_cold = row
    fault = entry_fault(kind, payload, is_recalled=recalled_by is not None, is_cold=bool(is_cold))
    if fault is not None:
        check, words = fault
        report.add(check, f"{conversation_name(connection, key)} has {words}, at seq {seq}")
    elif kind == "RECALL" and not _is_carried_out(connection, report, key, seq, payload):
        name = conversation_name(connection, key)
        report.add("recall", NOT_CARRIED_OUT.format(name=name, seq=seq))


def _is_carried_out(connection: Connection, report: Report, key: int, seq: int, payload: bytes) -> bool:
    """Whether the message that a RECALL entry names was recalled by it."""
    params = (key, recalled_seq(payload), seq)
    return bool(_read(connection, report, "a recall", _SELECT_RECALL, params))
