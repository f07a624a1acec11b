"""What entries say of others: loaded and written with a batch, and read for a page. Nothing is decided here.

Called by `load` and `write` where anything of it is named or changed, and by `reads`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.marks import Place, StoredMarks, edit_of, latest_edits, marks_of
from ...core.log.outcomes import message_id
from ...core.log.state import State, StreamRow
from ...core.visibility import Interval
from ...drivers.sqlite import Connection
from ..base import PinRow
from ..streams import IdleStream
from .select import select

SELECT_EDITS = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT t.conversation_key, t.seq, t.edited_by_seq, NULL, NULL, NULL, NULL FROM k
CROSS JOIN edit AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq
UNION ALL
SELECT t.conversation_key, t.seq, NULL, t.user_id, t.parts, t.size, t.at_ms FROM k
CROSS JOIN stream AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq
ORDER BY 1, 2, 3
"""
SELECT_STREAM_TEXTS = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT t.conversation_key, t.seq, t.text FROM k
CROSS JOIN stream_part AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq
ORDER BY t.conversation_key, t.seq, t.part
"""
COUNT_STREAMS = """
WITH k (user_id) AS (VALUES {keys})
SELECT k.user_id, (SELECT count(*) FROM stream AS t WHERE t.user_id = k.user_id) FROM k WHERE k.user_id IS NOT NULL
"""
COUNT_REACTIONS = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT k.conversation_key, k.seq, (
    SELECT count(*) FROM reaction AS t WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq)
FROM k WHERE k.seq IS NOT NULL
"""
SELECT_OWN_REACTIONS = """
WITH k (conversation_key, seq, user_id) AS (VALUES {keys})
SELECT t.conversation_key, t.seq, t.user_id, t.reaction FROM k
CROSS JOIN reaction AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.user_id = k.user_id
"""
SELECT_MENTIONED = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT k.conversation_key, k.seq, t.user_id FROM k
CROSS JOIN mention AS t ON t.conversation_key = k.conversation_key AND t.seq IN (
    SELECT k.seq UNION ALL
    SELECT d.edited_by_seq FROM edit AS d WHERE d.conversation_key = k.conversation_key AND d.seq = k.seq)
"""
SELECT_PINS = """
WITH k (conversation_key) AS (VALUES {keys})
SELECT t.conversation_key, t.seq, t.pinned_by_seq FROM k
CROSS JOIN conversation AS c ON c.conversation_key = k.conversation_key
CROSS JOIN pin AS t ON t.conversation_key = k.conversation_key AND t.seq > c.floor_seq
"""
SELECT_DESCRIPTIONS = """
WITH k (conversation_key) AS (VALUES {keys})
SELECT c.conversation_key, c.description FROM k
CROSS JOIN conversation AS c ON c.conversation_key = k.conversation_key
"""
SELECT_PIN_ROWS = """
SELECT t.seq, t.pinned_by_seq, e.sender_id, e.server_ts FROM conversation AS c
CROSS JOIN pin AS t ON t.conversation_key = c.conversation_key AND t.seq > c.floor_seq
CROSS JOIN message AS e ON e.conversation_key = t.conversation_key AND e.seq = t.pinned_by_seq
WHERE c.conversation_key = ?1 AND EXISTS (SELECT 1 FROM conversation_member AS v
    WHERE v.conversation_key = c.conversation_key AND v.user_id = ?2
        AND t.seq >= ifnull(v.first_seq, v.join_seq) AND t.seq < ifnull(v.leave_seq, 9223372036854775807))
