"""What became of one message, on PostgreSQL: the read for operators, in one snapshot. Called by `store`."""

from __future__ import annotations

from typing import Final

from ...drivers.postgres import Connection
from ..base import READERS_MAX, MessageTrail
from ..trail_rows import entry_at, place_of, recall_seq_of, span_of, trail_of

SELECT_ENTRY: Final = """
SELECT c.conversation_id, c.type, c.epoch, c.head_seq, c.member_count,
    e.epoch, e.kind, e.sender_id, e.client_msg_id, e.server_ts,
    CASE WHEN e.kind IN ('MEMBER', 'RECALL') THEN e.payload END,
    b.seq, b.epoch, b.sender_id, b.server_ts, o.first_seq, o.handled_seq,
    o.ready_ms, c.cold_seq, c.floor_seq
FROM conversation AS c
LEFT JOIN message AS e ON e.conversation_key = c.conversation_key AND e.seq = $2
LEFT JOIN recall AS r ON r.conversation_key = c.conversation_key AND r.seq = $2
LEFT JOIN message AS b ON b.conversation_key = c.conversation_key AND b.seq = r.recalled_by_seq
LEFT JOIN outbox AS o ON o.conversation_key = c.conversation_key
WHERE c.conversation_key = $1
"""
SELECT_READERS: Final = """
SELECT m.user_id, m.join_seq, m.leave_seq, u.read_seq, u.read_ms, CASE
    WHEN x.but_mentions AND EXISTS (SELECT FROM mention AS t
        WHERE t.conversation_key = m.conversation_key AND t.user_id IN (m.user_id, '*') AND t.seq = $4) THEN 0
    ELSE coalesce(x.until_ms, 0) END
FROM conversation_member AS m
CROSS JOIN LATERAL (
    SELECT * FROM member_cursor AS f
    WHERE f.conversation_key = m.conversation_key AND f.user_id = m.user_id OFFSET 0
) AS u
LEFT JOIN LATERAL (
    SELECT * FROM mute AS f WHERE f.conversation_key = m.conversation_key AND f.user_id = m.user_id OFFSET 0
) AS x ON true
WHERE m.conversation_key = $1 AND m.user_id BETWEEN $2 AND $3 AND m.join_seq <= $4
    AND (m.leave_seq IS NULL OR m.leave_seq > $4)
ORDER BY m.user_id LIMIT $5
"""
SELECT_DEVICES: Final = """
SELECT v.user_id, v.device_id, v.first_seen_ms, coalesce(d.delivered_seq, u.device_seq), d.updated_ms,
    coalesce(d.exact_count, 0) > 0 AND EXISTS (
        SELECT FROM device_exact AS x
        WHERE x.conversation_key = $1 AND x.user_id = v.user_id AND x.device_id = v.device_id AND x.seq = $2),
    p.provider, p.at_ms
FROM unnest($3::text[]) AS k (user_id)
CROSS JOIN LATERAL (
    SELECT * FROM member_cursor AS f WHERE f.conversation_key = $1 AND f.user_id = k.user_id OFFSET 0
) AS u
CROSS JOIN LATERAL (SELECT * FROM device AS f WHERE f.user_id = k.user_id OFFSET 0) AS v
LEFT JOIN LATERAL (
    SELECT * FROM device_cursor AS f
    WHERE f.conversation_key = $1 AND f.user_id = k.user_id AND f.device_id = v.device_id OFFSET 0
) AS d ON true
LEFT JOIN LATERAL (
    SELECT * FROM push_token AS f WHERE f.user_id = v.user_id AND f.device_id = v.device_id OFFSET 0
) AS p ON true
"""
SELECT_PUSHES: Final = """
SELECT s.user_id, s.device_id, s.seq, s.provider, s.at_ms, s.answer, s.provider_id, s.reason, s.tries, s.first_ms
FROM unnest($3::text[]) AS k (user_id)
CROSS JOIN LATERAL (
    SELECT * FROM push_record AS f
    WHERE f.conversation_key = $1 AND f.user_id = k.user_id AND f.seq >= $2 AND (f.seq IN ($2, $4) OR f.seq = (
        SELECT min(g.seq) FROM push_record AS g
        WHERE g.conversation_key = $1 AND g.user_id = k.user_id AND g.device_id = f.device_id AND g.seq > $2))
    OFFSET 0
) AS s
"""
SELECT_OPEN: Final = """
SELECT v.user_id, v.device_id, v.after_seq, v.ready_ms, v.attempt, v.since_ms, v.reason
FROM unnest($3::text[]) AS k (user_id)
CROSS JOIN LATERAL (
    SELECT * FROM delivery AS f
    WHERE f.conversation_key = $1 AND f.user_id = k.user_id AND f.after_seq < $2 OFFSET 0
) AS v
"""


async def trail(connection: Connection, name: str, user_id: str | None, limit: int) -> MessageTrail:
    """An entry and what is stored around it."""
    place = place_of(name)
    key, _, seq = place
    entry = entry_at(place, await connection.fetch(SELECT_ENTRY, key, seq))
    limit = min(limit, READERS_MAX)
    readers = await connection.fetch(SELECT_READERS, key, *span_of(user_id), seq, limit + 1)
    users = [row[0] for row in readers[:limit]]
    return trail_of(
        entry,
        readers,
        limit,
        await connection.fetch(SELECT_DEVICES, key, seq, users),
        await connection.fetch(SELECT_PUSHES, key, seq, users, recall_seq_of(entry)),
        await connection.fetch(SELECT_OPEN, key, seq, [*users, ""]),
    )
