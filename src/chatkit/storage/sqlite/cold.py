"""The archived part of a log on SQLite: what `storage.cold.ColdStore` says, as statements.

A row whose body leaves gets another place in the file: the pages that it leaves become free as a whole, which a body
that is only cut off does not bring about. Its new rowid is below those of all rows with a body, so that the newest row
of the log keeps the greatest one. Called by `store`: the reads in a snapshot, the rest in a write transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ...core.log.changes import Changes
from ...core.log.cold import ColdConversation, ColdEntry, ColdRange
from ...drivers.sqlite import Connection, Row
from ...errors import UnavailableError
from ..cold import (
    EXPIRE_MAX,
    OWNER_MARKS_MAX,
    SCAN_MAX,
    Blanks,
    ColdTerms,
    ColdTotals,
    Due,
    Expiring,
    Space,
    first_cold,
)
from .select import select

# ruff: noqa: S608 -- joined from constants of this module only

_INCREMENTAL: Final = 2  # as PRAGMA auto_vacuum says it
_LOWEST: Final = -(2**62)
"""Rows without a body are numbered upwards from here; it is far below all others."""

_RANGED = """ifnull((SELECT r.last_seq FROM archive_range AS r WHERE r.conversation_key = c.conversation_key
    ORDER BY r.first_seq DESC LIMIT 1), 0)"""
_MOVABLE = f"""max(c.floor_seq, ifnull((
    SELECT min(r.first_seq) - 1 FROM archive_range AS r WHERE r.conversation_key = c.conversation_key AND r.name = ''
), {_RANGED}))"""
SELECT_DUE = f"""
SELECT k, id, cold_seq, ranged_seq, movable_seq FROM (
    SELECT c.conversation_key AS k, c.conversation_id AS id, c.cold_seq, c.head_seq,
        max(c.floor_seq, {_RANGED}) AS ranged_seq, {_MOVABLE} AS movable_seq
    FROM conversation AS c WHERE c.conversation_key > ?1 ORDER BY c.conversation_key LIMIT ?2
)
WHERE cold_seq < movable_seq OR (ranged_seq < head_seq - ?4 AND ifnull((
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = k AND e.seq = ranged_seq + 1), ?3) < ?3)
"""
SELECT_OWNER_MARKS = "SELECT value FROM setting WHERE name = 'archive_owner'"
SET_OWNER_MARKS = (
    "INSERT INTO setting (name, value) VALUES ('archive_owner', ?) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
SELECT_SCANNED = (
    "SELECT conversation_key FROM conversation WHERE conversation_key > ? ORDER BY 1 LIMIT 1 OFFSET ?"
)
_ENTRIES = """
SELECT e.seq, e.epoch, e.kind, e.sender_id, e.client_msg_id, e.server_ts,
    CASE WHEN r.seq IS NULL THEN e.payload END
