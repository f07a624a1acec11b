"""The archived part of a log on PostgreSQL: what `storage.cold.ColdStore` says, each question in a transaction.

A change locks its conversation first, as every batch does. A body that leaves makes another version of its row; VACUUM
gives the room of the former ones back to the table, for new rows, and seldom to the disk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from ...core.log.changes import Changes
from ...core.log.cold import ColdConversation, ColdEntry, ColdRange
from ...drivers.postgres import READ, RETRY_AFTER_S, Connection, Database, Row
from ...errors import UnavailableError
from ..cold import (
    EXPIRE_MAX,
    OWNER_MARK_BYTES,
    OWNER_MARKS_MAX,
    RESTORE_MAX,
    SCAN_MAX,
    Blanks,
    ColdTerms,
    ColdTotals,
    Due,
    Expiring,
    Space,
    first_cold,
)

# ruff: noqa: S608 -- joined from constants of this module only

SELECT_OWNER_MARKS: Final = "SELECT value FROM setting WHERE name = 'archive_owner'"
ADD_OWNER_MARK: Final = """
INSERT INTO setting AS s (name, value) VALUES ('archive_owner', $1) ON CONFLICT (name) DO UPDATE
SET value = substring(s.value || excluded.value FROM greatest(1, length(s.value || excluded.value) - $2 + 1))
"""
LOCK: Final = "SELECT FROM conversation WHERE conversation_key = $1 FOR NO KEY UPDATE"
_MARKS_BYTES_MAX: Final = OWNER_MARKS_MAX * (2 * OWNER_MARK_BYTES + 1)
_RANGED = """coalesce((SELECT r.last_seq FROM archive_range AS r WHERE r.conversation_key = c.conversation_key
    ORDER BY r.first_seq DESC LIMIT 1), 0)"""
_MOVABLE = f"""greatest(c.floor_seq, coalesce((
    SELECT min(r.first_seq) - 1 FROM archive_range AS r WHERE r.conversation_key = c.conversation_key AND r.name = ''
), {_RANGED}))"""
SELECT_DUE: Final = f"""
SELECT d.k, d.id, d.cold_seq, d.ranged_seq, d.movable_seq FROM (
    SELECT c.conversation_key AS k, c.conversation_id AS id, c.cold_seq, c.head_seq,
        greatest(c.floor_seq, {_RANGED}) AS ranged_seq, {_MOVABLE} AS movable_seq
    FROM (SELECT * FROM conversation WHERE conversation_key > $1 ORDER BY conversation_key LIMIT $2) AS c
) AS d
WHERE d.cold_seq < d.movable_seq OR (d.ranged_seq < d.head_seq - $4 AND coalesce((
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = d.k AND e.seq = d.ranged_seq + 1), $3) < $3)
ORDER BY d.k
"""
SELECT_SCANNED: Final = (
    "SELECT conversation_key FROM conversation WHERE conversation_key > $1 ORDER BY 1 LIMIT 1 OFFSET $2"
)
_ENTRIES = """
SELECT e.seq, e.epoch, e.kind, e.sender_id, e.client_msg_id, e.server_ts, CASE WHEN r.seq IS NULL THEN e.payload END
FROM message AS e LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
SELECT_COLD: Final = (
    _ENTRIES
    + """
JOIN conversation AS c ON c.conversation_key = e.conversation_key
WHERE e.conversation_key = $1 AND e.seq > $2 AND e.seq <= least($2 + $3, c.head_seq - $4) ORDER BY e.seq
"""
)
SELECT_OF_RANGE: Final = _ENTRIES + "WHERE e.conversation_key = $1 AND e.seq BETWEEN $2 AND $3 ORDER BY e.seq"
INSERT_CLAIM: Final = """
INSERT INTO archive_range
SELECT $1, $2, $3, '', '', 0, false, $4, $5 WHERE NOT EXISTS (
    SELECT FROM archive_range AS r WHERE r.conversation_key = $1 AND r.last_seq >= $2)
RETURNING 1
"""
UPDATE_CLAIM: Final = """
UPDATE archive_range SET next_name = $4, next_ms = $5
WHERE conversation_key = $1 AND first_seq = $2 AND last_seq = $3 AND name = $6 AND (next_name = '' OR next_ms < $7)
RETURNING 1
"""
CONFIRM: Final = """
UPDATE archive_range SET name = $4, digest = $5, size = $6, next_name = '', next_ms = 0, is_stale = (
    SELECT count(*) FROM recall AS r WHERE r.conversation_key = $1 AND r.seq BETWEEN $2 AND $3
) <> $7 OR $8 < coalesce((
    SELECT least(c.floor_seq, $3) FROM conversation AS c WHERE c.conversation_key = $1 AND c.floor_seq >= $2), 0)
WHERE conversation_key = $1 AND first_seq = $2 AND last_seq = $3 AND next_name = $4
RETURNING 1
"""
NEEDS_MANIFEST: Final = (
    "UPDATE conversation SET manifest_version = manifest_version + 1 WHERE conversation_key = $1"
)
SELECT_MOVABLE: Final = f"SELECT c.cold_seq, {_MOVABLE} FROM conversation AS c WHERE c.conversation_key = $1"
MOVE: Final = """
UPDATE message SET payload = '' WHERE conversation_key = $1 AND seq BETWEEN $2 AND $3
    AND kind NOT IN ('MEMBER', 'RECALL')
"""
UPDATE_COLD: Final = "UPDATE conversation SET cold_seq = $2 WHERE conversation_key = $1"
_RANGE = """
SELECT r.conversation_key, c.conversation_id, r.first_seq, r.last_seq, r.name, r.digest, r.size, r.is_stale, r.next_name
FROM archive_range AS r JOIN conversation AS c ON c.conversation_key = r.conversation_key
"""
SELECT_UNFINISHED: Final = (
    _RANGE
    + """
WHERE (r.is_stale OR r.next_name <> '') AND (r.next_name = '' OR r.next_ms < $1)
ORDER BY r.conversation_key, r.first_seq LIMIT $2
"""
)
SELECT_EXPIRED: Final = (
    _RANGE
    + """
WHERE c.floor_seq > 0 AND r.last_seq <= c.floor_seq ORDER BY r.conversation_key, r.first_seq LIMIT $1
"""
)
SELECT_COVERING: Final = """
SELECT r.conversation_key, n.conversation_id, r.first_seq, r.last_seq, r.name, r.digest, r.size, r.is_stale, r.next_name
FROM conversation_name AS n
JOIN archive_range AS r ON r.conversation_key = n.conversation_key AND r.name <> '' AND r.first_seq <= $3
    AND r.last_seq >= $2
WHERE n.conversation_id = $1 ORDER BY r.first_seq
"""
SELECT_RANGES: Final = (
    _RANGE
    + """
WHERE (r.conversation_key, r.first_seq) > ($1, $2) AND r.name <> '' ORDER BY r.conversation_key, r.first_seq LIMIT $3
"""
)
SELECT_BLANKS: Final = (
    "SELECT seq FROM recall WHERE conversation_key = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq"
)
SELECT_FLOOR: Final = "SELECT cold_seq, floor_seq FROM conversation WHERE conversation_key = $1"
FORGET: Final = """
DELETE FROM archive_range WHERE conversation_key = $1 AND first_seq = $2 AND name = $3 AND next_name = $4 RETURNING 1
"""
SELECT_KNOWN: Final = """
SELECT name FROM archive_range WHERE name <> '' AND name = ANY ($1::text[])
UNION SELECT next_name FROM archive_range WHERE next_name <> '' AND next_name = ANY ($1::text[])
"""
SELECT_MANIFESTS: Final = """
SELECT conversation_key, conversation_id, manifest_version FROM conversation WHERE manifest_version > 0
ORDER BY conversation_key LIMIT $1
"""
MANIFEST_WRITTEN: Final = (
    "UPDATE conversation SET manifest_version = 0 WHERE conversation_key = $1 AND manifest_version = $2"
)
SELECT_TOTALS: Final = """
SELECT count(DISTINCT conversation_key), coalesce(sum(last_seq - first_seq + 1), 0)::bigint, count(*),
    coalesce(sum(size), 0)::bigint, count(*) FILTER (WHERE is_stale),
    (SELECT count(*) FROM archive_range WHERE next_name <> '')
FROM archive_range WHERE name <> ''
"""
RESTORE: Final = """
UPDATE message AS e SET payload = k.payload FROM unnest($2::bigint[], $3::bytea[]) AS k (seq, payload)
WHERE e.conversation_key = $1 AND e.seq = k.seq AND e.payload = ''
"""
SELECT_SPACE: Final = "SELECT pg_database_size(current_database())"


