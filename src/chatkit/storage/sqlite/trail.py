"""What became of one message, on SQLite: the read for operators, in one snapshot. Called by `store`."""

from __future__ import annotations

from ...drivers.sqlite import Connection
from ..base import READERS_MAX, MessageTrail
from ..trail_rows import entry_at, place_of, recall_seq_of, span_of, trail_of
from .select import select

SELECT_ENTRY = """
SELECT c.conversation_id, c.type, c.epoch, c.head_seq, c.member_count,
    e.epoch, e.kind, e.sender_id, e.client_msg_id, e.server_ts,
    CASE WHEN e.kind IN ('MEMBER', 'RECALL') THEN e.payload END,
    b.seq, b.epoch, b.sender_id, b.server_ts, o.first_seq, o.handled_seq,
    o.ready_ms, c.cold_seq, c.floor_seq
FROM conversation AS c
LEFT JOIN message AS e ON e.conversation_key = c.conversation_key AND e.seq = ?2
LEFT JOIN recall AS r ON r.conversation_key = c.conversation_key AND r.seq = ?2
LEFT JOIN message AS b ON b.conversation_key = c.conversation_key AND b.seq = r.recalled_by_seq
LEFT JOIN outbox AS o ON o.conversation_key = c.conversation_key
WHERE c.conversation_key = ?1
"""
SELECT_READERS = """
SELECT m.user_id, m.join_seq, m.leave_seq, u.read_seq, u.read_ms, CASE
    WHEN x.but_mentions = 1 AND EXISTS (SELECT 1 FROM mention AS t
        WHERE t.conversation_key = m.conversation_key AND t.user_id IN (m.user_id, '*') AND t.seq = ?4) THEN 0
    ELSE ifnull(x.until_ms, 0) END
FROM conversation_member AS m
CROSS JOIN member_cursor AS u ON u.conversation_key = m.conversation_key AND u.user_id = m.user_id
LEFT JOIN mute AS x ON x.conversation_key = m.conversation_key AND x.user_id = m.user_id
WHERE m.conversation_key = ?1 AND m.user_id BETWEEN ?2 AND ?3 AND m.join_seq <= ?4
    AND (m.leave_seq IS NULL OR m.leave_seq > ?4)
ORDER BY m.user_id LIMIT ?5
"""
SELECT_DEVICES = """
WITH k (conversation_key, user_id, seq) AS (VALUES {keys})
SELECT v.user_id, v.device_id, v.first_seen_ms, ifnull(d.delivered_seq, u.device_seq), d.updated_ms,
    EXISTS (SELECT 1 FROM device_exact AS x WHERE x.conversation_key = k.conversation_key
        AND x.user_id = k.user_id AND x.device_id = v.device_id AND x.seq = k.seq),
    p.provider, p.at_ms
FROM k
CROSS JOIN member_cursor AS u ON u.conversation_key = k.conversation_key AND u.user_id = k.user_id
CROSS JOIN device AS v ON v.user_id = k.user_id
LEFT JOIN device_cursor AS d ON d.conversation_key = k.conversation_key AND d.user_id = k.user_id
    AND d.device_id = v.device_id
LEFT JOIN push_token AS p ON p.user_id = v.user_id AND p.device_id = v.device_id
"""
SELECT_PUSHES = """
WITH k (conversation_key, user_id, seq) AS (VALUES {keys})
SELECT s.user_id, s.device_id, s.seq, s.provider, s.at_ms, s.answer, s.provider_id, s.reason, s.tries, s.first_ms
FROM k CROSS JOIN push_record AS s ON s.conversation_key = k.conversation_key AND s.user_id = k.user_id
WHERE s.seq >= k.seq AND (s.seq IN (k.seq, ?) OR s.seq = (
    SELECT min(f.seq) FROM push_record AS f WHERE f.conversation_key = k.conversation_key AND f.user_id = k.user_id
        AND f.device_id = s.device_id AND f.seq > k.seq))
"""
SELECT_OPEN = """
WITH k (conversation_key, user_id, seq) AS (VALUES {keys})
SELECT v.user_id, v.device_id, v.after_seq, v.ready_ms, v.attempt, v.since_ms, v.reason
FROM k CROSS JOIN delivery AS v ON v.conversation_key = k.conversation_key AND v.user_id = k.user_id
WHERE v.after_seq < k.seq
"""


def trail(connection: Connection, name: str, user_id: str | None, limit: int) -> MessageTrail:
    """An entry and what is stored around it."""
    place = place_of(name)
    key, _, seq = place
    entry = entry_at(place, connection.execute(SELECT_ENTRY, (key, seq)))
    limit = min(limit, READERS_MAX)
    readers = connection.execute(SELECT_READERS, (key, *span_of(user_id), seq, limit + 1))
    keys = [(key, row[0], seq) for row in readers[:limit]]
    return trail_of(
        entry,
        readers,
        limit,
        select(connection, SELECT_DEVICES, keys),
        select(connection, SELECT_PUSHES, keys, recall_seq_of(entry)),
        select(connection, SELECT_OPEN, [*keys, (key, "", seq)]),
    )