FROM message AS e LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
SELECT_COLD = (
    _ENTRIES
    + """
JOIN conversation AS c ON c.conversation_key = e.conversation_key
WHERE e.conversation_key = ?1 AND e.seq > ?2 AND e.seq <= min(?2 + ?3, c.head_seq - ?4) ORDER BY e.seq
"""
)
SELECT_OF_RANGE = _ENTRIES + "WHERE e.conversation_key = ? AND e.seq BETWEEN ? AND ? ORDER BY e.seq"
INSERT_CLAIM = """
INSERT INTO archive_range SELECT ?1, ?2, ?3, '', x'', 0, 0, ?4, ?5 WHERE NOT EXISTS (
    SELECT 1 FROM archive_range AS r WHERE r.conversation_key = ?1 AND r.last_seq >= ?2)
"""
UPDATE_CLAIM = """
UPDATE archive_range SET next_name = ?4, next_ms = ?5
WHERE conversation_key = ?1 AND first_seq = ?2 AND last_seq = ?3 AND name = ?6 AND (next_name = '' OR next_ms < ?7)
"""
CONFIRM = """
UPDATE archive_range SET name = ?4, digest = ?5, size = ?6, next_name = '', next_ms = 0, is_stale = (
    SELECT count(*) FROM recall AS r WHERE r.conversation_key = ?1 AND r.seq BETWEEN ?2 AND ?3
) <> ?7 OR ?8 < ifnull((
    SELECT min(c.floor_seq, ?3) FROM conversation AS c WHERE c.conversation_key = ?1 AND c.floor_seq >= ?2), 0)
WHERE conversation_key = ?1 AND first_seq = ?2 AND last_seq = ?3 AND next_name = ?4
"""
NEEDS_MANIFEST = "UPDATE conversation SET manifest_version = manifest_version + 1 WHERE conversation_key = ?"
SELECT_MOVABLE = f"SELECT c.cold_seq, {_MOVABLE} FROM conversation AS c WHERE c.conversation_key = ?"
SELECT_LOWEST = f"SELECT ifnull(max(rowid), {_LOWEST}) FROM message WHERE rowid < 0"
MOVE = """
UPDATE message SET rowid = ?1 + seq, payload = CASE WHEN kind IN ('MEMBER', 'RECALL') THEN payload ELSE x'' END
WHERE conversation_key = ?2 AND seq BETWEEN ?3 AND ?4
"""
UPDATE_COLD = "UPDATE conversation SET cold_seq = ? WHERE conversation_key = ?"
_RANGE = """
SELECT r.conversation_key, c.conversation_id, r.first_seq, r.last_seq, r.name, r.digest, r.size, r.is_stale, r.next_name
FROM archive_range AS r JOIN conversation AS c ON c.conversation_key = r.conversation_key
"""
SELECT_UNFINISHED = (
    _RANGE
    + """
WHERE (r.is_stale = 1 OR r.next_name <> '') AND (r.next_name = '' OR r.next_ms < ?)
ORDER BY r.conversation_key, r.first_seq LIMIT ?
"""
)
SELECT_EXPIRED = (
    _RANGE
    + "WHERE c.floor_seq > 0 AND r.last_seq <= c.floor_seq ORDER BY r.conversation_key, r.first_seq LIMIT ?"
)
SELECT_COVERING = (
    _RANGE
    + """
WHERE c.conversation_id = ?1 AND r.name <> '' AND r.first_seq <= ?3 AND r.last_seq >= ?2 ORDER BY r.first_seq
"""
)
SELECT_RANGES = (
    _RANGE
    + """
WHERE (r.conversation_key, r.first_seq) > (?, ?) AND r.name <> '' ORDER BY r.conversation_key, r.first_seq LIMIT ?
"""
)
SELECT_BLANKS = "SELECT seq FROM recall WHERE conversation_key = ? AND seq BETWEEN ? AND ? ORDER BY seq"
SELECT_FLOOR = "SELECT cold_seq, floor_seq FROM conversation WHERE conversation_key = ?"
FORGET = (
    "DELETE FROM archive_range WHERE conversation_key = ? AND first_seq = ? AND name = ? AND next_name = ?"
)
SELECT_KNOWN = """
WITH k (name) AS (VALUES {keys})
SELECT k.name FROM k WHERE EXISTS (SELECT 1 FROM archive_range AS r WHERE r.name = k.name AND r.name <> '')
    OR EXISTS (SELECT 1 FROM archive_range AS r WHERE r.next_name = k.name AND r.next_name <> '')
"""
SELECT_MANIFESTS = """
SELECT conversation_key, conversation_id, manifest_version FROM conversation WHERE manifest_version > 0
ORDER BY conversation_key LIMIT ?
"""
MANIFEST_WRITTEN = (
    "UPDATE conversation SET manifest_version = 0 WHERE conversation_key = ? AND manifest_version = ?"
)
SELECT_TOTALS = """
SELECT count(DISTINCT conversation_key), ifnull(sum(last_seq - first_seq + 1), 0), count(*), ifnull(sum(size), 0),
    ifnull(sum(is_stale), 0), (SELECT count(*) FROM archive_range WHERE next_name <> '')
FROM archive_range WHERE name <> ''
"""
RESTORE = "UPDATE message SET payload = ? WHERE conversation_key = ? AND seq = ? AND payload = x''"
STALE_BY_RECALL = """
UPDATE archive_range SET is_stale = 1 WHERE conversation_key = ?1 AND first_seq <= ?2 AND last_seq >= ?2 AND name <> ''
"""
"""Its object holds a body that was recalled. It is no longer read from there; an archiver writes it anew."""


SET_RETENTION = "UPDATE conversation SET keep_ms = ? WHERE conversation_key = ?"
RAISE_FLOOR = "UPDATE conversation SET floor_seq = max(floor_seq, ?) WHERE conversation_key = ?"
STALE_BY_FLOOR = """
UPDATE archive_range SET is_stale = 1 WHERE conversation_key = ?2 AND first_seq <= ?1 AND last_seq > ?1 AND name <> ''
"""
SELECT_EXPIRING = """
SELECT id, min(head_seq - 1, ifnull((
    SELECT min(e.seq) - 1 FROM message AS e WHERE e.conversation_key = k AND e.seq > floor_seq
        AND e.seq <= floor_seq + ?4 AND e.server_ts >= ?1 - keep_ms), floor_seq + ?4))
FROM (
    SELECT c.conversation_key AS k, c.conversation_id AS id, c.head_seq, c.floor_seq, ifnull(c.keep_ms, ?2) AS keep_ms
    FROM conversation AS c WHERE c.conversation_key > ?3 ORDER BY c.conversation_key LIMIT ?5
)
WHERE keep_ms > 0 AND floor_seq < head_seq - 1 AND (
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = k AND e.seq = floor_seq + 1) < ?1 - keep_ms
"""