ORDER BY t.pinned_by_seq DESC
"""
INSERT_MENTION = "INSERT INTO mention (conversation_key, user_id, seq) VALUES (?, ?, ?)"
DELETE_MENTIONS = "DELETE FROM mention WHERE conversation_key = ? AND seq = ?"
# what is there still was taken back earlier in the same batch: so of pins and of reactions
INSERT_PIN = (
    "INSERT INTO pin (conversation_key, seq, pinned_by_seq) VALUES (?, ?, ?) "
    "ON CONFLICT (conversation_key, seq) DO UPDATE SET pinned_by_seq = excluded.pinned_by_seq"
)
DELETE_PIN = "DELETE FROM pin WHERE conversation_key = ? AND seq = ?"
UPDATE_DESCRIPTION = "UPDATE conversation SET description = ? WHERE conversation_key = ?"
INSERT_EDIT = "INSERT INTO edit (conversation_key, seq, edited_by_seq) VALUES (?, ?, ?)"
INSERT_REACTION = (
    "INSERT INTO reaction (conversation_key, seq, user_id, reaction, reacted_by_seq) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (conversation_key, seq, user_id, reaction) DO UPDATE SET reacted_by_seq = excluded.reacted_by_seq"
)
DELETE_REACTION = (
    "DELETE FROM reaction WHERE conversation_key = ? AND seq = ? AND user_id = ? AND reaction = ?"
)
PUT_STREAM = (
    "INSERT INTO stream (conversation_key, seq, user_id, parts, size, at_ms) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (conversation_key, seq) DO UPDATE SET parts = excluded.parts, size = excluded.size, "
    "at_ms = excluded.at_ms"
)
INSERT_PART = "INSERT INTO stream_part (conversation_key, seq, part, text) VALUES (?, ?, ?, ?)"
DELETE_STREAM = "DELETE FROM stream WHERE conversation_key = ? AND seq = ?"
DELETE_PARTS = "DELETE FROM stream_part WHERE conversation_key = ? AND seq = ?"
# a recall finds the words of edits by their rows: those stay until the words have left too
DROP_EXPIRED = (
    "DELETE FROM stream_part WHERE seq <= ? AND conversation_key = ?",
    "DELETE FROM stream WHERE seq <= ? AND conversation_key = ?",
    "DELETE FROM reaction WHERE seq <= ? AND conversation_key = ?",
    "DELETE FROM mention WHERE seq <= ? AND conversation_key = ?",
    "DELETE FROM pin WHERE seq <= ? AND conversation_key = ?",
    """
DELETE FROM edit WHERE seq <= ?1 AND conversation_key = ?2 AND edited_by_seq <= (
    SELECT min(?1, c.cold_seq) FROM conversation AS c WHERE c.conversation_key = ?2)
""",
)
DELETE_REACTIONS = "DELETE FROM reaction WHERE conversation_key = ? AND seq = ?"
SELECT_MARKS = """
WITH k (conversation_key, first_seq, last_seq) AS (VALUES {keys})
SELECT t.conversation_key, t.seq, t.edited_by_seq, NULL, NULL FROM k
CROSS JOIN edit AS t ON t.conversation_key = k.conversation_key AND t.seq BETWEEN k.first_seq AND k.last_seq
UNION ALL
SELECT t.conversation_key, t.seq, t.reacted_by_seq, t.reaction, t.user_id FROM k
CROSS JOIN reaction AS t ON t.conversation_key = k.conversation_key AND t.seq BETWEEN k.first_seq AND k.last_seq
UNION ALL
SELECT t.conversation_key, t.seq, t.part, t.text, NULL FROM k
CROSS JOIN stream_part AS t ON t.conversation_key = k.conversation_key AND t.seq BETWEEN k.first_seq AND k.last_seq
"""
SELECT_IDLE = """
SELECT c.conversation_id, e.conversation_key, e.epoch, e.seq, e.sender_id, s.at_ms, s.parts, (
    SELECT group_concat(t.text, '') FROM (
        SELECT p.text FROM stream_part AS p
        WHERE p.conversation_key = s.conversation_key AND p.seq = s.seq AND (p.part = 0 OR ?3) ORDER BY p.part) AS t)
FROM stream AS s
CROSS JOIN message AS e ON e.conversation_key = s.conversation_key AND e.seq = s.seq
CROSS JOIN conversation AS c ON c.conversation_key = s.conversation_key
WHERE s.at_ms <= ?1 OR s.at_ms > ?4 ORDER BY s.at_ms, s.conversation_key, s.seq LIMIT ?2
"""
SELECT_READABLE = """
WITH k (conversation_key, user_id) AS (VALUES {keys})
SELECT m.conversation_key, ifnull(m.first_seq, m.join_seq), m.leave_seq FROM k
CROSS JOIN conversation_member AS m ON m.conversation_key = k.conversation_key AND m.user_id = k.user_id
"""
SELECT_EDIT_ENTRIES = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT e.conversation_key, e.seq, e.server_ts, e.payload FROM k
CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
WHERE NOT EXISTS (
    SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
"""


