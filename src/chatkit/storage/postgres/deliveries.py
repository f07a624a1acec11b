"""The outbox as delivery workers see it, on PostgreSQL: claims, whom to push to, and what is finished.

Workers pass over rows that another one is claiming just then (SKIP LOCKED), so that any number of them draw from one
outbox. `finish` locks the conversations first, as every commit does: an entry that is stored at the same moment is
either seen here, or finds the row idle and wakes it. One that somebody else holds, a host's open transaction perhaps,
is waited for by itself.
"""

# ruff: noqa: S608 -- joined from constants of this module only

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any, Final

from msgspec.structs import replace

from ...core.log.marks import reading
from ...drivers.postgres import READ, ConflictError, Connection, Database, Row
from ...errors import UnavailableError
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
from ..pushes import PushRow, push_rows
from ..unread import Place, UnreadCounts
from .columns import columns
from .reads import unread_at

_logger = logging.getLogger(__name__)

_CLAIMED = """
RETURNING c.conversation_key, c.conversation_id, c.type, c.title, c.member_count,
    greatest(o.handled_seq, o.first_seq - 1), coalesce((
        SELECT e.seq FROM message AS e WHERE e.conversation_key = c.conversation_key AND e.seq <= c.head_seq
            AND e.server_ts <= $3 ORDER BY e.seq DESC LIMIT 1), c.head_seq), o.attempt
"""
_TAKE = """
UPDATE outbox AS o SET ready_ms = $1, ticket = $2, attempt = o.attempt + 1
"""
_DUE = (
    """
WITH due AS (
    SELECT conversation_key FROM outbox WHERE ready_ms <= $3
    ORDER BY ready_ms {order}, conversation_key {order} LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
)
"""
    + _TAKE
    + """
FROM due AS k JOIN conversation AS c ON c.conversation_key = k.conversation_key
WHERE o.conversation_key = k.conversation_key
"""
    + _CLAIMED
)
TAKE_OLDEST: Final = _DUE.format(order="ASC")
TAKE_NEWEST: Final = _DUE.format(order="DESC")
TAKE_NAMED: Final = (
    """
WITH due AS (
    SELECT o.conversation_key FROM conversation_name AS n
    JOIN outbox AS o ON o.conversation_key = n.conversation_key
    WHERE n.conversation_id = ANY ($4::text[]) AND o.ready_ms <= $3 FOR NO KEY UPDATE OF o SKIP LOCKED
)
"""
    + _TAKE
    + """
FROM due AS k JOIN conversation AS c ON c.conversation_key = k.conversation_key
WHERE o.conversation_key = k.conversation_key
"""
    + _CLAIMED
)
TAKE_DEVICES: Final = """
WITH due AS (
    SELECT conversation_key, user_id, device_id FROM delivery WHERE ready_ms <= $3
    ORDER BY ready_ms, conversation_key LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE delivery AS v SET ready_ms = $1, ticket = $2, attempt = v.attempt + 1
FROM due AS k JOIN conversation AS c ON c.conversation_key = k.conversation_key
WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id AND v.device_id = k.device_id
RETURNING c.conversation_key, c.conversation_id, c.type, c.title, c.member_count, v.after_seq, coalesce((
        SELECT e.seq FROM message AS e WHERE e.conversation_key = c.conversation_key AND e.seq <= c.head_seq
            AND e.server_ts <= $5 ORDER BY e.seq DESC LIMIT 1), c.head_seq),
    v.attempt, v.user_id, v.device_id, v.since_ms
"""
SELECT_IS_DUE: Final = """
SELECT EXISTS (SELECT FROM outbox WHERE ready_ms <= $1) OR EXISTS (SELECT FROM delivery WHERE ready_ms <= $2)
"""
_TARGET = """
SELECT u.conversation_key, u.user_id, p.device_id, p.provider, p.token, p.hide_body, p.at_ms, m.join_seq, u.read_seq,
    coalesce(d.delivered_seq, u.device_seq), coalesce(x.until_ms, 0) > $1, coalesce(d.exact_count, 0)
FROM {keys}
CROSS JOIN LATERAL (
    SELECT * FROM conversation AS f WHERE f.conversation_key = k.conversation_key OFFSET 0
) AS c
CROSS JOIN LATERAL (
    SELECT * FROM member_cursor AS f
    WHERE f.conversation_key = k.conversation_key {of_user} AND f.is_member AND f.read_seq < c.head_seq OFFSET 0
) AS u
CROSS JOIN LATERAL (SELECT * FROM push_token AS f WHERE f.user_id = u.user_id {of_device} OFFSET 0) AS p
CROSS JOIN LATERAL (
    SELECT * FROM conversation_member AS f
    WHERE f.conversation_key = u.conversation_key AND f.user_id = u.user_id AND f.leave_seq IS NULL OFFSET 0
) AS m
LEFT JOIN LATERAL (
    SELECT * FROM device_cursor AS f
    WHERE f.conversation_key = u.conversation_key AND f.user_id = u.user_id AND f.device_id = p.device_id OFFSET 0
) AS d ON true
LEFT JOIN LATERAL (
    SELECT * FROM mute AS f WHERE f.conversation_key = u.conversation_key AND f.user_id = u.user_id OFFSET 0
) AS x ON true
WHERE coalesce(d.delivered_seq, u.device_seq) < c.head_seq AND (coalesce(x.until_ms, 0) <= $1 OR x.but_mentions) {more}
ORDER BY u.conversation_key, u.user_id, p.device_id
"""
SELECT_TARGETS: Final = _TARGET.format(
    keys="unnest($2::bigint[]) AS k (conversation_key)",
    of_user="",
    of_device="",
    more="""AND NOT EXISTS (
        SELECT FROM delivery AS v WHERE v.conversation_key = u.conversation_key AND v.user_id = u.user_id
            AND v.device_id = p.device_id AND v.ready_ms IS NOT NULL OFFSET 0)""",
)
SELECT_TARGETS_OF_DEVICES: Final = _TARGET.format(
    keys="unnest($2::bigint[], $3::text[], $4::text[]) AS k (conversation_key, user_id, device_id)",
    of_user="AND f.user_id = k.user_id",
    of_device="AND f.device_id = k.device_id",
    more="",
)
SELECT_EXACT: Final = """
SELECT x.conversation_key, x.user_id, x.device_id, x.seq
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS k (conversation_key, user_id, device_id)
JOIN device_exact AS x ON x.conversation_key = k.conversation_key AND x.user_id = k.user_id
    AND x.device_id = k.device_id
ORDER BY x.seq
"""
SELECT_MENTIONED: Final = """
SELECT k.conversation_key, k.user_id, t.seq
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) AS k (conversation_key, user_id, read_seq, name)
CROSS JOIN LATERAL (
    SELECT f.seq FROM mention AS f
    WHERE f.conversation_key = k.conversation_key AND f.user_id = k.name AND f.seq > k.read_seq
    ORDER BY f.seq DESC LIMIT $5
) AS t
ORDER BY t.seq
"""
_MARK = """
SELECT e.conversation_key, e.seq, e.epoch, e.kind, e.sender_id, e.server_ts, r.seq IS NOT NULL, CASE
    WHEN e.kind = 'RECALL' THEN (convert_from(e.payload, 'UTF8')::jsonb ->> 'seq')::bigint END
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
CROSS JOIN LATERAL (SELECT * FROM message AS f WHERE f.conversation_key = k.conversation_key AND {wanted}) AS e
LEFT JOIN LATERAL (
    SELECT f.seq FROM recall AS f WHERE f.conversation_key = e.conversation_key AND f.seq = e.seq OFFSET 0
) AS r ON true
ORDER BY e.conversation_key, e.seq
"""
SELECT_NEWEST_MARKS: Final = _MARK.format(
    wanted="f.seq > k.seq - $4::bigint AND f.seq <= k.seq AND f.kind IN ('USER', 'RECALL') "
    "ORDER BY f.seq DESC LIMIT $3"
)
SELECT_MARKS: Final = _MARK.format(wanted="f.seq = k.seq OFFSET 0")
SELECT_WAITING: Final = """
SELECT k.name FROM unnest($1::text[]) AS k (name)
CROSS JOIN LATERAL (SELECT * FROM conversation_name AS f WHERE f.conversation_id = k.name OFFSET 0) AS n
CROSS JOIN LATERAL (
    SELECT FROM outbox AS f WHERE f.conversation_key = n.conversation_key AND f.ready_ms IS NOT NULL OFFSET 0
) AS o
"""
SELECT_PAYLOADS: Final = """
SELECT e.conversation_key, e.seq, e.payload, (
    SELECT p.payload FROM edit AS d
    JOIN message AS p ON p.conversation_key = d.conversation_key AND p.seq = d.edited_by_seq
    WHERE d.conversation_key = e.conversation_key AND d.seq = e.seq ORDER BY d.edited_by_seq DESC LIMIT 1
), (
    SELECT string_agg(p.text, '' ORDER BY p.part) FROM stream_part AS p
    WHERE p.conversation_key = e.conversation_key AND p.seq = e.seq
) FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN conversation AS c ON c.conversation_key = k.conversation_key
JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
WHERE e.payload <> '' AND e.seq > c.floor_seq AND NOT EXISTS (
    SELECT FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
"""
SELECT_BEHIND: Final = """
SELECT m.conversation_key, m.user_id, greatest(u.read_seq, c.floor_seq), c.head_seq, coalesce(x.until_ms, 0) > $2
FROM unnest($1::text[]) AS k (user_id)
CROSS JOIN LATERAL (
    SELECT * FROM conversation_member AS f WHERE f.user_id = k.user_id AND f.leave_seq IS NULL OFFSET 0
) AS m
CROSS JOIN LATERAL (
    SELECT * FROM member_cursor AS f
    WHERE f.conversation_key = m.conversation_key AND f.user_id = m.user_id OFFSET 0
) AS u
CROSS JOIN LATERAL (
    SELECT * FROM conversation AS f WHERE f.conversation_key = m.conversation_key OFFSET 0
) AS c
LEFT JOIN LATERAL (
    SELECT * FROM mute AS f WHERE f.conversation_key = m.conversation_key AND f.user_id = m.user_id OFFSET 0
) AS x ON true
WHERE u.read_seq < c.head_seq AND (coalesce(x.until_ms, 0) <= $2 OR x.but_mentions)
"""
_LOCK = """
SELECT conversation_key FROM conversation WHERE conversation_key = ANY ($1::bigint[]) ORDER BY conversation_key
FOR NO KEY UPDATE
"""
LOCK_CONVERSATIONS: Final = _LOCK
SKIP_LOCKED: Final = _LOCK + " SKIP LOCKED"
FINISH_CONVERSATIONS: Final = """
UPDATE outbox AS o SET handled_seq = greatest(o.handled_seq, k.up_to_seq), attempt = 0, ready_ms = (
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = k.conversation_key AND e.seq = k.up_to_seq + 1)
FROM unnest($2::bigint[], $3::bigint[]) AS k (conversation_key, up_to_seq)
WHERE o.conversation_key = k.conversation_key AND o.ticket = $1 AND o.ready_ms IS NOT NULL
RETURNING o.conversation_key, '', ''
"""
KEEP_DEVICES: Final = """
UPDATE delivery AS v SET after_seq = k.up_to_seq, attempt = 0, ticket = 0, since_ms = k.at_ms,
    ready_ms = e.server_ts + k.after_ms
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS k (conversation_key, user_id, device_id, up_to_seq, at_ms, after_ms)
CROSS JOIN LATERAL (
    SELECT * FROM message AS f WHERE f.conversation_key = k.conversation_key AND f.seq = k.up_to_seq + 1 OFFSET 0
) AS e
WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id AND v.device_id = k.device_id AND v.ticket = $1
RETURNING v.conversation_key, v.user_id, v.device_id
"""
"""What came meanwhile was left to these rows by whoever looked at all members."""

