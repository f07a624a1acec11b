"""What entries say of others, on PostgreSQL: loaded and written with a batch, read for a page. Nothing is decided here.

Called by `batch` where anything of it is named or changed, after the conversations were locked: what is said of an
entry changes under its conversation's lock alone. And by `reads`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.marks import MarkRow, Place, StoredMarks, edit_of, latest_edits, marks_of
from ...core.log.outcomes import message_id
from ...core.log.state import State, StreamRow
from ...core.visibility import Interval
from ...drivers.postgres import Connection
from ..base import PinRow
from ..streams import IdleStream
from .columns import columns

SELECT_EDITS = """
SELECT t.conversation_key, t.seq, t.edited_by_seq, NULL::text, NULL::bigint, NULL::bigint, NULL::bigint
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN edit AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq
UNION ALL
SELECT t.conversation_key, t.seq, NULL, t.user_id, t.parts, t.size, t.at_ms
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN stream AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq
ORDER BY 1, 2, 3
"""
SELECT_STREAM_TEXTS = """
SELECT t.conversation_key, t.seq, string_agg(t.text, '' ORDER BY t.part)
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN stream_part AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq GROUP BY 1, 2
"""
COUNT_STREAMS = """
SELECT k.user_id, (SELECT count(*) FROM stream AS t WHERE t.user_id = k.user_id)
FROM unnest($1::text[]) AS k (user_id)
"""
COUNT_REACTIONS = """
SELECT k.conversation_key, k.seq, (
    SELECT count(*) FROM reaction AS t WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq)
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
"""
SELECT_OWN_REACTIONS = """
SELECT t.conversation_key, t.seq, t.user_id, t.reaction
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS k (conversation_key, seq, user_id)
JOIN reaction AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.user_id = k.user_id
"""
SELECT_MENTIONED = """
SELECT k.conversation_key, k.seq, t.user_id
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
CROSS JOIN LATERAL (
    SELECT k.seq AS by_seq UNION ALL
    SELECT d.edited_by_seq FROM edit AS d WHERE d.conversation_key = k.conversation_key AND d.seq = k.seq
) AS b
JOIN mention AS t ON t.conversation_key = k.conversation_key AND t.seq = b.by_seq
"""
SELECT_PINS = """
SELECT t.conversation_key, t.seq, t.pinned_by_seq FROM pin AS t
JOIN conversation AS c ON c.conversation_key = t.conversation_key AND t.seq > c.floor_seq
WHERE t.conversation_key = ANY ($1::bigint[])
"""
SELECT_DESCRIPTIONS = """
SELECT conversation_key, description FROM conversation WHERE conversation_key = ANY ($1::bigint[])
"""
SELECT_PIN_ROWS = f"""
SELECT t.seq, t.pinned_by_seq, e.sender_id, e.server_ts FROM conversation AS c
JOIN pin AS t ON t.conversation_key = c.conversation_key AND t.seq > c.floor_seq
JOIN message AS e ON e.conversation_key = t.conversation_key AND e.seq = t.pinned_by_seq
WHERE c.conversation_key = $1 AND EXISTS (SELECT FROM conversation_member AS v
    WHERE v.conversation_key = c.conversation_key AND v.user_id = $2
        AND t.seq >= coalesce(v.first_seq, v.join_seq) AND t.seq < coalesce(v.leave_seq, {2**63 - 1}))
ORDER BY t.pinned_by_seq DESC
"""  # noqa: S608 -- a constant
INSERT_MENTIONS = """
INSERT INTO mention (conversation_key, user_id, seq) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[])
"""
# what is there still was taken back earlier in the same batch: so of pins and of reactions
INSERT_PINS = """
INSERT INTO pin (conversation_key, seq, pinned_by_seq) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
ON CONFLICT (conversation_key, seq) DO UPDATE SET pinned_by_seq = excluded.pinned_by_seq
"""
UPDATE_DESCRIPTIONS = """
UPDATE conversation AS c SET description = k.description
FROM unnest($1::text[], $2::bigint[]) AS k (description, conversation_key) WHERE c.conversation_key = k.conversation_key
"""
INSERT_EDITS = """
INSERT INTO edit (conversation_key, seq, edited_by_seq) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
"""
INSERT_REACTIONS = """
INSERT INTO reaction (conversation_key, seq, user_id, reaction, reacted_by_seq)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (conversation_key, seq, user_id, reaction) DO UPDATE SET reacted_by_seq = excluded.reacted_by_seq
"""
END_REACTIONS = """
DELETE FROM reaction AS t
USING unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS k (conversation_key, seq, user_id, reaction)
WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.user_id = k.user_id AND t.reaction = k.reaction
"""
PUT_STREAMS = """
INSERT INTO stream (conversation_key, seq, user_id, parts, size, at_ms)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
ON CONFLICT (conversation_key, seq) DO UPDATE SET parts = excluded.parts, size = excluded.size, at_ms = excluded.at_ms
"""
INSERT_PARTS = """
INSERT INTO stream_part (conversation_key, seq, part, text)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
"""
DELETE_PINS, DELETE_STREAMS, DELETE_PARTS = (
    f"""