SET_RETENTION: Final = "UPDATE conversation SET keep_ms = $1::bigint WHERE conversation_key = $2"
RAISE_FLOOR: Final = "UPDATE conversation SET floor_seq = greatest(floor_seq, $1) WHERE conversation_key = $2"
STALE_BY_FLOOR: Final = """
UPDATE archive_range SET is_stale = true
WHERE conversation_key = $2 AND first_seq <= $1 AND last_seq > $1 AND name <> ''
"""
SELECT_EXPIRING: Final = """
SELECT d.id, least(d.head_seq - 1, coalesce((
    SELECT min(e.seq) - 1 FROM message AS e WHERE e.conversation_key = d.k AND e.seq > d.floor_seq
        AND e.seq <= d.floor_seq + $4 AND e.server_ts >= $1 - d.keep_ms), d.floor_seq + $4))
FROM (
    SELECT c.conversation_key AS k, c.conversation_id AS id, c.head_seq, c.floor_seq, coalesce(c.keep_ms, $2) AS keep_ms
    FROM conversation AS c WHERE c.conversation_key > $3 ORDER BY c.conversation_key LIMIT $5
) AS d
WHERE d.keep_ms > 0 AND d.floor_seq < d.head_seq - 1 AND (
    SELECT e.server_ts FROM message AS e WHERE e.conversation_key = d.k AND e.seq = d.floor_seq + 1) < $1 - d.keep_ms
ORDER BY d.k
"""


