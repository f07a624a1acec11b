"""Uploaded files on SQLite: loaded and written with a batch, and read. Nothing is decided here.

Called by `load` and `write` where anything of them is named or changed, and by `store` for reads.
"""

from __future__ import annotations

from ...core.log.blob_rows import DROPPED_KEEP_MS, BlobRow, DueBlob
from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.state import State
from ...drivers.sqlite import Connection
from .select import select

_COLUMNS = "b.blob_id, b.owner_id, b.upload_key, b.size, b.mime, b.state, b.at_ms, b.parts"
SELECT_BLOBS = f"""
WITH k (blob_id) AS (VALUES {{keys}})
SELECT {_COLUMNS} FROM k CROSS JOIN blob AS b ON b.blob_id = k.blob_id
"""  # noqa: S608 -- names
SELECT_BY_KEY = f"""
WITH k (owner_id, upload_key) AS (VALUES {{keys}})
SELECT {_COLUMNS} FROM k CROSS JOIN blob AS b ON b.owner_id = k.owner_id AND b.upload_key = k.upload_key
"""  # noqa: S608 -- names
SELECT_SEEN = """
WITH k (blob_id, user_id) AS (VALUES {keys})
SELECT k.blob_id, k.user_id FROM k WHERE EXISTS (
    SELECT 1 FROM conversation_member AS n
    CROSS JOIN conversation AS c ON c.conversation_key = n.conversation_key
    CROSS JOIN blob_reference AS r ON r.blob_id = k.blob_id AND r.conversation_key = n.conversation_key
        AND r.seq > c.floor_seq
    CROSS JOIN conversation_member AS m ON m.conversation_key = n.conversation_key AND m.user_id = k.user_id
        AND r.seq >= ifnull(m.first_seq, m.join_seq) AND (m.leave_seq IS NULL OR r.seq < m.leave_seq)
    WHERE n.user_id = k.user_id AND n.leave_seq IS NULL
)
"""
"""Looks into the conversations of the user, who may be in fewer than the blob is."""

SELECT_USAGE = """
WITH k (owner_id) AS (VALUES {keys})
SELECT k.owner_id, (
    SELECT ifnull(sum(max(b.size, 4096)), 0) FROM blob AS b WHERE b.owner_id = k.owner_id AND b.state <> 'GOING'
)
FROM k WHERE k.owner_id IS NOT NULL
"""
SELECT_KEPT = """
WITH k (blob_id) AS (VALUES {keys})
SELECT k.blob_id FROM k WHERE EXISTS (SELECT 1 FROM blob_reference AS r WHERE r.blob_id = k.blob_id)
"""
SELECT_HELD = """
WITH k (blob_id) AS (VALUES {keys})
SELECT k.blob_id FROM k WHERE k.blob_id IS NOT NULL AND EXISTS (
    SELECT 1 FROM moderated AS t WHERE t.state <> 'REFUSED' AND instr(t.payload, CAST(k.blob_id AS BLOB)) > 0
)
"""
WRITE_BLOB = (
    "INSERT INTO blob (blob_id, owner_id, upload_key, size, mime, state, at_ms, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (blob_id) DO UPDATE SET upload_key = excluded.upload_key, state = excluded.state, "
    "at_ms = excluded.at_ms, parts = excluded.parts"
)
DELETE_BLOB = "DELETE FROM blob WHERE blob_id = ?"
INSERT_REFERENCE = "INSERT INTO blob_reference (conversation_key, seq, blob_id) VALUES (?, ?, ?)"
INSERT_DUE = "INSERT INTO blob_due (due_ms, blob_id, keep_ms) VALUES (?, ?, ?)"
DELETE_DUE = "DELETE FROM blob_due WHERE due_id = ?"
RECALLED_ARE_DUE = (
    f"INSERT INTO blob_due (due_ms, blob_id, keep_ms) SELECT 0, blob_id, {DROPPED_KEEP_MS} FROM blob_reference "  # noqa: S608
    "WHERE conversation_key = ? AND seq = ?"
)
DELETE_RECALLED = "DELETE FROM blob_reference WHERE conversation_key = ? AND seq = ?"
EXPIRED_ARE_DUE = (
    f"INSERT INTO blob_due (due_ms, blob_id, keep_ms) SELECT 0, blob_id, {DROPPED_KEEP_MS} FROM blob_reference "  # noqa: S608
    "WHERE conversation_key = ?2 AND seq <= ?1"
)
DELETE_EXPIRED = "DELETE FROM blob_reference WHERE conversation_key = ?2 AND seq <= ?1"
ERASED_ARE_DUE = (
    "INSERT INTO blob_due (due_ms, blob_id, keep_ms) SELECT 0, blob_id, 0 FROM blob "
    "WHERE owner_id = ? AND state <> 'GOING'"
)
SELECT_DUE = "SELECT due_id, blob_id, keep_ms FROM blob_due WHERE due_ms <= ? ORDER BY due_ms, due_id LIMIT ?"