def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name into the state."""
    for key, seq, edit_seq, *stream in select(connection, SELECT_EDITS, keys.edited):
        if edit_seq is None:
            state.streams[key, seq] = StreamRow(key, seq, *stream)
        else:
            state.edits[key, seq].append(edit_seq)
    for key, seq, text in select(connection, SELECT_STREAM_TEXTS, keys.stream_texts):
        state.stream_texts[key, seq] += text
    state.stream_counts.update(select(connection, COUNT_STREAMS, [(it,) for it in keys.streamers]))
    for key, seq, count in select(connection, COUNT_REACTIONS, {place[:2] for place in keys.reactions}):
        state.reaction_counts[key, seq] = count
    for key, seq, user_id, reaction in select(connection, SELECT_OWN_REACTIONS, keys.reactions):
        state.own_reactions[key, seq, user_id].add(reaction)
    for key, seq, user_id in select(connection, SELECT_MENTIONED, keys.mentioned):
        state.mentioned[key, seq].add(user_id)
    for key, seq, by_seq in select(connection, SELECT_PINS, [(it,) for it in keys.pins]):
        state.pins[key][seq] = by_seq
    named = [(it,) for it in state.described(keys)]
    state.descriptions.update(select(connection, SELECT_DESCRIPTIONS, named))


def write(connection: Connection, changes: Changes) -> None:
    """Write new edits and mentions, what is pinned and described, and reactions that begin and end. A recall takes the
    reactions to a message along, its pin, and whom it mentions."""
    _many(connection, INSERT_EDIT, changes.edits)
    _many(connection, DELETE_REACTION, changes.ended_reactions)
    _many(connection, INSERT_REACTION, changes.reactions)
    _many(connection, INSERT_MENTION, changes.mentions)
    _many(connection, DELETE_PIN, changes.ended_pins)
    _many(connection, INSERT_PIN, changes.pins)
    _many(connection, UPDATE_DESCRIPTION, changes.descriptions)
    recalled = [row[:2] for row in changes.recalls]
    for delete in (DELETE_REACTIONS, DELETE_MENTIONS, DELETE_PIN):
        _many(connection, delete, recalled)


def pins(connection: Connection, key: int, user_id: str) -> list[PinRow]:
    """What is pinned of what a member may read."""
    return [PinRow(*row) for row in connection.execute(SELECT_PIN_ROWS, (key, user_id))]


def write_streams(connection: Connection, changes: Changes) -> None:
    """Write streams that begin, grow and end."""
    _many(connection, PUT_STREAM, changes.streams)
    _many(connection, INSERT_PART, changes.parts)
    _many(connection, DELETE_PARTS, changes.ended_streams)
    _many(connection, DELETE_STREAM, changes.ended_streams)


def drop_expired(connection: Connection, changes: Changes) -> None:
    """Streams of messages that expired are open no more, and what was said of these messages goes with them."""
    for drop in DROP_EXPIRED:
        _many(connection, drop, changes.floors)


def marks(
    connection: Connection, user_id: str, ranges: Sequence[tuple[int, int, int]]
) -> dict[Place, StoredMarks]:
    """What is shown to a user beside the entries of some ranges (conversation key, first seq, last seq)."""
    rows = select(connection, SELECT_MARKS, ranges)
    if not rows:
        return {}
    intervals: dict[int, list[Interval]] = {row[0]: [] for row in rows}
    for key, first_seq, leave_seq in select(
        connection, SELECT_READABLE, [(key, user_id) for key in intervals]
    ):
        intervals[key].append(Interval(first_seq, leave_seq))
    latest = latest_edits(rows, intervals)
    places = [(key, edit_seq) for (key, _), edit_seq in latest.items()]
    edits = {
        (key, seq): edit_of(seq, server_ts, payload)
        for key, seq, server_ts, payload in select(connection, SELECT_EDIT_ENTRIES, places)
    }
    return marks_of(rows, latest, edits)


def idle_streams(
    connection: Connection, before_ms: int, after_ms: int, limit: int, *, parts: bool
) -> list[IdleStream]:
    """Open streams of which nothing was heard since, the longest silent first."""
    return [
        IdleStream(name, message_id(key, epoch, seq), seq, sender_id, at_ms, count, text)
        for name, key, epoch, seq, sender_id, at_ms, count, text in connection.execute(
            SELECT_IDLE, (before_ms, limit, parts, after_ms)
        )
    ]


def _many(connection: Connection, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        connection.executemany(sql, rows)
