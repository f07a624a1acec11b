"""Uploaded files on PostgreSQL: loaded and written with a batch, and read. Nothing is decided here.

Called by `batch` where anything of them is named or changed, after the conversations were locked; then come, in this
order, the users who upload, and the rows of files by id. So a send and the collector never decide about one file at the
same time, and no two transactions wait for each other. And by `store`, for reads.
"""

from __future__ import annotations

from collections.abc import Set

from ...core.log.blob_rows import DROPPED_KEEP_MS, BlobChanges, BlobRow, DueBlob
from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.state import State
from ...drivers.postgres import Connection
from .columns import columns

_COLUMNS = "b.blob_id, b.owner_id, b.upload_key, b.size, b.mime, b.state, b.at_ms, b.parts"
LOCK_OWNERS = """
SELECT pg_advisory_xact_lock(1667785078, number)
FROM (SELECT DISTINCT hashtext(name) & 255 AS number FROM unnest($1::text[]) AS name ORDER BY number) AS numbers
"""
LOCK_NAMED = "SELECT FROM blob WHERE blob_id = ANY ($1::text[]) ORDER BY blob_id FOR SHARE"
LOCK_CHANGED = "SELECT FROM blob WHERE blob_id = ANY ($1::text[]) ORDER BY blob_id FOR UPDATE"
LOCK_FREE = (
    "SELECT blob_id FROM blob WHERE blob_id = ANY ($1::text[]) ORDER BY blob_id FOR UPDATE SKIP LOCKED"
)
"""Locked by a statement of their own: what is asked after it sees what was committed before the lock was free. The
collector waits for nobody: a host may name a file in a transaction that it forgets to end."""

SELECT_BLOBS = f"SELECT {_COLUMNS} FROM blob AS b WHERE b.blob_id = ANY ($1::text[])"  # noqa: S608 -- names
SELECT_BY_KEY = f"""
SELECT {_COLUMNS} FROM unnest($1::text[], $2::text[]) AS k (owner_id, upload_key)
JOIN blob AS b ON b.owner_id = k.owner_id AND b.upload_key = k.upload_key
"""  # noqa: S608 -- names
SELECT_SEEN = """
SELECT k.blob_id, k.user_id FROM unnest($1::text[], $2::text[]) AS k (blob_id, user_id) WHERE EXISTS (
    SELECT FROM conversation_member AS n
    JOIN conversation AS c ON c.conversation_key = n.conversation_key
    JOIN blob_reference AS r ON r.blob_id = k.blob_id AND r.conversation_key = n.conversation_key
        AND r.seq > c.floor_seq
    JOIN conversation_member AS m ON m.conversation_key = n.conversation_key AND m.user_id = k.user_id
        AND r.seq >= coalesce(m.first_seq, m.join_seq) AND (m.leave_seq IS NULL OR r.seq < m.leave_seq)
    WHERE n.user_id = k.user_id AND n.leave_seq IS NULL
)
"""
SELECT_USAGE = """
SELECT k.owner_id, (
    SELECT coalesce(sum(greatest(b.size, 4096)), 0)::bigint FROM blob AS b
    WHERE b.owner_id = k.owner_id AND b.state <> 'GOING'
)
FROM unnest($1::text[]) AS k (owner_id)
"""
SELECT_KEPT = """
SELECT k.blob_id FROM unnest($1::text[]) AS k (blob_id)
WHERE EXISTS (SELECT FROM blob_reference AS r WHERE r.blob_id = k.blob_id)
"""
SELECT_HELD = """
SELECT k.blob_id FROM unnest($1::text[]) AS k (blob_id) WHERE EXISTS (
    SELECT FROM moderated AS t WHERE t.state <> 'REFUSED' AND position(convert_to(k.blob_id, 'UTF8') IN t.payload) > 0
)
"""
WRITE_BLOBS = """
INSERT INTO blob (blob_id, owner_id, upload_key, size, mime, state, at_ms, parts)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::bytea[])
ON CONFLICT (blob_id) DO UPDATE SET upload_key = excluded.upload_key, state = excluded.state, at_ms = excluded.at_ms,
    parts = excluded.parts
"""
DELETE_BLOBS = "DELETE FROM blob WHERE blob_id = ANY ($1::text[])"
INSERT_REFERENCES = """
INSERT INTO blob_reference (conversation_key, seq, blob_id)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])
"""
INSERT_DUE = """
INSERT INTO blob_due (due_ms, blob_id, keep_ms) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[])
"""
DELETE_DUE = "DELETE FROM blob_due WHERE due_id = ANY ($1::bigint[])"
DROP_RECALLED = f"""
WITH gone AS (
    DELETE FROM blob_reference AS r USING unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
    WHERE r.conversation_key = k.conversation_key AND r.seq = k.seq RETURNING r.blob_id
)
INSERT INTO blob_due (due_ms, blob_id, keep_ms) SELECT 0, blob_id, {DROPPED_KEEP_MS} FROM gone
"""  # noqa: S608 -- a number
DROP_EXPIRED = f"""
WITH gone AS (
    DELETE FROM blob_reference AS r USING unnest($1::bigint[], $2::bigint[]) AS k (floor_seq, conversation_key)
    WHERE r.conversation_key = k.conversation_key AND r.seq <= k.floor_seq RETURNING r.blob_id
)
INSERT INTO blob_due (due_ms, blob_id, keep_ms) SELECT 0, blob_id, {DROPPED_KEEP_MS} FROM gone
"""  # noqa: S608 -- a number
DROP_ERASED = """
INSERT INTO blob_due (due_ms, blob_id, keep_ms)
SELECT 0, blob_id, 0 FROM blob WHERE owner_id = ANY ($1::text[]) AND state <> 'GOING'
"""
SELECT_DUE = """
SELECT due_id, blob_id, keep_ms FROM blob_due WHERE due_ms <= $1 ORDER BY due_ms, due_id LIMIT $2::integer
"""


