"""What entries say of others, on PostgreSQL: loaded and written with a batch, read for a page. Nothing is decided here.

Called by `batch` where anything of it is named or changed, after the conversations were locked: what is said of an
entry changes under its conversation's lock alone. And by `reads`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.marks import Marks, edit_of, latest_edits, marks_of, reactions_of
from ...core.log.rules import MEMBERSHIPS_MAX
from ...core.log.state import State
from ...core.visibility import Interval
from ...drivers.postgres import Connection
from .columns import columns

SELECT_EDITS = """
SELECT t.conversation_key, t.seq, t.edited_by_seq
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN edit AS t ON t.conversation_key = k.conversation_key AND t.seq = k.seq
ORDER BY t.conversation_key, t.seq, t.edited_by_seq
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
INSERT_EDITS = """
INSERT INTO edit (conversation_key, seq, edited_by_seq) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
"""
INSERT_REACTIONS = """
INSERT INTO reaction (conversation_key, seq, user_id, reaction, reacted_by_seq)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
"""
END_REACTIONS = """
DELETE FROM reaction AS t
USING unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS k (conversation_key, seq, user_id, reaction)
WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.user_id = k.user_id AND t.reaction = k.reaction
"""
DELETE_REACTIONS = """
DELETE FROM reaction AS t USING unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq
"""
SELECT_MARKS = """
SELECT t.seq, t.edited_by_seq, NULL, NULL
FROM unnest($2::bigint[], $3::bigint[]) AS k (first_seq, last_seq)
JOIN edit AS t ON t.conversation_key = $1 AND t.seq BETWEEN k.first_seq AND k.last_seq
UNION ALL
SELECT t.seq, t.reacted_by_seq, t.reaction, t.user_id
FROM unnest($2::bigint[], $3::bigint[]) AS k (first_seq, last_seq)
JOIN reaction AS t ON t.conversation_key = $1 AND t.seq BETWEEN k.first_seq AND k.last_seq
"""
SELECT_READABLE = """
SELECT coalesce(first_seq, join_seq), leave_seq FROM conversation_member
WHERE conversation_key = $1 AND user_id = $2 ORDER BY join_seq LIMIT $3
"""
SELECT_EDIT_ENTRIES = """
SELECT e.seq, e.server_ts, e.payload FROM unnest($2::bigint[]) AS k (seq)
JOIN message AS e ON e.conversation_key = $1 AND e.seq = k.seq
WHERE NOT EXISTS (
    SELECT FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
"""


async def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name into the state."""
    if keys.edited:
        for key, seq, edit_seq in await connection.fetch(SELECT_EDITS, *columns(keys.edited, 2)):
            state.edits[key, seq].append(edit_seq)
    if keys.reactions:
        places = {place[:2] for place in keys.reactions}
        for key, seq, count in await connection.fetch(COUNT_REACTIONS, *columns(places, 2)):
            state.reaction_counts[key, seq] = count
        rows = await connection.fetch(SELECT_OWN_REACTIONS, *columns(keys.reactions, 3))
        for key, seq, user_id, reaction in rows:
            state.own_reactions[key, seq, user_id].add(reaction)


async def write(connection: Connection, changes: Changes) -> None:
    """Write new edits, and reactions that begin and end. A recall of a message takes its reactions along."""
    if changes.edits:
        await connection.fetch(INSERT_EDITS, *columns(changes.edits, 3))
    if changes.ended_reactions:
        await connection.fetch(END_REACTIONS, *columns(changes.ended_reactions, 4))
    if changes.reactions:
        await connection.fetch(INSERT_REACTIONS, *columns(changes.reactions, 5))
    if changes.recalls:
        await connection.fetch(DELETE_REACTIONS, *columns([row[:2] for row in changes.recalls], 2))


async def marks(
    connection: Connection, key: int, user_id: str, ranges: Sequence[tuple[int, int]]
) -> dict[int, Marks]:
    """What is shown to a user beside the entries of some ranges (first seq, last seq) of a log."""
    if not ranges:
        return {}
    rows = await connection.fetch(SELECT_MARKS, key, *columns(ranges, 2))
    if not rows:
        return {}
    found = await connection.fetch(SELECT_READABLE, key, user_id, MEMBERSHIPS_MAX)
    latest = latest_edits(
        [(row[0], row[1]) for row in rows if row[2] is None], [Interval(*row) for row in found]
    )
    shown = await connection.fetch(SELECT_EDIT_ENTRIES, key, list(latest.values())) if latest else []
    edits = {seq: edit_of(seq, server_ts, payload) for seq, server_ts, payload in shown}
    return marks_of(
        {seq: edits[edit_seq] for seq, edit_seq in latest.items() if edit_seq in edits},
        reactions_of([(row[0], row[1], row[2], row[3]) for row in rows if row[2] is not None]),
    )
