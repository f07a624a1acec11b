"""The outbox as delivery workers see it, on SQLite: claims, whom to push to, and what is finished.

Called by `store`: the reads in a snapshot, `claim`, `finish` and `discard_dead_letters` in a write transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from ...core.log.marks import reading
from ...drivers.sqlite import Connection, Row
from ...wire.payload import EVERYBODY
from ..base import (
    LAG_MAX,
    MARKED_ENTRIES_MAX,
    MENTIONED_MAX,
    PUSHES_PER_DEVICE_MAX,
    Claim,
    ClaimTerms,
    DeadLetter,
    DeliveryLag,
    EntryMark,
    Finished,
    PushTarget,
)
from ..later import later_rows
from ..pushes import push_rows
from ..unread import Place, UnreadCounts
from .reads import unread_at
from .select import select

# ruff: noqa: S608 -- joined from constants of this module only

_CLAIM = """
SELECT c.conversation_key, c.conversation_id, c.type, c.title, c.member_count,
    max(o.handled_seq, o.first_seq - 1), ifnull((
        SELECT e.seq FROM message AS e WHERE e.conversation_key = c.conversation_key AND e.seq <= c.head_seq
            AND e.server_ts <= ? ORDER BY e.seq DESC LIMIT 1), c.head_seq), o.attempt + 1
"""
_DUE = (
    _CLAIM
    + """
FROM (SELECT * FROM outbox WHERE ready_ms <= ? ORDER BY ready_ms {order}, conversation_key {order} LIMIT ?) AS o
CROSS JOIN conversation AS c ON c.conversation_key = o.conversation_key
"""
)
SELECT_OLDEST = _DUE.format(order="ASC")
SELECT_NEWEST = _DUE.format(order="DESC")
SELECT_NAMED = (
    "WITH k (conversation_id) AS (VALUES {keys})"
    + _CLAIM
    + """
FROM k CROSS JOIN conversation AS c ON c.conversation_id = k.conversation_id
CROSS JOIN outbox AS o ON o.conversation_key = c.conversation_key
WHERE o.ready_ms <= ?
"""
)
TAKE_CONVERSATION = (
    "UPDATE outbox SET ready_ms = ?, ticket = ?, attempt = attempt + 1 WHERE conversation_key = ?"
)
SELECT_DUE_DEVICES = """
SELECT c.conversation_key, c.conversation_id, c.type, c.title, c.member_count, v.after_seq, ifnull((
        SELECT e.seq FROM message AS e WHERE e.conversation_key = c.conversation_key AND e.seq <= c.head_seq
            AND e.server_ts <= ? ORDER BY e.seq DESC LIMIT 1), c.head_seq),
    v.attempt + 1, v.user_id, v.device_id, v.since_ms
FROM (SELECT * FROM delivery WHERE ready_ms <= ? ORDER BY ready_ms, conversation_key LIMIT ?) AS v
JOIN conversation AS c ON c.conversation_key = v.conversation_key
"""
TAKE_DEVICE = (
    "UPDATE delivery SET ready_ms = ?, ticket = ?, attempt = attempt + 1 "
    "WHERE conversation_key = ? AND user_id = ? AND device_id = ?"
)
SELECT_IS_DUE = """
SELECT EXISTS (SELECT 1 FROM outbox WHERE ready_ms <= ?) OR EXISTS (SELECT 1 FROM delivery WHERE ready_ms <= ?)
"""
_TARGET = """
SELECT u.conversation_key, u.user_id, p.device_id, p.provider, p.token, p.hide_body, p.at_ms, m.join_seq, u.read_seq,
    ifnull(d.delivered_seq, u.device_seq) AS delivered, ifnull(x.until_ms, 0) > ?, ifnull(d.exact_count, 0)
FROM k
CROSS JOIN conversation AS c ON c.conversation_key = k.conversation_key
CROSS JOIN member_cursor AS u ON u.conversation_key = k.conversation_key AND u.is_member = 1 AND u.read_seq < c.head_seq
    {of_device}