FINISH_DEVICES: Final = """
DELETE FROM delivery AS v USING unnest($2::bigint[], $3::text[], $4::text[]) AS k (conversation_key, user_id, device_id)
WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id AND v.device_id = k.device_id AND v.ticket = $1
RETURNING v.conversation_key, v.user_id, v.device_id
"""
PUT_LATER: Final = """
INSERT INTO delivery AS v (
    conversation_key, user_id, device_id, after_seq, ready_ms, attempt, since_ms, reason, ticket)
SELECT *, 0 FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[])
ON CONFLICT (conversation_key, user_id, device_id) DO UPDATE SET
    after_seq = excluded.after_seq, ready_ms = excluded.ready_ms, attempt = excluded.attempt, ticket = 0,
    since_ms = excluded.since_ms, reason = excluded.reason
"""
SELECT_LAG: Final = """
SELECT
    (SELECT count(*) FROM (SELECT FROM outbox WHERE ready_ms IS NOT NULL LIMIT $1) AS o)
        + (SELECT count(*) FROM (SELECT FROM delivery WHERE ready_ms IS NOT NULL LIMIT $1) AS v),
    least((SELECT min(ready_ms) FROM outbox WHERE ready_ms IS NOT NULL),
        (SELECT min(ready_ms) FROM delivery WHERE ready_ms IS NOT NULL)),
    (SELECT count(*) FROM (SELECT FROM delivery WHERE ready_ms IS NULL LIMIT $1) AS v)
"""
SELECT_DEAD_LETTERS: Final = """
SELECT c.conversation_id, v.user_id, v.device_id, v.after_seq, v.attempt, v.since_ms, v.reason
FROM (SELECT * FROM delivery WHERE ready_ms IS NULL ORDER BY since_ms LIMIT $1) AS v
CROSS JOIN LATERAL (
    SELECT * FROM conversation AS f WHERE f.conversation_key = v.conversation_key OFFSET 0
) AS c
ORDER BY v.since_ms
"""
DISCARD_DEAD_LETTERS: Final = """
WITH old AS (
    SELECT conversation_key, user_id, device_id FROM delivery WHERE ready_ms IS NULL AND since_ms < $1
    ORDER BY since_ms LIMIT 1000
), gone AS (
    DELETE FROM delivery AS v USING old AS k
    WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id AND v.device_id = k.device_id
        AND v.ready_ms IS NULL
    RETURNING 1
)
SELECT count(*) FROM gone
"""
"""Some at a time: a table that was left alone for long would take a statement longer than it may."""

