"""What is moderated and reported, on SQLite: loaded and written with a batch, and read. Nothing is decided here.

Called by `load` and `write` where anything of it is named or changed, and by `store` for reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.state import ModeratedRow, State
from ...drivers.sqlite import Connection
from ..base import HeldRecord, ReportRecord, message_id
from .select import select

_COLUMNS = (
    "t.held_id, t.conversation_key, t.sender_id, t.client_msg_id, t.state, t.at_ms, t.reason, t.payload_mac"
)
SELECT_MODERATED = f"""
WITH k (conversation_key, sender_id, client_msg_id) AS (VALUES {{keys}})
SELECT {_COLUMNS}, x'' FROM k
CROSS JOIN moderated AS t ON t.conversation_key = k.conversation_key AND t.sender_id = k.sender_id
    AND t.client_msg_id = k.client_msg_id
"""  # noqa: S608 -- names
SELECT_HELD = f"""
WITH k (sender_id) AS (VALUES {{keys}})
SELECT {_COLUMNS}, x'' FROM k
CROSS JOIN moderated AS t ON t.sender_id = k.sender_id AND t.state <> 'REFUSED'
"""  # noqa: S608 -- names
SELECT_QUEUES = f"""
WITH k (conversation_key, sender_id) AS (VALUES {{keys}})
SELECT {_COLUMNS}, t.payload FROM k
CROSS JOIN moderated AS t ON t.sender_id = k.sender_id AND t.conversation_key = k.conversation_key
    AND t.state <> 'REFUSED'
"""  # noqa: S608 -- names
COUNT_HELD = "SELECT count(*) FROM moderated WHERE state <> 'REFUSED'"
SELECT_LAST_HELD = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'moderated'"
COUNT_REPORTS = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT k.conversation_key, k.seq, (
    SELECT count(*) FROM report AS t
    WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.resolved_ms IS NULL
)
FROM k WHERE k.seq IS NOT NULL
"""
DELETE_MODERATED = "DELETE FROM moderated WHERE conversation_key = ? AND sender_id = ? AND client_msg_id = ?"
INSERT_MODERATED = (
    "INSERT INTO moderated (held_id, conversation_key, sender_id, client_msg_id, state, at_ms, reason, payload_mac, "
    "payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (held_id) DO UPDATE SET state = excluded.state, "
    "reason = excluded.reason, payload = excluded.payload"
)
INSERT_REPORT = (
    "INSERT INTO report (conversation_key, seq, reporter_id, reason, note, at_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (conversation_key, seq, reporter_id) DO NOTHING"
)
RESOLVE_REPORTS = (
    "UPDATE report SET resolved_by = ?, resolution = ?, resolved_ms = ?, body = NULL "
    "WHERE conversation_key = ? AND seq = ? AND resolved_ms IS NULL"
)
DELETE_HELD_OF = "DELETE FROM moderated WHERE sender_id = ? AND state <> 'REFUSED'"
DELETE_REPORTS_BY = "DELETE FROM report WHERE reporter_id = ?"
FORGET_BODIES_OF = """
UPDATE report SET body = NULL WHERE body IS NOT NULL AND EXISTS (
    SELECT 1 FROM message AS e
    CROSS JOIN conversation AS c ON c.conversation_key = e.conversation_key
    LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
    WHERE e.conversation_key = report.conversation_key AND e.seq = report.seq AND e.sender_id = ?
        AND (r.seq IS NOT NULL OR e.seq <= c.floor_seq)
)
"""
SELECT_TO_MODERATE = """
WITH k (place, conversation_id, sender_id, client_msg_id) AS (VALUES {keys})
SELECT k.place FROM k
CROSS JOIN conversation AS c ON c.conversation_id = k.conversation_id
CROSS JOIN conversation_member AS m ON m.conversation_key = c.conversation_key AND m.user_id = k.sender_id
    AND m.leave_seq IS NULL
WHERE NOT EXISTS (
    SELECT 1 FROM message AS e WHERE e.conversation_key = c.conversation_key AND e.sender_id = k.sender_id
        AND e.client_msg_id = k.client_msg_id
) AND NOT EXISTS (
    SELECT 1 FROM moderated AS t WHERE t.conversation_key = c.conversation_key AND t.sender_id = k.sender_id
        AND t.client_msg_id = k.client_msg_id
)
"""
_HELD_MESSAGE = (
    "SELECT t.held_id, c.conversation_id, t.sender_id, t.client_msg_id, t.at_ms, t.reason, t.payload "
    "FROM moderated AS t CROSS JOIN conversation AS c ON c.conversation_key = t.conversation_key "
)
SELECT_HELD_MESSAGES = _HELD_MESSAGE + "WHERE t.state = 'REVIEW' AND t.held_id > ? ORDER BY t.held_id LIMIT ?"
SELECT_HELD_MESSAGE = _HELD_MESSAGE + "WHERE t.state = 'REVIEW' AND t.held_id = ?"
SELECT_REPORTS = """
SELECT
    t.report_id, t.conversation_key, e.epoch, t.seq, c.conversation_id, e.sender_id, t.reporter_id, t.reason, t.note,
    t.at_ms, ifnull(t.body, CASE
        WHEN r.seq IS NULL AND e.seq > c.floor_seq AND length(e.payload) > 0 THEN e.payload END)
FROM report AS t
CROSS JOIN conversation AS c ON c.conversation_key = t.conversation_key
CROSS JOIN message AS e ON e.conversation_key = t.conversation_key AND e.seq = t.seq
LEFT JOIN recall AS r ON r.conversation_key = t.conversation_key AND r.seq = t.seq
WHERE t.resolved_ms IS NULL AND t.report_id > ? ORDER BY t.report_id LIMIT ?
"""