CROSS JOIN push_token AS p ON p.user_id = u.user_id {of_pushed}
CROSS JOIN conversation_member AS m ON m.conversation_key = u.conversation_key AND m.user_id = u.user_id
    AND m.leave_seq IS NULL
LEFT JOIN device_cursor AS d ON d.conversation_key = u.conversation_key AND d.user_id = u.user_id
    AND d.device_id = p.device_id
LEFT JOIN mute AS x ON x.conversation_key = u.conversation_key AND x.user_id = u.user_id
WHERE ifnull(d.delivered_seq, u.device_seq) < c.head_seq AND (ifnull(x.until_ms, 0) <= ? OR x.but_mentions) {more}
"""
SELECT_TARGETS = "WITH k (conversation_key) AS (VALUES {keys})" + _TARGET.format(
    of_device="",
    of_pushed="",
    more="""AND NOT EXISTS (
            SELECT 1 FROM delivery AS v WHERE v.conversation_key = u.conversation_key AND v.user_id = u.user_id
                AND v.device_id = p.device_id AND v.ready_ms IS NOT NULL)""",
)
SELECT_TARGETS_OF_DEVICES = (
    "WITH k (conversation_key, user_id, device_id) AS (VALUES {keys})"
    + _TARGET.format(
        of_device="AND u.user_id = k.user_id", of_pushed="AND p.device_id = k.device_id", more=""
    )
)
SELECT_EXACT = """
WITH k (conversation_key, user_id, device_id) AS (VALUES {keys})
SELECT x.conversation_key, x.user_id, x.device_id, x.seq FROM k
CROSS JOIN device_exact AS x ON x.conversation_key = k.conversation_key AND x.user_id = k.user_id
    AND x.device_id = k.device_id
"""
SELECT_MENTIONED = """
WITH k (conversation_key, user_id, read_seq, name) AS (VALUES {keys})
SELECT k.conversation_key, k.user_id, t.seq FROM k
CROSS JOIN mention AS t ON t.conversation_key = k.conversation_key AND t.user_id = k.name
    AND t.seq > max(k.read_seq, ifnull((SELECT o.seq FROM mention AS o
        WHERE o.conversation_key = k.conversation_key AND o.user_id = k.name ORDER BY o.seq DESC LIMIT 1 OFFSET ?), 0))
"""
_MARK = """
SELECT e.conversation_key, e.seq, e.epoch, e.kind, e.sender_id, e.server_ts, r.seq IS NOT NULL,
    CASE WHEN e.kind = 'RECALL' THEN CAST(e.payload AS TEXT) ->> 'seq' END