NOTE_PUSHES: Final = """
INSERT INTO push_record AS s (
    conversation_key, user_id, device_id, seq, provider, at_ms, answer, provider_id, reason, tries, first_ms)
SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[],
    $10::bigint[], $11::bigint[])
ON CONFLICT (conversation_key, user_id, device_id, seq) DO UPDATE SET
    provider = excluded.provider, at_ms = excluded.at_ms, answer = excluded.answer,
    provider_id = excluded.provider_id, reason = excluded.reason, tries = s.tries + excluded.tries
"""
KEEP_NEWEST_PUSHES: Final = """
DELETE FROM push_record AS s
USING unnest($1::bigint[], $2::text[], $3::text[]) AS k (conversation_key, user_id, device_id)
CROSS JOIN LATERAL (
    SELECT f.seq FROM push_record AS f
    WHERE f.conversation_key = k.conversation_key AND f.user_id = k.user_id AND f.device_id = k.device_id
    ORDER BY f.seq DESC LIMIT 1 OFFSET $4
) AS t
WHERE s.conversation_key = k.conversation_key AND s.user_id = k.user_id AND s.device_id = k.device_id
    AND s.seq <= t.seq
"""
DISCARD_PUSHES: Final = """
WITH old AS (
    SELECT conversation_key, user_id, device_id, seq FROM push_record WHERE at_ms < $1
    ORDER BY at_ms LIMIT 1000 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM push_record AS s USING old AS k
    WHERE s.conversation_key = k.conversation_key AND s.user_id = k.user_id AND s.device_id = k.device_id
        AND s.seq = k.seq
    RETURNING 1
)
SELECT count(*) FROM gone
"""


