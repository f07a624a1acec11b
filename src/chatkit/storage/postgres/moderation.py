"""What is moderated and reported, on PostgreSQL: loaded and written with a batch, and read. Nothing is decided here.

Called by `batch` where anything of it is named or changed, after the conversations were locked: what is moderated in a
conversation changes under its lock alone. And by `store`, for reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.state import ModeratedRow, State
from ...drivers.postgres import Connection
from ..base import HeldRecord, ReportRecord, message_id
from .columns import columns

_COLUMNS = (
    "t.held_id, t.conversation_key, t.sender_id, t.client_msg_id, t.state, t.at_ms, t.reason, t.payload_mac"
)
SELECT_MODERATED = f"""
SELECT {_COLUMNS}, ''::bytea
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS k (conversation_key, sender_id, client_msg_id)
JOIN moderated AS t ON t.conversation_key = k.conversation_key AND t.sender_id = k.sender_id
    AND t.client_msg_id = k.client_msg_id
"""  # noqa: S608 -- names
SELECT_HELD = f"""
SELECT {_COLUMNS}, ''::bytea FROM moderated AS t WHERE t.sender_id = ANY ($1::text[]) AND t.state <> 'REFUSED'
"""  # noqa: S608 -- names
SELECT_QUEUES = f"""
SELECT {_COLUMNS}, t.payload
FROM unnest($1::bigint[], $2::text[]) AS k (conversation_key, sender_id)
CROSS JOIN LATERAL (
    SELECT * FROM moderated AS f
    WHERE f.conversation_key = k.conversation_key AND f.sender_id = k.sender_id AND f.state <> 'REFUSED' OFFSET 0
) AS t
"""  # noqa: S608 -- names
COUNT_HELD = "SELECT count(*) FROM moderated WHERE state <> 'REFUSED'"
SELECT_NEW_HELD = "SELECT nextval('held_id') FROM generate_series(1, $1::integer)"
COUNT_REPORTS = """
SELECT k.conversation_key, k.seq, (
    SELECT count(*) FROM report AS t
    WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.resolved_ms IS NULL
)
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
"""
DELETE_MODERATED = """
DELETE FROM moderated AS t
USING unnest($1::bigint[], $2::text[], $3::text[]) AS k (conversation_key, sender_id, client_msg_id)
WHERE t.conversation_key = k.conversation_key AND t.sender_id = k.sender_id AND t.client_msg_id = k.client_msg_id
"""
INSERT_MODERATED = """
INSERT INTO moderated (held_id, conversation_key, sender_id, client_msg_id, state, at_ms, reason, payload_mac, payload)
SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bytea[], $9::bytea[]
)
ON CONFLICT (conversation_key, sender_id, client_msg_id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
    payload = excluded.payload
"""
INSERT_REPORT = """
INSERT INTO report (conversation_key, seq, reporter_id, reason, note, at_ms, body)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[])
ON CONFLICT (conversation_key, seq, reporter_id) DO NOTHING
"""
RESOLVE_REPORTS = """
UPDATE report AS t SET resolved_by = k.resolved_by, resolution = k.resolution, resolved_ms = k.at_ms, body = NULL
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS k (resolved_by, resolution, at_ms, conversation_key, seq)
WHERE t.conversation_key = k.conversation_key AND t.seq = k.seq AND t.resolved_ms IS NULL
"""
DELETE_HELD_OF = "DELETE FROM moderated WHERE sender_id = ANY ($1::text[]) AND state <> 'REFUSED'"
DELETE_REPORTS_BY = "DELETE FROM report WHERE reporter_id = ANY ($1::text[])"
FORGET_BODIES_OF = """
UPDATE report AS t SET body = NULL FROM message AS e
JOIN conversation AS c ON c.conversation_key = e.conversation_key
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
WHERE t.body IS NOT NULL AND e.conversation_key = t.conversation_key AND e.seq = t.seq
    AND e.sender_id = ANY ($1::text[]) AND (r.seq IS NOT NULL OR e.seq <= c.floor_seq)