def write_retention(connection: Connection, changes: Changes) -> None:
    """How long entries are kept, and which have expired."""
    connection.executemany(SET_RETENTION, changes.retentions)
    connection.executemany(RAISE_FLOOR, changes.floors)
    connection.executemany(STALE_BY_FLOOR, changes.floors)


def expiring(connection: Connection, now_ms: int, keep_ms: int, after_key: int) -> Expiring:
    """Conversations with entries whose time is over, among the next ones."""
    place = (now_ms, keep_ms, after_key, EXPIRE_MAX, SCAN_MAX)
    found = tuple((name, floor_seq) for name, floor_seq in connection.execute(SELECT_EXPIRING, place))
    last = connection.execute(SELECT_SCANNED, (after_key, SCAN_MAX - 1))
    return Expiring(found, last[0][0] if last else 0)


def due(connection: Connection, terms: ColdTerms, after_key: int) -> Due:
    """Conversations with work among the next ones."""
    place = (after_key, SCAN_MAX, terms.before_ms, terms.keep_entries)
    found = tuple(ColdConversation(*row) for row in connection.execute(SELECT_DUE, place))
    last = connection.execute(SELECT_SCANNED, (after_key, SCAN_MAX - 1))
    return Due(found, last[0][0] if last else 0)


def entries(
    connection: Connection, key: int, after_seq: int, terms: ColdTerms, limit: int, bytes_max: int
) -> list[ColdEntry]:
    """Cold entries after a seq, without a gap."""
    rows = connection.execute(SELECT_COLD, (key, after_seq, limit, terms.keep_entries))
    return first_cold((ColdEntry(*row) for row in rows), terms.before_ms, bytes_max)


def entries_of(connection: Connection, it: ColdRange) -> list[ColdEntry]:
    """The entries of a range."""
    rows = connection.execute(SELECT_OF_RANGE, (it.conversation_key, it.first_seq, it.last_seq))
    return [ColdEntry(*row) for row in rows]


def claim(connection: Connection, it: ColdRange, now_ms: int, taken_before_ms: int) -> bool:
    """Say that an object is being written for a range."""
    place = (it.conversation_key, it.first_seq, it.last_seq, it.next_name, now_ms)
    if not it.name and connection.change(INSERT_CLAIM, place):
        return True
    return bool(connection.change(UPDATE_CLAIM, (*place, it.name, taken_before_ms)))


def confirm(connection: Connection, it: ColdRange, blanks: Blanks) -> bool:
    """Put a written object into its place."""
    place = (it.conversation_key, it.first_seq, it.last_seq, it.name, it.digest, it.size)
    if not connection.change(CONFIRM, (*place, len(blanks.seqs), blanks.floor_seq)):
        return False
    connection.change(NEEDS_MANIFEST, (it.conversation_key,))
    return True


def move(connection: Connection, key: int, limit: int) -> int:
    """Take some bodies out of the file."""
    rows = connection.execute(SELECT_MOVABLE, (key,))
    cold_seq, movable_seq = rows[0] if rows else (0, 0)
    count = int(min(limit, movable_seq - cold_seq))
    if count <= 0:
        return 0
    ((lowest,),) = connection.execute(SELECT_LOWEST)
    connection.change(MOVE, (lowest - cold_seq, key, cold_seq + 1, cold_seq + count))
    connection.change(UPDATE_COLD, (cold_seq + count, key))
    return count


def unfinished(connection: Connection, taken_before_ms: int, limit: int) -> list[ColdRange]:
    """Ranges that are stale, or whose archiver has ended."""
    return [_range(row) for row in connection.execute(SELECT_UNFINISHED, (taken_before_ms, limit))]


def expired(connection: Connection, limit: int) -> list[ColdRange]:
    """Ranges that nobody may read any more."""
    return [_range(row) for row in connection.execute(SELECT_EXPIRED, (limit,))]


def covering(connection: Connection, conversation_id: str, first_seq: int, last_seq: int) -> list[ColdRange]:
    """The ranges that hold any of these entries."""
    return [
        _range(row) for row in connection.execute(SELECT_COVERING, (conversation_id, first_seq, last_seq))
    ]


def ranges(connection: Connection, after: tuple[int, int], limit: int) -> list[ColdRange]:
    """All ranges after a place."""
    return [_range(row) for row in connection.execute(SELECT_RANGES, (*after, limit))]