class PostgresDeliveries:
    """`storage.base.DeliveryStore` on a database.

    Args:
        database: Where transactions that write run.
        reading: Where reads run.
        counts: The counts of unread messages of the store.
    """

    def __init__(self, database: Database, reading: Database, counts: UnreadCounts) -> None:
        self._counts = counts
        self._database = database
        self._reading = reading

    async def claim(
        self, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None = None
    ) -> list[Claim]:
        """Take what is due. Where nothing is, nothing is written."""
        async with self._reading.transaction(READ) as connection:
            ((is_due,),) = await connection.fetch(SELECT_IS_DUE, terms.ready_before_ms, terms.now_ms)
        if not is_due:
            return []
        async with self._database.transaction() as connection:
            return await _claim(connection, terms, limit, conversation_ids)

    async def targets(self, claims: Sequence[Claim], now_ms: int) -> list[PushTarget]:
        """Whom to push to."""
        async with self._reading.transaction(READ) as connection:
            return await _targets(connection, claims, now_ms)

    async def waiting(self, conversation_ids: Sequence[str]) -> set[str]:
        """Those of which the workers have more to do."""
        async with self._reading.transaction(READ) as connection:
            return {row[0] for row in await connection.fetch(SELECT_WAITING, [*conversation_ids])}

    async def newest(self, claims: Sequence[Claim], count: int) -> list[EntryMark]:
        """The newest messages and recalls of conversations, without their words."""
        heads = {it.conversation_key: it.head_seq for it in claims}
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(
                SELECT_NEWEST_MARKS, [*heads], [*heads.values()], count, MARKED_ENTRIES_MAX
            )
        return [EntryMark(*row) for row in rows]

    async def marks(self, places: Collection[tuple[int, int]]) -> list[EntryMark]:
        """Entries, without their words."""
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(SELECT_MARKS, *columns({*places}, 2))
        return [EntryMark(*row) for row in rows]

    async def payloads(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The payloads of entries that were not recalled and have not expired."""
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(SELECT_PAYLOADS, *columns({*places}, 2))
        return {(key, seq): reading(payload, edit, streamed) for key, seq, payload, edit, streamed in rows}

    async def unread(self, user_ids: Sequence[str], now_ms: int) -> dict[str, int]:
        """How many unread messages each user has."""
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(SELECT_BEHIND, [*{*user_ids}], now_ms)
            places: list[Place] = [(row[0], row[1], row[2], row[3]) for row in rows]
            counted = await unread_at(connection, self._counts, places)
        found: dict[str, int] = {}
        for row, (count, mentions) in zip(rows, counted, strict=True):
            user_id, only_mentions = row[1], row[4]
            found[user_id] = found.get(user_id, 0) + (mentions if only_mentions else count)
        return found

    async def finish(self, ticket: int, finished: Sequence[Finished]) -> int:
        """Be done with claims."""
        count, held = await self._finish(ticket, finished, SKIP_LOCKED) if finished else (0, [])
        for it in held:
            try:
                count += (await self._finish(ticket, [it], LOCK_CONVERSATIONS))[0]
            except (ConflictError, UnavailableError) as error:
                name = it.claim.conversation_id
                _logger.warning("a delivery of %s cannot be finished, and comes again: %s", name, error)
        return count

    async def _finish(
        self, ticket: int, finished: Sequence[Finished], lock: str
    ) -> tuple[int, list[Finished]]:
        async with self._database.transaction() as connection:
            return await _finish(connection, ticket, finished, lock)

    async def lag(self) -> DeliveryLag:
        """How far the workers are behind."""
        async with self._reading.transaction(READ) as connection:
            (row,) = await connection.fetch(SELECT_LAG, LAG_MAX)
        return DeliveryLag(*row)

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Those given up, the oldest first."""
        async with self._reading.transaction(READ) as connection:
            return [DeadLetter(*row) for row in await connection.fetch(SELECT_DEAD_LETTERS, limit)]

    async def discard_dead_letters(self, before_ms: int) -> int:
        """Forget those that began to fail before then."""
        async with self._database.transaction() as connection:
            ((count,),) = await connection.fetch(DISCARD_DEAD_LETTERS, before_ms)
        return int(count)

    async def discard_pushes(self, before_ms: int) -> int:
        """Forget some of those that were last answered before then."""
        async with self._database.transaction() as connection:
            ((count,),) = await connection.fetch(DISCARD_PUSHES, before_ms)
        return int(count)


async def _claim(
    connection: Connection, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None
) -> list[Claim]:
    until_ms = terms.now_ms + terms.lease_ms
    place = (until_ms, terms.ticket, terms.ready_before_ms)
    if conversation_ids is not None:
        named = await connection.fetch(TAKE_NAMED, *place, [*conversation_ids])
        return [replace(Claim(*row), after_ms=terms.after_ms) for row in named]
    rows = [*await connection.fetch(TAKE_OLDEST, *place, limit // 2)] if limit > 1 else []
    rows += await connection.fetch(TAKE_NEWEST, *place, limit - len(rows))
    rows += await connection.fetch(
        TAKE_DEVICES,
        until_ms,
        terms.ticket,
        terms.now_ms,
        limit,
        terms.ready_before_ms,
    )
    return [replace(Claim(*row), after_ms=terms.after_ms) for row in rows]


async def _targets(connection: Connection, claims: Sequence[Claim], now_ms: int) -> list[PushTarget]:
    whole = [it.conversation_key for it in claims if not it.user_id]
    devices = [(it.conversation_key, it.user_id, it.device_id) for it in claims if it.user_id]
    rows = [*await connection.fetch(SELECT_TARGETS, now_ms, whole)] if whole else []
    if devices:
        rows += await connection.fetch(SELECT_TARGETS_OF_DEVICES, now_ms, *columns(devices, 3))
        rows.sort(key=lambda row: (row[0], row[1], row[2]))
    exact: dict[tuple[int, str, str], list[int]] = {}
    singly = [tuple(row)[:3] for row in rows if row[11]]
    for key, user_id, device_id, seq in (
        await connection.fetch(SELECT_EXACT, *columns(singly, 3)) if singly else ()
    ):
        exact.setdefault((key, user_id, device_id), []).append(seq)
    mentioned: dict[tuple[int, str], list[int]] = {}
    users = {(row[0], row[1], row[8], name) for row in rows for name in (row[1], EVERYBODY)}
    for key, user_id, seq in (
        await connection.fetch(SELECT_MENTIONED, *columns(users, 4), MENTIONED_MAX) if users else ()
    ):
        mentioned.setdefault((key, user_id), []).append(seq)
    return [
        _target(row, exact.get((row[0], row[1], row[2]), []), mentioned.get((row[0], row[1]), []))
        for row in rows
    ]


def _target(row: Row, exact: list[int], mentioned: list[int]) -> PushTarget:
    values: list[Any] = [*row]
    only_mentions, _ = values[-2:]
    values[-2:] = [tuple(exact), only_mentions, tuple(mentioned)]
    return PushTarget(*values)


async def _finish(
    connection: Connection, ticket: int, finished: Sequence[Finished], lock: str
) -> tuple[int, list[Finished]]:
    """Returns how many were this worker's, and those whose conversation somebody else holds."""
    keys = [it.claim.conversation_key for it in finished]
    locked = {row[0] for row in await connection.fetch(lock, keys)}
    held = [it for it in finished if it.claim.conversation_key not in locked]
    finished = [it for it in finished if it.claim.conversation_key in locked]
    whole = [(it.claim.conversation_key, it.claim.head_seq) for it in finished if not it.claim.user_id]
    devices = [
        (
            it.claim.conversation_key,
            it.claim.user_id,
            it.claim.device_id,
            it.claim.head_seq,
            it.at_ms,
            it.claim.after_ms,
        )
        for it in finished
        if it.claim.user_id
    ]
    ours: set[tuple[Any, ...]] = set()
    waiting: set[tuple[Any, ...]] = set()
    if whole:
        ours.update(map(tuple, await connection.fetch(FINISH_CONVERSATIONS, ticket, *columns(whole, 2))))
    if devices:
        waiting.update(map(tuple, await connection.fetch(KEEP_DEVICES, ticket, *columns(devices, 6))))
        ours.update(waiting)
        rest = [it[:3] for it in devices if it[:3] not in ours]
        ours.update(map(tuple, await connection.fetch(FINISH_DEVICES, ticket, *columns(rest, 3))))
    later = {  # the last of a device counts, as if each were written by itself
        row[:3]: row
        for it in finished
        if (place := (it.claim.conversation_key, it.claim.user_id, it.claim.device_id)) in ours
        for row in later_rows(it, is_waiting=place in waiting)
    }
    if later:
        await connection.fetch(PUT_LATER, *columns(later.values(), 8))
    await _note_pushes(connection, finished)
    return len(ours), held


async def _note_pushes(connection: Connection, finished: Sequence[Finished]) -> None:
    """Note what was sent, in the order of the rows' keys: two workers may note the same ones."""
    rows: dict[tuple[Any, ...], PushRow] = {}
    for row in sorted(row for it in finished for row in push_rows(it)):
        known = rows.get(row[:4])
        rows[row[:4]] = row if known is None else row._replace(tries=known.tries + 1, first_ms=known.first_ms)
    if rows:
        await connection.fetch(NOTE_PUSHES, *columns(rows.values(), 11))
        places = {row[:3]: None for row in rows.values()}
        await connection.fetch(KEEP_NEWEST_PUSHES, *columns(places, 3), PUSHES_PER_DEVICE_MAX)