DELETE FROM {table} AS t USING unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq
"""  # noqa: S608 -- fixed names
    for table in ("pin", "stream", "stream_part")
)
# a recall finds the words of edits by their rows: those stay until the words have left too
DROP_EXPIRED = """
WITH k AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS k (floor_seq, conversation_key)),
    cut AS (DELETE FROM stream_part AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq <= floor_seq),
    closed AS (DELETE FROM stream AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq <= floor_seq),
    ended AS (DELETE FROM reaction AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq <= floor_seq),
    unsaid AS (DELETE FROM mention AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq <= floor_seq),
    unpinned AS (DELETE FROM pin AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq <= floor_seq)
DELETE FROM edit AS t USING k JOIN conversation AS c ON c.conversation_key = k.conversation_key
WHERE t.conversation_key = k.conversation_key AND t.seq <= k.floor_seq
    AND t.edited_by_seq <= least(k.floor_seq, c.cold_seq)
"""
DELETE_SAID_OF_RECALLED = """
WITH k AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)),
    ended AS (DELETE FROM reaction AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq),
    unsaid AS (DELETE FROM mention AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq)
DELETE FROM pin AS t USING k WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq
"""
SELECT_MARKS = """
SELECT t.conversation_key, t.seq, t.edited_by_seq, NULL, NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (conversation_key, first_seq, last_seq)
JOIN edit AS t ON t.conversation_key = k.conversation_key AND t.seq BETWEEN k.first_seq AND k.last_seq
UNION ALL
SELECT t.conversation_key, t.seq, t.reacted_by_seq, t.reaction, t.user_id
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (conversation_key, first_seq, last_seq)
JOIN reaction AS t ON t.conversation_key = k.conversation_key AND t.seq BETWEEN k.first_seq AND k.last_seq
UNION ALL
SELECT t.conversation_key, t.seq, t.part, t.text, NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (conversation_key, first_seq, last_seq)
JOIN stream_part AS t ON t.conversation_key = k.conversation_key AND t.seq BETWEEN k.first_seq AND k.last_seq
"""
SELECT_IDLE = """
SELECT c.conversation_id, e.conversation_key, e.epoch, e.seq, e.sender_id, s.at_ms, s.parts, (
    SELECT string_agg(p.text, '' ORDER BY p.part) FROM stream_part AS p
    WHERE p.conversation_key = s.conversation_key AND p.seq = s.seq AND (p.part = 0 OR $3))