def _range(row: Row) -> ColdRange:
    key, name, first_seq, last_seq, object_name, digest, size, is_stale, next_name = row
    return ColdRange(
        key, name, first_seq, last_seq, object_name, bytes(digest), size, bool(is_stale), next_name
    )


def blanks(connection: Connection, it: ColdRange) -> Blanks:
    """Which bodies must not be in the object of a range."""
    rows = connection.execute(SELECT_BLANKS, (it.conversation_key, it.first_seq, it.last_seq))
    _, floor_seq = cold_and_floor(connection, it.conversation_key)
    return Blanks(tuple(seq for (seq,) in rows), floor_seq)


def cold_and_floor(connection: Connection, key: int) -> tuple[int, int]:
    """Up to where messages of a conversation have no body here, and up to where they have expired."""
    rows = connection.execute(SELECT_FLOOR, (key,))
    return rows[0] if rows else (0, 0)


def forget(connection: Connection, it: ColdRange) -> bool:
    """Drop a range that no entry needs any more."""
    cold_seq, floor_seq = cold_and_floor(connection, it.conversation_key)
    if it.last_seq > floor_seq and cold_seq >= it.first_seq:
        return False
    if not connection.change(FORGET, (it.conversation_key, it.first_seq, it.name, it.next_name)):
        return False
    connection.change(NEEDS_MANIFEST, (it.conversation_key,))
    return True


def known(connection: Connection, names: Collection[str]) -> set[str]:
    """Those of these objects that a range names."""
    return {name for (name,) in select(connection, SELECT_KNOWN, [(name,) for name in names])}


def owner_marks(connection: Connection) -> list[str]:
    """The newest marks."""
    return [mark for (value,) in connection.execute(SELECT_OWNER_MARKS) for mark in value.decode().split()]


def add_owner_mark(connection: Connection, mark: str) -> None:
    """Keep a mark."""
    kept = [*owner_marks(connection), mark][-OWNER_MARKS_MAX:]
    connection.change(SET_OWNER_MARKS, (" ".join(kept).encode(),))


def manifests_due(connection: Connection, limit: int) -> list[tuple[int, str, int]]:
    """Conversations whose manifest is older than their ranges."""
    return [(key, name, version) for key, name, version in connection.execute(SELECT_MANIFESTS, (limit,))]


def manifest_written(connection: Connection, key: int, version: int) -> None:
    """The manifest of this version is written."""
    connection.change(MANIFEST_WRITTEN, (key, version))


def totals(connection: Connection) -> ColdTotals:
    """Counts over the archived part."""
    (row,) = connection.execute(SELECT_TOTALS)
    return ColdTotals(*row)


def restore(connection: Connection, it: ColdRange, bodies: Mapping[int, bytes], limit: int) -> int:
    """Put bodies of a range back, the newest first."""
    cold_seq, floor_seq = cold_and_floor(connection, it.conversation_key)
    if cold_seq > it.last_seq:
        raise UnavailableError("a newer range of this conversation has to be restored first")
    first = max(it.first_seq, cold_seq - limit + 1)
    if cold_seq < first:
        return 0
    recalled = {seq for (seq,) in connection.execute(SELECT_BLANKS, (it.conversation_key, first, cold_seq))}
    wanted = [seq for seq in range(max(first, floor_seq + 1), cold_seq + 1) if seq not in recalled]
    connection.executemany(
        RESTORE, [(bodies[seq], it.conversation_key, seq) for seq in wanted if seq in bodies]
    )
    connection.change(UPDATE_COLD, (first - 1, it.conversation_key))
    return cold_seq - first + 1


def space(connection: Connection) -> Space:
    """The size of the file."""
    ((pages,),) = connection.execute("PRAGMA page_count")
    ((free,),) = connection.execute("PRAGMA freelist_count")
    ((mode,),) = connection.execute("PRAGMA auto_vacuum")
    page_bytes = _page_bytes(connection)
    return Space(pages * page_bytes, free * page_bytes, mode == _INCREMENTAL)


def _page_bytes(connection: Connection) -> int:
    ((page_bytes,),) = connection.execute("PRAGMA page_size")
    return int(page_bytes)


def shrink(connection: Connection, bytes_max: int) -> int:
    """Give free pages back, moving what is at the end of the file into them.

    Page by page: a step of this PRAGMA frees one, whatever number it was given, and sqlite3 takes one step of a
    statement whose rows have no columns.
    """
    before = space(connection)
    pages = min(bytes_max, before.free_bytes) // _page_bytes(connection) if before.shrinks else 0
    for _ in range(pages):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return before.total_bytes - space(connection).total_bytes