FROM {source}
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
SELECT_NEWEST_MARKS = (
    _MARK.format(source="message AS e")
    + "WHERE e.conversation_key = ?1 AND e.seq > ?2 - ?4 AND e.seq <= ?2 AND e.kind IN ('USER', 'RECALL') "
    + "ORDER BY e.seq DESC LIMIT ?3"
)
SELECT_MARKS = "WITH k (conversation_key, seq) AS (VALUES {keys})" + _MARK.format(
    source="k CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq"
)
SELECT_WAITING = """
WITH k (conversation_id) AS (VALUES {keys})
SELECT c.conversation_id FROM k CROSS JOIN conversation AS c ON c.conversation_id = k.conversation_id
CROSS JOIN outbox AS o ON o.conversation_key = c.conversation_key AND o.ready_ms IS NOT NULL
"""
SELECT_PAYLOADS = """
WITH k (conversation_key, seq) AS (VALUES {keys})
SELECT e.conversation_key, e.seq, e.payload, (
    SELECT p.payload FROM edit AS d
    CROSS JOIN message AS p ON p.conversation_key = d.conversation_key AND p.seq = d.edited_by_seq
    WHERE d.conversation_key = e.conversation_key AND d.seq = e.seq ORDER BY d.edited_by_seq DESC LIMIT 1
), (
    SELECT group_concat(t.text, '') FROM (
        SELECT p.text FROM stream_part AS p
        WHERE p.conversation_key = e.conversation_key AND p.seq = e.seq ORDER BY p.part) AS t
) FROM k
CROSS JOIN conversation AS c ON c.conversation_key = k.conversation_key
CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
WHERE e.payload <> x'' AND e.seq > c.floor_seq AND NOT EXISTS (
    SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
"""
SELECT_BEHIND = """
WITH k (user_id) AS (VALUES {keys})
SELECT m.conversation_key, m.user_id, max(u.read_seq, c.floor_seq), c.head_seq, ifnull(x.until_ms, 0) > ? FROM k
CROSS JOIN conversation_member AS m ON m.user_id = k.user_id AND m.leave_seq IS NULL
CROSS JOIN conversation AS c ON c.conversation_key = m.conversation_key
CROSS JOIN member_cursor AS u ON u.conversation_key = m.conversation_key AND u.user_id = m.user_id
LEFT JOIN mute AS x ON x.conversation_key = m.conversation_key AND x.user_id = m.user_id
WHERE u.read_seq < c.head_seq AND (ifnull(x.until_ms, 0) <= ? OR x.but_mentions)
"""
FINISH_CONVERSATION = """
UPDATE outbox SET handled_seq = max(handled_seq, ?1), attempt = 0, ready_ms = (
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = outbox.conversation_key AND e.seq = ?1 + 1)
WHERE conversation_key = ?2 AND ticket = ?3 AND ready_ms IS NOT NULL
"""
PUT_LATER = """
INSERT INTO delivery (conversation_key, user_id, device_id, after_seq, ready_ms, attempt, ticket, since_ms, reason)
VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT (conversation_key, user_id, device_id) DO UPDATE SET
    after_seq = excluded.after_seq, ready_ms = excluded.ready_ms, attempt = excluded.attempt, ticket = 0,
    since_ms = excluded.since_ms, reason = excluded.reason
"""
FINISH_DEVICE = (
    "DELETE FROM delivery WHERE conversation_key = ? AND user_id = ? AND device_id = ? AND ticket = ?"
)
KEEP_DEVICE = """
UPDATE delivery SET after_seq = ?1, attempt = 0, ticket = 0, since_ms = ?2, ready_ms = ?3 + (
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = delivery.conversation_key AND e.seq = ?1 + 1)
WHERE conversation_key = ?4 AND user_id = ?5 AND device_id = ?6 AND ticket = ?7 AND EXISTS (
    SELECT 1 FROM message AS e WHERE e.conversation_key = delivery.conversation_key AND e.seq = ?1 + 1)
"""
"""What came meanwhile was left to this row by whoever looked at all members."""

SELECT_LAG = """
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE ready_ms IS NOT NULL LIMIT ?1))
        + (SELECT count(*) FROM (SELECT 1 FROM delivery WHERE ready_ms IS NOT NULL LIMIT ?1)),
    (SELECT min(ready_ms) FROM outbox WHERE ready_ms IS NOT NULL),
    (SELECT min(ready_ms) FROM delivery WHERE ready_ms IS NOT NULL),
    (SELECT count(*) FROM (SELECT 1 FROM delivery WHERE ready_ms IS NULL LIMIT ?1))
"""
SELECT_DEAD_LETTERS = """
SELECT c.conversation_id, v.user_id, v.device_id, v.after_seq, v.attempt, v.since_ms, v.reason FROM delivery AS v
JOIN conversation AS c ON c.conversation_key = v.conversation_key
WHERE v.ready_ms IS NULL ORDER BY v.since_ms LIMIT ?
"""
DISCARD_DEAD_LETTERS = "DELETE FROM delivery WHERE ready_ms IS NULL AND since_ms < ?"
NOTE_PUSH = """
INSERT INTO push_record (
    conversation_key, user_id, device_id, seq, provider, at_ms, answer, provider_id, reason, tries, first_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (conversation_key, user_id, device_id, seq) DO UPDATE SET
    provider = excluded.provider, at_ms = excluded.at_ms, answer = excluded.answer,
    provider_id = excluded.provider_id, reason = excluded.reason, tries = push_record.tries + excluded.tries
"""
KEEP_NEWEST_PUSHES = """
DELETE FROM push_record WHERE conversation_key = ?1 AND user_id = ?2 AND device_id = ?3 AND seq <= (
    SELECT s.seq FROM push_record AS s WHERE s.conversation_key = ?1 AND s.user_id = ?2 AND s.device_id = ?3
    ORDER BY s.seq DESC LIMIT 1 OFFSET ?4)
"""
DISCARD_PUSHES = """
DELETE FROM push_record WHERE (conversation_key, user_id, device_id, seq) IN (
    SELECT conversation_key, user_id, device_id, seq FROM push_record WHERE at_ms < ? ORDER BY at_ms LIMIT 1000)
"""
"""Some at a time: other commits wait for this one."""