async def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name of it into the state, locked until the transaction ends."""
    wanted, blobs = keys.blobs, state.blobs
    named = {blob_id for blob_id, _ in wanted.named}
    changed = {*wanted.rows}
    if wanted.owners:
        await connection.fetch(LOCK_OWNERS, list(wanted.owners))
        changed.update(row[0] for row in await connection.fetch(SELECT_BY_KEY, *columns(wanted.uploads, 2)))
        blobs.usage.update(await connection.fetch(SELECT_USAGE, list(wanted.owners)))
    if changed:
        await connection.fetch(LOCK_CHANGED, list(changed))
    if named - changed:
        await connection.fetch(LOCK_NAMED, list(named - changed))
    if wanted.collected:
        await _load_collected(connection, wanted.collected, blobs)
    if every := [*changed, *named, *wanted.collected]:
        for row in await connection.fetch(SELECT_BLOBS, every):
            blobs.add(BlobRow(*row))
    if named:
        blobs.seen.update(map(tuple, await connection.fetch(SELECT_SEEN, *columns(wanted.named, 2))))


async def _load_collected(connection: Connection, wanted: Set[str], blobs: BlobChanges) -> None:
    """Lock what nobody uses just now, then look what is named; what somebody uses counts as held."""
    free = {blob_id for (blob_id,) in await connection.fetch(LOCK_FREE, list(wanted))}
    blobs.held.update(wanted - free)
    for sql, found in ((SELECT_KEPT, blobs.kept), (SELECT_HELD, blobs.held)):
        found.update(blob_id for (blob_id,) in await connection.fetch(sql, list(wanted)))


async def write(connection: Connection, changes: Changes) -> None:
    """Write what a batch changed of it; what it expired or erased names nothing any more."""
    blobs = changes.blobs
    if blobs is not None:
        kept = [row for row in blobs.changed.values() if row is not None]
        going = [blob_id for blob_id, row in blobs.changed.items() if row is None]
        if going:
            await connection.fetch(DELETE_BLOBS, going)
        if blobs.dropped_due:
            await connection.fetch(DELETE_DUE, [due_id for (due_id,) in blobs.dropped_due])
        for sql, rows, width in (
            (WRITE_BLOBS, kept, 8),
            (INSERT_REFERENCES, blobs.references, 3),
            (DROP_RECALLED, blobs.dropped, 2),
            (INSERT_DUE, blobs.due, 3),
        ):
            if rows:
                await connection.fetch(sql, *columns(rows, width))
    if changes.floors:
        await connection.fetch(DROP_EXPIRED, *columns(changes.floors, 2))
    if changes.ended_erasures:
        await connection.fetch(DROP_ERASED, [user_id for user_id, _ in changes.ended_erasures])


async def blob(connection: Connection, blob_id: str, user_id: str) -> BlobRow | None:
    """A file as a user sees it in a message."""
    if not await connection.fetch(SELECT_SEEN, [blob_id], [user_id]):
        return None
    return await upload(connection, blob_id)


async def upload(connection: Connection, blob_id: str) -> BlobRow | None:
    """A file, whoever asks."""
    rows = await connection.fetch(SELECT_BLOBS, [blob_id])
    return BlobRow(*rows[0]) if rows else None


async def due_blobs(connection: Connection, now_ms: int, limit: int) -> list[DueBlob]:
    """What the collector is to look at, what is due for longest first."""
    return [DueBlob(*row) for row in await connection.fetch(SELECT_DUE, now_ms, limit)]