"""
SELECT_TO_MODERATE = """
SELECT k.place::integer
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (conversation_id, sender_id, client_msg_id, place)
JOIN conversation_name AS n ON n.conversation_id = k.conversation_id
CROSS JOIN LATERAL (
    SELECT FROM conversation_member AS f
    WHERE f.conversation_key = n.conversation_key AND f.user_id = k.sender_id AND f.leave_seq IS NULL OFFSET 0
) AS m
WHERE NOT EXISTS (
    SELECT FROM message AS e WHERE e.conversation_key = n.conversation_key AND e.sender_id = k.sender_id
        AND e.client_msg_id = k.client_msg_id
) AND NOT EXISTS (
    SELECT FROM moderated AS t WHERE t.conversation_key = n.conversation_key AND t.sender_id = k.sender_id
        AND t.client_msg_id = k.client_msg_id
)
"""
_HELD_MESSAGE = (
    "SELECT t.held_id, c.conversation_id, t.sender_id, t.client_msg_id, t.at_ms, t.reason, t.payload "
    "FROM moderated AS t JOIN conversation AS c ON c.conversation_key = t.conversation_key "
)
SELECT_HELD_MESSAGES = (
    _HELD_MESSAGE + "WHERE t.state = 'REVIEW' AND t.held_id > $1 ORDER BY t.held_id LIMIT $2::integer"
)
SELECT_HELD_MESSAGE = _HELD_MESSAGE + "WHERE t.state = 'REVIEW' AND t.held_id = $1"
SELECT_REPORTS = """
SELECT
    t.report_id, t.conversation_key, e.epoch, t.seq, c.conversation_id, e.sender_id, t.reporter_id, t.reason, t.note,
    t.at_ms, coalesce(t.body, CASE
        WHEN r.seq IS NULL AND e.seq > c.floor_seq AND length(e.payload) > 0 THEN e.payload END)
FROM report AS t
JOIN conversation AS c ON c.conversation_key = t.conversation_key
JOIN message AS e ON e.conversation_key = t.conversation_key AND e.seq = t.seq
LEFT JOIN recall AS r ON r.conversation_key = t.conversation_key AND r.seq = t.seq
WHERE t.resolved_ms IS NULL AND t.report_id > $1 ORDER BY t.report_id LIMIT $2::integer
"""


async def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name of it into the state, whose conversations are there and locked."""
    places, waiting, names = [], [], {}
    for name in keys.moderated:
        conversation = state.conversations[name[0]]
        if conversation is not None:
            places.append((conversation.key, *name[1:]))
            names[conversation.key] = name[0]
    for conversation_id, sender_id in keys.waiting:
        conversation = state.conversations[conversation_id]
        if conversation is not None:
            waiting.append((conversation.key, sender_id))
    if places:
        for row in await connection.fetch(SELECT_MODERATED, *columns(places, 3)):
            found = ModeratedRow(*row)
            state.moderated[names[found.conversation_key], found.sender_id, found.client_msg_id] = found
    held = [*(await connection.fetch(SELECT_HELD, list(keys.holders)) if keys.holders else ())]
    if waiting:
        held += await connection.fetch(SELECT_QUEUES, *columns(waiting, 2))
    for row in held:
        found = ModeratedRow(*row)
        state.held.setdefault(found.sender_id, {})[found.held_id] = found
    if keys.holds or state.held:
        ((state.held_total,),) = await connection.fetch(COUNT_HELD)
    if keys.new_held:
        numbers = await connection.fetch(SELECT_NEW_HELD, keys.new_held)
        state.new_held_ids.extend(sorted(number for (number,) in numbers))
    if keys.reported:
        for key, seq, count in await connection.fetch(COUNT_REPORTS, *columns(keys.reported, 2)):
            state.open_reports[key, seq] = count


async def write(connection: Connection, changes: Changes) -> None:
    """Write what a batch changed of it."""
    for sql, rows, width in (
        (DELETE_MODERATED, changes.unmoderated, 3),
        (INSERT_MODERATED, changes.moderated, 9),
        (INSERT_REPORT, changes.reports, 7),
        (RESOLVE_REPORTS, changes.resolved_reports, 5),
    ):
        if rows:
            await connection.fetch(sql, *columns(rows, width))


async def erase(connection: Connection, users: Sequence[str]) -> None:
    """Nothing of users who were erased is left to be reviewed: as on SQLite."""
    for sql in (DELETE_HELD_OF, DELETE_REPORTS_BY, FORGET_BODIES_OF):
        await connection.fetch(sql, list(users))


async def to_moderate(connection: Connection, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Which of these a moderator need see: the key is new, and the sender a member."""
    found = {place for (place,) in await connection.fetch(SELECT_TO_MODERATE, *columns(sends, 3))}
    return [place in found for place in range(1, len(sends) + 1)]


async def held_messages(connection: Connection, after: int, limit: int) -> list[HeldRecord]:
    """What is to be reviewed, from a number on."""
    return [HeldRecord(*row) for row in await connection.fetch(SELECT_HELD_MESSAGES, after, limit)]


async def held_message(connection: Connection, held_id: int) -> HeldRecord | None:
    """One message that is to be reviewed."""
    rows = await connection.fetch(SELECT_HELD_MESSAGE, held_id)
    return HeldRecord(*rows[0]) if rows else None


async def reports(connection: Connection, after: int, limit: int) -> list[ReportRecord]:
    """Open reports, from a number on."""
    return [
        ReportRecord(report_id, message_id(key, epoch, seq), *rest)
        for report_id, key, epoch, seq, *rest in await connection.fetch(SELECT_REPORTS, after, limit)
    ]