async def write_retention(connection: Connection, changes: Changes) -> None:
    """How long entries are kept, and which have expired; their conversations are locked."""
    for keep in changes.retentions:
        await connection.fetch(SET_RETENTION, *keep)
    for floor in changes.floors:
        await connection.fetch(RAISE_FLOOR, *floor)
        await connection.fetch(STALE_BY_FLOOR, *floor)


class PostgresCold:
    """`storage.cold.ColdStore` on a database.

    Args:
        database: Where transactions that write run.
        reading: Where reads run.
    """

    def __init__(self, database: Database, reading: Database) -> None:
        self._database = database
        self._reading = reading

    @asynccontextmanager
    async def _locked(self, key: int) -> AsyncIterator[Connection]:
        async with self._database.transaction() as connection:
            await connection.fetch(LOCK, key)
            yield connection

    async def _read(self, sql: str, *values: object) -> list[Row]:
        async with self._reading.transaction(READ) as connection:
            return await connection.fetch(sql, *values)

    async def owner_marks(self) -> list[str]:
        """The newest marks."""
        async with self._database.transaction(READ) as connection:
            rows = await connection.fetch(SELECT_OWNER_MARKS)
        return [mark for (value,) in rows for mark in value.decode().split()]

    async def add_owner_mark(self, mark: str) -> None:
        """Keep a mark."""
        async with self._database.transaction() as connection:
            await connection.fetch(ADD_OWNER_MARK, f"{mark} ".encode(), _MARKS_BYTES_MAX)

    async def expiring(self, now_ms: int, keep_ms: int, after_key: int) -> Expiring:
        """Conversations with entries whose time is over."""
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(SELECT_EXPIRING, now_ms, keep_ms, after_key, EXPIRE_MAX, SCAN_MAX)
            last = await connection.fetch(SELECT_SCANNED, after_key, SCAN_MAX - 1)
        return Expiring(tuple((row[0], row[1]) for row in rows), last[0][0] if last else 0)

    async def due(self, terms: ColdTerms, after_key: int) -> Due:
        """Conversations with work."""
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(
                SELECT_DUE, after_key, SCAN_MAX, terms.before_ms, terms.keep_entries
            )
            last = await connection.fetch(SELECT_SCANNED, after_key, SCAN_MAX - 1)
        return Due(tuple(ColdConversation(*row) for row in rows), last[0][0] if last else 0)

    async def entries(
        self, conversation_key: int, after_seq: int, terms: ColdTerms, limit: int, bytes_max: int
    ) -> list[ColdEntry]:
        """Cold entries after a seq."""
        rows = await self._read(SELECT_COLD, conversation_key, after_seq, limit, terms.keep_entries)
        return first_cold((ColdEntry(*row) for row in rows), terms.before_ms, bytes_max)

    async def entries_of(self, it: ColdRange) -> list[ColdEntry]:
        """The entries of a range."""
        rows = await self._read(SELECT_OF_RANGE, it.conversation_key, it.first_seq, it.last_seq)
        return [ColdEntry(*row) for row in rows]

    async def claim(self, it: ColdRange, now_ms: int, taken_before_ms: int) -> bool:
        """Say that an object is being written."""
        place = (it.conversation_key, it.first_seq, it.last_seq, it.next_name, now_ms)
        async with self._locked(it.conversation_key) as connection:
            if not it.name and await connection.fetch(INSERT_CLAIM, *place):
                return True
            return bool(await connection.fetch(UPDATE_CLAIM, *place, it.name, taken_before_ms))

    async def confirm(self, it: ColdRange, blanks: Blanks) -> bool:
        """Put a written object into its place."""
        place = (it.conversation_key, it.first_seq, it.last_seq, it.name, it.digest, it.size)
        async with self._locked(it.conversation_key) as connection:
            if not await connection.fetch(CONFIRM, *place, len(blanks.seqs), blanks.floor_seq):
                return False
            await connection.fetch(NEEDS_MANIFEST, it.conversation_key)
        return True

    async def move(self, conversation_key: int, limit: int) -> int:
        """Take some bodies out of the tables."""
        async with self._locked(conversation_key) as connection:
            rows = await connection.fetch(SELECT_MOVABLE, conversation_key)
            cold_seq, movable_seq = rows[0] if rows else (0, 0)
            count = int(min(limit, movable_seq - cold_seq))
            if count <= 0:
                return 0
            await connection.fetch(MOVE, conversation_key, cold_seq + 1, cold_seq + count)
            await connection.fetch(UPDATE_COLD, conversation_key, cold_seq + count)
        return count

    async def unfinished(self, taken_before_ms: int, limit: int) -> list[ColdRange]:
        """Ranges whose object has to be written."""
        return [ColdRange(*row) for row in await self._read(SELECT_UNFINISHED, taken_before_ms, limit)]

    async def blanks(self, it: ColdRange) -> Blanks:
        """Which bodies must not be in an object."""
        async with self._reading.transaction(READ) as connection:
            rows = await connection.fetch(SELECT_BLANKS, it.conversation_key, it.first_seq, it.last_seq)
            _, floor_seq = await _cold_and_floor(connection, it.conversation_key)
        return Blanks(tuple(row[0] for row in rows), floor_seq)

    async def expired(self, limit: int) -> list[ColdRange]:
        """Ranges that nobody may read any more."""
        return [ColdRange(*row) for row in await self._read(SELECT_EXPIRED, limit)]

    async def forget(self, it: ColdRange) -> bool:
        """Drop a range."""
        async with self._locked(it.conversation_key) as connection:
            cold_seq, floor_seq = await _cold_and_floor(connection, it.conversation_key)
            if it.last_seq > floor_seq and cold_seq >= it.first_seq:
                return False
            if not await connection.fetch(FORGET, it.conversation_key, it.first_seq, it.name, it.next_name):
                return False
            await connection.fetch(NEEDS_MANIFEST, it.conversation_key)
        return True

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of these objects that a range names."""
        return {row[0] for row in await self._read(SELECT_KNOWN, [*names])}

    async def covering(self, conversation_id: str, first_seq: int, last_seq: int) -> list[ColdRange]:
        """The ranges that hold any of these entries."""
        rows = await self._read(SELECT_COVERING, conversation_id, first_seq, last_seq)
        return [ColdRange(*row) for row in rows]

    async def ranges(self, after: tuple[int, int], limit: int) -> list[ColdRange]:
        """All ranges after a place."""
        return [ColdRange(*row) for row in await self._read(SELECT_RANGES, *after, limit)]

    async def manifests_due(self, limit: int) -> list[tuple[int, str, int]]:
        """Conversations whose manifest has to be written."""
        rows = await self._read(SELECT_MANIFESTS, limit)
        return [(key, name, version) for key, name, version in rows]

    async def manifest_written(self, conversation_key: int, version: int) -> None:
        """The manifest of this version is written."""
        async with self._locked(conversation_key) as connection:
            await connection.fetch(MANIFEST_WRITTEN, conversation_key, version)

    async def totals(self) -> ColdTotals:
        """Counts over the archived part."""
        (row,) = await self._read(SELECT_TOTALS)
        return ColdTotals(*row)

    async def restore(self, it: ColdRange, bodies: Mapping[int, bytes]) -> int:
        """Put bodies back."""
        key = it.conversation_key
        async with self._locked(key) as connection:
            cold_seq, floor_seq = await _cold_and_floor(connection, key)
            if cold_seq > it.last_seq:
                raise UnavailableError(
                    "a newer range of this conversation has to be restored first", retry_after_s=RETRY_AFTER_S
                )
            first = max(it.first_seq, cold_seq - RESTORE_MAX + 1)
            if cold_seq < first:
                return 0
            recalled = {row[0] for row in await connection.fetch(SELECT_BLANKS, key, first, cold_seq)}
            seqs = [seq for seq in range(max(first, floor_seq + 1), cold_seq + 1) if seq not in recalled]
            wanted = [seq for seq in seqs if seq in bodies]
            await connection.fetch(RESTORE, key, wanted, [bodies[seq] for seq in wanted])
            await connection.fetch(UPDATE_COLD, key, first - 1)
        return cold_seq - first + 1

    async def space(self) -> Space:
        """The size of the database; what is free in it for new rows is not known."""
        ((total,),) = await self._read(SELECT_SPACE)
        return Space(total, 0, False)

    async def shrink(self, bytes_max: int) -> int:
        """Nothing: autovacuum makes room for new rows, and VACUUM FULL, which locks tables, gives it back."""
        return 0


async def _cold_and_floor(connection: Connection, key: int) -> tuple[int, int]:
    rows = await connection.fetch(SELECT_FLOOR, key)
    return (rows[0][0], rows[0][1]) if rows else (0, 0)
