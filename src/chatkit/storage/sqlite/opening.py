"""What is checked each time a log is opened, before anything is served from it. Called by `SqliteStore`.

A log with a hole must not be served: a client could not tell it from entries that it may not see. A copy that is not
complete, a file that was cut off and a write that did not arrive show at the newest end of a log, so that end is
read, and nothing else: the work has a constant bound, however long the log is. All of a log is read by `verify`.

SQLite itself refuses a file that is shorter than its first page says. What nobody can see here: entries missing at the
end, with the counters as old as they (a lost write-ahead log), and damage in the middle of a log.
"""

from __future__ import annotations

import json
from typing import Final

from ...drivers.sqlite import RETRY_AFTER_S, Connection, DamagedError, DamagedRowError
from ..body import body_fault

APPLICATION_ID: Final = 0x43484B31
"""Marks a file as a chatkit log ("CHK1")."""

NEWEST_MAX: Final = 100
"""Rows that are read at the newest end of each table: messages, conversations, audit rows, outbox rows that wait."""

TAIL_MAX: Final = 10
"""Entries below the head that must be there, in each conversation that one of those rows names."""

SELECT_COUNTERS = """
SELECT
    (SELECT count(*) FROM setting WHERE name = 'secret' AND typeof(value) = 'blob'),
    (SELECT ifnull(max(conversation_key), 0) FROM conversation),
    (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'conversation'),
    (SELECT ifnull(max(conversation_key), 0) FROM message),
    (SELECT ifnull(max(audit_id), 0) FROM audit),
    (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit')
"""
SELECT_NEWEST_MESSAGES = """
SELECT e.conversation_key, e.seq, e.payload, EXISTS (
    SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
FROM message AS e NOT INDEXED WHERE e.rowid > 0 ORDER BY e.rowid DESC LIMIT ?
"""
"""Rows below were moved there when their bodies left for the archive."""

SELECT_NEWEST_KEYS = (
    "SELECT conversation_key FROM conversation ORDER BY conversation_key DESC LIMIT ?",
    "SELECT conversation_key FROM audit WHERE conversation_key <> 0 ORDER BY audit_id DESC LIMIT ?",
    "SELECT conversation_key FROM outbox WHERE ready_ms IS NOT NULL "
    "ORDER BY ready_ms DESC, conversation_key DESC LIMIT ?",
)
SELECT_TAILS = """
SELECT
    j.value, c.head_seq,
    (SELECT ifnull(max(e.seq), 0) FROM message AS e WHERE e.conversation_key = j.value),
    (SELECT count(*) FROM (
        SELECT 1 FROM message AS e WHERE e.conversation_key = j.value AND e.seq > c.head_seq - ?2 LIMIT ?2))
FROM json_each(?1) AS j LEFT JOIN conversation AS c ON c.conversation_key = j.value
"""
SELECT_NAME = "SELECT conversation_id FROM conversation WHERE conversation_key = ?"


def check_newest(connection: Connection) -> None:
    """See that the newest end of a log is whole; nothing is changed.

    Raises:
        DamagedError: The first thing that is wrong; never with words of a body.
        UnavailableError: The file is busy or cannot be reached; a retry is safe.
    """
    _check_counters(connection)
    keys = _check_newest_messages(connection)
    for sql in SELECT_NEWEST_KEYS:
        for (key,) in connection.execute(sql, (NEWEST_MAX,)):
            _check_numbers(key)
            keys.add(key)
    _check_tails(connection, keys)


def _check_counters(connection: Connection) -> None:
    (counters,) = connection.execute(SELECT_COUNTERS)
    _check_numbers(*counters)
    secrets, key, last_key, message_key, audit_id, last_audit_id = counters
    if key and not secrets:
        raise _damaged("its secret is not there")
    if key > last_key:
        raise _damaged(f"conversations are numbered up to {key}, but only {last_key} numbers were given")
    if message_key > key:
        raise _damaged(
            f"messages are there of a conversation {message_key}, but conversations only up to {key}"
        )
    if audit_id != last_audit_id:
        raise _damaged(f"the newest audit row is {audit_id}, but the last one written was {last_audit_id}")


def _check_newest_messages(connection: Connection) -> set[int]:
    """Check the bodies written last; returns the keys of their conversations."""
    keys = set()
    for key, seq, payload, is_recalled in connection.execute(SELECT_NEWEST_MESSAGES, (NEWEST_MAX,)):
        _check_numbers(key)
        if fault := body_fault(payload, is_recalled=bool(is_recalled)):
            raise _damaged(f"{conversation_name(connection, key)} has {fault}, at seq {seq}")
        keys.add(key)
    return keys


def _check_numbers(*values: object) -> None:
    """A damaged row may say anything, also against its schema."""
    if not all(isinstance(it, int) for it in values):
        raise _damaged("a row has something else where a number must be")


def _check_tails(connection: Connection, keys: set[int]) -> None:
    rows = connection.execute(SELECT_TAILS, (json.dumps(sorted(keys)), TAIL_MAX))
    for key, head_seq, top_seq, held in rows:
        name = conversation_name(connection, key)
        if head_seq is None:
            raise _damaged(f"{name} has no row, but entries up to seq {top_seq}")
        _check_numbers(head_seq, top_seq)
        if head_seq != top_seq:
            raise _damaged(f"{name} has head {head_seq}, but its entries end at seq {top_seq}")
        if held != (wanted := min(head_seq, TAIL_MAX)):
            raise _damaged(f"{name} has only {held} of its newest {wanted} entries")


def conversation_name(connection: Connection, key: int) -> str:
    """A conversation for people; by its number if its row is not there, or its id is no text."""
    try:
        rows = connection.execute(SELECT_NAME, (key,))
    except DamagedRowError:
        rows = []
    return f"conversation {rows[0][0]}" if rows else f"the conversation with number {key}"


def _damaged(found: str) -> DamagedError:
    return DamagedError(found, retry_after_s=RETRY_AFTER_S)