FROM (SELECT * FROM stream WHERE at_ms <= $1 UNION ALL SELECT * FROM stream WHERE at_ms > $4) AS s
JOIN message AS e ON e.conversation_key = s.conversation_key AND e.seq = s.seq
JOIN conversation AS c ON c.conversation_key = s.conversation_key
ORDER BY s.at_ms, s.conversation_key, s.seq LIMIT $2
"""
SELECT_READABLE = """
SELECT conversation_key, coalesce(first_seq, join_seq), leave_seq FROM conversation_member
WHERE conversation_key = ANY ($1::bigint[]) AND user_id = $2
"""
SELECT_EDIT_ENTRIES = """
SELECT e.conversation_key, e.seq, e.server_ts, e.payload
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
WHERE NOT EXISTS (
    SELECT FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
"""


async def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name into the state."""
    if keys.edited:
        for key, seq, edit_seq, *stream in await connection.fetch(SELECT_EDITS, *columns(keys.edited, 2)):
            if edit_seq is None:
                state.streams[key, seq] = StreamRow(key, seq, *stream)
            else:
                state.edits[key, seq].append(edit_seq)
    if keys.stream_texts:
        texts = await connection.fetch(SELECT_STREAM_TEXTS, *columns(keys.stream_texts, 2))
        state.stream_texts.update(((key, seq), text) for key, seq, text in texts)
    if keys.streamers:
        for user_id, count in await connection.fetch(COUNT_STREAMS, list(keys.streamers)):
            state.stream_counts[user_id] = count
    if keys.reactions:
        places = {place[:2] for place in keys.reactions}
        for key, seq, count in await connection.fetch(COUNT_REACTIONS, *columns(places, 2)):
            state.reaction_counts[key, seq] = count
        rows = await connection.fetch(SELECT_OWN_REACTIONS, *columns(keys.reactions, 3))
        for key, seq, user_id, reaction in rows:
            state.own_reactions[key, seq, user_id].add(reaction)
    if keys.mentioned:
        for key, seq, user_id in await connection.fetch(SELECT_MENTIONED, *columns(keys.mentioned, 2)):
            state.mentioned[key, seq].add(user_id)
    if keys.pins:
        for key, seq, by_seq in await connection.fetch(SELECT_PINS, list(keys.pins)):
            state.pins[key][seq] = by_seq
    described = state.described(keys)
    if described:
        for key, description in await connection.fetch(SELECT_DESCRIPTIONS, described):
            state.descriptions[key] = description


async def write(connection: Connection, changes: Changes) -> None:
    """Write new edits and mentions, what is pinned and described, and reactions that begin and end. A recall takes the
    reactions to a message along, its pin, and whom it mentions."""
    if changes.edits:
        await connection.fetch(INSERT_EDITS, *columns(changes.edits, 3))
    if changes.ended_reactions:
        await connection.fetch(END_REACTIONS, *columns(changes.ended_reactions, 4))
    if changes.reactions:
        await connection.fetch(INSERT_REACTIONS, *columns(changes.reactions, 5))
    if changes.mentions:
        await connection.fetch(INSERT_MENTIONS, *columns(changes.mentions, 3))
    if changes.ended_pins:
        await connection.fetch(DELETE_PINS, *columns(changes.ended_pins, 2))
    if changes.pins:
        await connection.fetch(INSERT_PINS, *columns(changes.pins, 3))
    if changes.descriptions:
        await connection.fetch(UPDATE_DESCRIPTIONS, *columns(changes.descriptions, 2))
    if changes.recalls:
        await connection.fetch(DELETE_SAID_OF_RECALLED, *columns([row[:2] for row in changes.recalls], 2))


async def pins(connection: Connection, key: int, user_id: str) -> list[PinRow]:
    """What is pinned of what a member may read."""
    return [PinRow(*row) for row in await connection.fetch(SELECT_PIN_ROWS, key, user_id)]


async def write_streams(connection: Connection, changes: Changes) -> None:
    """Write streams that begin, grow and end. Those of messages that expired are open no more, and what was said of
    these messages goes with them."""
    if changes.streams:
        await connection.fetch(PUT_STREAMS, *columns(changes.streams, 6))
        await connection.fetch(INSERT_PARTS, *columns(changes.parts, 4))
    if changes.ended_streams:
        await connection.fetch(DELETE_PARTS, *columns(changes.ended_streams, 2))
        await connection.fetch(DELETE_STREAMS, *columns(changes.ended_streams, 2))
    if changes.floors:
        await connection.fetch(DROP_EXPIRED, *columns(changes.floors, 2))


async def marks(
    connection: Connection, user_id: str, ranges: Sequence[tuple[int, int, int]]
) -> dict[Place, StoredMarks]:
    """What is shown to a user beside the entries of some ranges (conversation key, first seq, last seq)."""
    if not ranges:
        return {}
    rows: list[MarkRow] = [
        (row[0], row[1], row[2], row[3], row[4])
        for row in await connection.fetch(SELECT_MARKS, *columns(ranges, 3))
    ]
    if not rows:
        return {}
    intervals: dict[int, list[Interval]] = {row[0]: [] for row in rows}
    for key, first_seq, leave_seq in await connection.fetch(SELECT_READABLE, list(intervals), user_id):
        intervals[key].append(Interval(first_seq, leave_seq))
    latest = latest_edits(rows, intervals)
    places = [(key, edit_seq) for (key, _), edit_seq in latest.items()]
    shown = await connection.fetch(SELECT_EDIT_ENTRIES, *columns(places, 2)) if places else []
    edits = {(key, seq): edit_of(seq, server_ts, payload) for key, seq, server_ts, payload in shown}
    return marks_of(rows, latest, edits)


async def idle_streams(
    connection: Connection, before_ms: int, after_ms: int, limit: int, *, parts: bool
) -> list[IdleStream]:
    """Open streams of which nothing was heard since, the longest silent first."""
    rows = await connection.fetch(SELECT_IDLE, before_ms, limit, parts, after_ms)
    return [
        IdleStream(name, message_id(key, epoch, seq), seq, sender_id, at_ms, count, text)
        for name, key, epoch, seq, sender_id, at_ms, count, text in rows
    ]