def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put what the keys name of it into the state."""
    wanted, blobs = keys.blobs, state.blobs
    by_id = {blob_id for blob_id, _ in wanted.named} | wanted.rows | wanted.collected
    for row in select(connection, SELECT_BLOBS, [(it,) for it in by_id]):
        blobs.add(BlobRow(*row))
    for row in select(connection, SELECT_BY_KEY, wanted.uploads):
        blobs.add(BlobRow(*row))
    blobs.seen.update(select(connection, SELECT_SEEN, wanted.named))
    blobs.usage.update(select(connection, SELECT_USAGE, [(it,) for it in wanted.owners]))
    collected = [(it,) for it in wanted.collected]
    blobs.kept.update(blob_id for (blob_id,) in select(connection, SELECT_KEPT, collected))
    blobs.held.update(blob_id for (blob_id,) in select(connection, SELECT_HELD, collected))


def write(connection: Connection, changes: Changes) -> None:
    """Write what a batch changed of it."""
    blobs = changes.blobs
    if blobs is None:
        return
    going = [(blob_id,) for blob_id, row in blobs.changed.items() if row is None]
    for sql, rows in (
        (DELETE_BLOB, going),
        (WRITE_BLOB, [row for row in blobs.changed.values() if row is not None]),
        (INSERT_REFERENCE, blobs.references),
        (RECALLED_ARE_DUE, blobs.dropped),
        (DELETE_RECALLED, blobs.dropped),
        (DELETE_DUE, blobs.dropped_due),
        (INSERT_DUE, blobs.due),
    ):
        if rows:
            connection.executemany(sql, rows)


def drop_expired(connection: Connection, changes: Changes) -> None:
    """What expired messages named is named by them no more."""
    connection.executemany(EXPIRED_ARE_DUE, changes.floors)
    connection.executemany(DELETE_EXPIRED, changes.floors)


def drop_erased(connection: Connection, changes: Changes) -> None:
    """What erased users uploaded goes at once where nothing names it."""
    connection.executemany(ERASED_ARE_DUE, [(user_id,) for user_id, _ in changes.ended_erasures])


def blob(connection: Connection, blob_id: str, user_id: str) -> BlobRow | None:
    """A file as a user sees it in a message."""
    if not select(connection, SELECT_SEEN, [(blob_id, user_id)]):
        return None
    rows = select(connection, SELECT_BLOBS, [(blob_id,)])
    return BlobRow(*rows[0]) if rows else None


def upload(connection: Connection, blob_id: str) -> BlobRow | None:
    """A file, whoever asks."""
    rows = select(connection, SELECT_BLOBS, [(blob_id,)])
    return BlobRow(*rows[0]) if rows else None


def due_blobs(connection: Connection, now_ms: int, limit: int) -> list[DueBlob]:
    """What the collector is to look at, what is due for longest first."""
    return [DueBlob(*row) for row in connection.execute(SELECT_DUE, (now_ms, limit))]