def is_due(connection: Connection, terms: ClaimTerms) -> bool:
    """Whether there is anything to claim: asked first, for a write transaction costs a write to the disk."""
    ((found,),) = connection.execute(SELECT_IS_DUE, (terms.ready_before_ms, terms.now_ms))
    return bool(found)


def claim(
    connection: Connection, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None
) -> list[Claim]:
    """Take what is due."""
    claims = _due(connection, terms, limit, conversation_ids)
    for it in claims:
        place = (it.conversation_key, it.user_id, it.device_id)
        if it.user_id:
            connection.execute(TAKE_DEVICE, (terms.now_ms + terms.lease_ms, terms.ticket, *place))
        else:
            connection.execute(TAKE_CONVERSATION, (terms.now_ms + terms.lease_ms, terms.ticket, place[0]))
    return claims


def _due(
    connection: Connection, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None
) -> list[Claim]:
    before_ms = terms.ready_before_ms
    if conversation_ids is not None:
        names = [(it,) for it in conversation_ids]
        rows = select(connection, SELECT_NAMED, names, before_ms, before_ms)
        return [replace(Claim(*row), after_ms=terms.after_ms) for row in rows]
    oldest = connection.execute(SELECT_OLDEST, (before_ms, before_ms, limit))
    newest = connection.execute(SELECT_NEWEST, (before_ms, before_ms, limit - limit // 2))
    found = {row[0]: replace(Claim(*row), after_ms=terms.after_ms) for row in (*newest, *oldest)}
    devices = connection.execute(SELECT_DUE_DEVICES, (before_ms, terms.now_ms, limit))
    return [*[*found.values()][:limit], *(replace(Claim(*row), after_ms=terms.after_ms) for row in devices)]


def targets(connection: Connection, claims: Sequence[Claim], now_ms: int) -> list[PushTarget]:
    """Whom to push to."""
    whole = [(it.conversation_key,) for it in claims if not it.user_id]
    devices = [(it.conversation_key, it.user_id, it.device_id) for it in claims if it.user_id]
    rows = sorted(
        [
            *select(connection, SELECT_TARGETS, whole, now_ms, now_ms),
            *select(connection, SELECT_TARGETS_OF_DEVICES, devices, now_ms, now_ms),
        ]
    )
    exact: dict[tuple[int, str, str], list[int]] = {}
    for *place, seq in select(connection, SELECT_EXACT, [row[:3] for row in rows if row[-1]]):
        exact.setdefault((place[0], place[1], place[2]), []).append(seq)
    mentioned: dict[tuple[int, str], list[int]] = {}
    users = {(row[0], row[1], row[8], name) for row in rows for name in (row[1], EVERYBODY)}
    for key, user_id, seq in select(connection, SELECT_MENTIONED, users, MENTIONED_MAX):
        mentioned.setdefault((key, user_id), []).append(seq)
    return [_target(row, exact.get(row[:3], []), mentioned.get(row[:2], [])) for row in rows]


def _target(row: Row, exact: list[int], mentioned: list[int]) -> PushTarget:
    key, user_id, device_id, provider, token, hide_body, at_ms, join_seq, read_seq, delivered_seq, only, _ = (
        row
    )
    return PushTarget(
        key,
        user_id,
        device_id,
        provider,
        token,
        bool(hide_body),
        at_ms,
        join_seq,
        read_seq,
        delivered_seq,
        tuple(sorted(exact)),
        bool(only),
        tuple(sorted(mentioned)),
    )


def waiting(connection: Connection, conversation_ids: Sequence[str]) -> set[str]:
    """Those of which the workers have more to do."""
    return {name for (name,) in select(connection, SELECT_WAITING, {(it,) for it in conversation_ids})}


def newest(connection: Connection, claims: Sequence[Claim], count: int) -> list[EntryMark]:
    """The newest messages and recalls of conversations, without their words."""
    heads = {it.conversation_key: it.head_seq for it in claims}
    return [
        _mark(row)
        for place in sorted(heads.items())
        for row in reversed(connection.execute(SELECT_NEWEST_MARKS, (*place, count, MARKED_ENTRIES_MAX)))
    ]


def marks(connection: Connection, places: Collection[tuple[int, int]]) -> list[EntryMark]:
    """Entries, without their words."""
    return [_mark(row) for row in select(connection, SELECT_MARKS, places)]


def _mark(row: Row) -> EntryMark:
    key, seq, epoch, kind, sender_id, server_ts, is_recalled, recalls_seq = row
    return EntryMark(key, seq, epoch, kind, sender_id, server_ts, bool(is_recalled), recalls_seq)


def payloads(connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The payloads of entries that were not recalled, as they read now."""
    rows = select(connection, SELECT_PAYLOADS, {*places})
    return {(key, seq): reading(payload, edit, streamed) for key, seq, payload, edit, streamed in rows}


def unread(
    connection: Connection, counts: UnreadCounts, user_ids: Sequence[str], now_ms: int
) -> dict[str, int]:
    """How many unread messages each user has."""
    found: dict[str, int] = {}
    rows = select(connection, SELECT_BEHIND, {(it,) for it in user_ids}, now_ms, now_ms)
    places: list[Place] = [row[:4] for row in rows]
    for row, (count, mentions) in zip(rows, unread_at(connection, counts, places), strict=True):
        user_id, only_mentions = row[1], row[4]
        found[user_id] = found.get(user_id, 0) + (mentions if only_mentions else count)
    return found


def finish(connection: Connection, ticket: int, finished: Sequence[Finished]) -> int:
    """Be done with claims; returns how many were this worker's."""
    return sum(_finish(connection, ticket, it) for it in finished)


def _finish(connection: Connection, ticket: int, done: Finished) -> bool:
    it = done.claim
    is_waiting = False
    if it.user_id:
        place = (it.conversation_key, it.user_id, it.device_id)
        kept = (it.head_seq, done.at_ms, it.after_ms, *place, ticket)
        is_waiting = connection.change(KEEP_DEVICE, kept) > 0
        is_ours = is_waiting or connection.change(FINISH_DEVICE, (*place, ticket)) > 0
    else:
        is_ours = connection.change(FINISH_CONVERSATION, (it.head_seq, it.conversation_key, ticket)) > 0
    if is_ours and done.later:
        connection.executemany(PUT_LATER, later_rows(done, is_waiting=is_waiting))
    _note_pushes(connection, done)
    return is_ours


def _note_pushes(connection: Connection, done: Finished) -> None:
    rows = push_rows(done)
    if rows:
        connection.executemany(NOTE_PUSH, rows)
        places = {row[:3] for row in rows}
        connection.executemany(KEEP_NEWEST_PUSHES, [(*place, PUSHES_PER_DEVICE_MAX) for place in places])


def lag(connection: Connection) -> DeliveryLag:
    """How far the workers are behind."""
    ((waiting, *oldest, dead),) = connection.execute(SELECT_LAG, (LAG_MAX,))
    return DeliveryLag(waiting, min((it for it in oldest if it is not None), default=None), dead)


def dead_letters(connection: Connection, limit: int) -> list[DeadLetter]:
    """Those given up, the oldest first."""
    return [DeadLetter(*row) for row in connection.execute(SELECT_DEAD_LETTERS, (limit,))]


def discard_dead_letters(connection: Connection, before_ms: int) -> int:
    """Forget those that began to fail before then."""
    return connection.change(DISCARD_DEAD_LETTERS, (before_ms,))


def discard_pushes(connection: Connection, before_ms: int) -> int:
    """Forget some of those that were last answered before then."""
    return connection.change(DISCARD_PUSHES, (before_ms,))