def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name of it into the state, whose conversations are there."""
    places = []
    names = {}
    for name in keys.moderated:
        conversation = state.conversations[name[0]]
        if conversation is not None:
            places.append((conversation.key, *name[1:]))
            names[conversation.key] = name[0]
    for row in select(connection, SELECT_MODERATED, places):
        found = ModeratedRow(*row)
        state.moderated[names[found.conversation_key], found.sender_id, found.client_msg_id] = found
    waiting = [
        (conversation.key, sender_id)
        for conversation_id, sender_id in keys.waiting
        if (conversation := state.conversations[conversation_id]) is not None
    ]
    for row in chain(
        select(connection, SELECT_HELD, [(it,) for it in keys.holders]),
        select(connection, SELECT_QUEUES, waiting),
    ):
        found = ModeratedRow(*row)
        state.held.setdefault(found.sender_id, {})[found.held_id] = found
    if keys.holds or state.held:
        ((state.held_total,),) = connection.execute(COUNT_HELD)
    if keys.new_held:
        ((last,),) = connection.execute(SELECT_LAST_HELD)
        state.new_held_ids.extend(range(last + 1, last + 1 + keys.new_held))
    for key, seq, count in select(connection, COUNT_REPORTS, keys.reported):
        state.open_reports[key, seq] = count


def write(connection: Connection, changes: Changes) -> None:
    """Write what a batch changed of it."""
    for sql, rows in (
        (DELETE_MODERATED, changes.unmoderated),
        (INSERT_MODERATED, changes.moderated),
        (INSERT_REPORT, changes.reports),
        (RESOLVE_REPORTS, changes.resolved_reports),
    ):
        if rows:
            connection.executemany(sql, rows)


def erase(connection: Connection, users: Sequence[str]) -> None:
    """Nothing of users who were erased is left to be reviewed: what is held of them, what they reported, and copies of
    their messages whose bodies are gone. What was refused stays, which is keys without bodies."""
    for sql in (DELETE_HELD_OF, DELETE_REPORTS_BY, FORGET_BODIES_OF):
        connection.executemany(sql, [(user_id,) for user_id in users])


def to_moderate(connection: Connection, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Which of these a moderator need see: the key is new, and the sender a member."""
    found = {
        place for (place,) in select(connection, SELECT_TO_MODERATE, [(n, *it) for n, it in enumerate(sends)])
    }
    return [n in found for n in range(len(sends))]


def held_messages(connection: Connection, after: int, limit: int) -> list[HeldRecord]:
    """What is to be reviewed, from a number on."""
    return [HeldRecord(*row) for row in connection.execute(SELECT_HELD_MESSAGES, (after, limit))]


def held_message(connection: Connection, held_id: int) -> HeldRecord | None:
    """One message that is to be reviewed."""
    rows = connection.execute(SELECT_HELD_MESSAGE, (held_id,))
    return HeldRecord(*rows[0]) if rows else None


def reports(connection: Connection, after: int, limit: int) -> list[ReportRecord]:
    """Open reports, from a number on."""
    return [
        ReportRecord(report_id, message_id(key, epoch, seq), *columns)
        for report_id, key, epoch, seq, *columns in connection.execute(SELECT_REPORTS, (after, limit))
    ]
