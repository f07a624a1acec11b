"""The index of search on PostgreSQL: a tsvector of terms for each message, kept by whichever node has its turn.

It follows the log by conversation: a step takes up what is between `search_progress` and the head of some of them. A
lock that ends with the transaction lets one node do it at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import anyio.to_thread

from ...core.log.marks import NO_MARKS
from ...core.search import Term
from ...drivers.postgres import READ, Connection, Database, Deadlines
from ..search import (
    CONVERSATIONS_MAX,
    INDEX_MAX,
    PLACE_BITS,
    Candidate,
    Candidates,
    Proposed,
    Wanted,
    candidate_of,
    conversation_terms,
    edit_in,
    first_place,
    indexed_terms,
    is_shown,
    places_of,
    wanted_terms,
)
from ..verify_entries import entry_fault, recalled_seq
from . import reads
from .columns import columns
from .references import marks

TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(1667785077, 6)"
SELECT_BEHIND: Final = """
SELECT c.conversation_key FROM conversation AS c
LEFT JOIN search_progress AS p ON p.conversation_key = c.conversation_key
WHERE c.head_seq > coalesce(p.indexed_seq, 0) LIMIT $1
"""
"""It goes through all conversations, but only at the node that has its turn, when something was written since it found
none."""

SELECT_IS_BEHIND: Final = """
SELECT EXISTS (
    SELECT FROM conversation_member AS m
    CROSS JOIN LATERAL (
        SELECT f.head_seq FROM conversation AS f WHERE f.conversation_key = m.conversation_key OFFSET 0
    ) AS c
    LEFT JOIN LATERAL (
        SELECT f.indexed_seq FROM search_progress AS f WHERE f.conversation_key = m.conversation_key OFFSET 0
    ) AS p ON true
    WHERE m.user_id = $1 AND m.leave_seq IS NULL AND c.head_seq > coalesce(p.indexed_seq, 0)
)
"""

SELECT_SPANS: Final = """
SELECT c.conversation_key, coalesce(p.indexed_seq, 0), c.head_seq FROM unnest($1::bigint[]) AS k (conversation_key)
JOIN conversation AS c ON c.conversation_key = k.conversation_key
LEFT JOIN search_progress AS p ON p.conversation_key = k.conversation_key
WHERE c.head_seq > coalesce(p.indexed_seq, 0)
"""
SELECT_NEW: Final = """
SELECT e.conversation_key, e.seq, e.kind, e.sender_id, e.server_ts, e.payload
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (conversation_key, first_seq, last_seq)
CROSS JOIN LATERAL (
    SELECT * FROM message AS f
    WHERE f.conversation_key = k.conversation_key AND f.seq BETWEEN k.first_seq AND k.last_seq OFFSET 0
) AS e
JOIN conversation AS c ON c.conversation_key = e.conversation_key
WHERE e.seq > c.floor_seq
    AND NOT EXISTS (SELECT FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
ORDER BY e.conversation_key, e.seq
"""
SELECT_LAST_PLACES: Final = """
SELECT k.first, (SELECT max(s.place) FROM search_entry AS s WHERE s.place >= k.first AND s.place < k.first + $2)
FROM unnest($1::bigint[]) AS k (first)
"""
SELECT_TIMES: Final = """
SELECT e.conversation_key, e.seq, e.server_ts FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
CROSS JOIN LATERAL (
    SELECT * FROM message AS f WHERE f.conversation_key = k.conversation_key AND f.seq = k.seq OFFSET 0
) AS e
"""
INSERT_ENTRIES: Final = """
INSERT INTO search_entry (place, conversation_key, message_seq, seq, terms)
SELECT k.place, k.conversation_key, k.message_seq, k.seq, array_to_tsvector(string_to_array(k.words, ' '))
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
    AS k (place, conversation_key, message_seq, seq, words)
ON CONFLICT (conversation_key, seq) DO UPDATE SET terms = excluded.terms
"""
DELETE_ENTRIES: Final = """
DELETE FROM search_entry AS s USING unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
WHERE s.conversation_key = k.conversation_key AND s.message_seq = k.seq
"""
DELETE_EXPIRED: Final = """
DELETE FROM search_entry AS s USING conversation AS c
WHERE c.conversation_key = ANY ($1::bigint[]) AND s.conversation_key = c.conversation_key
    AND s.message_seq <= c.floor_seq
"""
NOTE_PROGRESS: Final = """
INSERT INTO search_progress AS p (conversation_key, indexed_seq)
SELECT k.conversation_key, k.seq FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
ON CONFLICT (conversation_key) DO UPDATE SET indexed_seq = excluded.indexed_seq
"""
SELECT_KEYS: Final = """
SELECT m.conversation_key FROM conversation_member AS m WHERE m.user_id = $1 AND m.leave_seq IS NULL
"""
SELECT_FOUND: Final = """
SELECT s.place, s.conversation_key, s.message_seq, s.seq FROM search_entry AS s
WHERE s.terms @@ $1::text::tsquery AND s.place >= $2 AND s.place < $3 ORDER BY s.place DESC LIMIT $4
"""
SELECT_FOUND_AMONG: Final = """
SELECT s.place, s.conversation_key, s.message_seq, s.seq FROM search_entry AS s
WHERE s.terms @@ $1::text::tsquery AND s.place >= $2 AND s.place < $3 AND s.conversation_key = ANY ($5::bigint[])
ORDER BY s.place DESC LIMIT $4
"""
SELECT_VISIBLE: Final = """
SELECT k.place, e.conversation_key, e.seq, c.conversation_id, c.epoch, e.epoch, e.sender_id, e.server_ts, e.payload,
    e.client_msg_id
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (place, conversation_key, seq)
CROSS JOIN LATERAL (
    SELECT * FROM message AS f WHERE f.conversation_key = k.conversation_key AND f.seq = k.seq OFFSET 0
) AS e
JOIN conversation AS c ON c.conversation_key = e.conversation_key
WHERE e.kind = 'USER' AND e.seq > c.floor_seq
    AND EXISTS (SELECT FROM conversation_member AS m
        WHERE m.conversation_key = e.conversation_key AND m.user_id = $4 AND m.leave_seq IS NULL)
    AND EXISTS (SELECT FROM conversation_member AS m
        WHERE m.conversation_key = e.conversation_key AND m.user_id = $4
            AND coalesce(m.first_seq, m.join_seq) <= e.seq AND coalesce(m.leave_seq, e.seq + 1) > e.seq)
    AND NOT EXISTS (SELECT FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
ORDER BY k.place DESC
"""
BY_WHAT_IS_ASKED: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
"""How often a term comes decides between the two indexes: a plan for any terms would take the wrong one."""

_SEARCHING: Final = Deadlines(statement_s=5.0, transaction_s=10.0)
_BEHIND_MAX: Final = 1_000


_Version = tuple[int, int, int, int, str]
"""(First place of its millisecond, or its place; conversation, message, own seq, words.)"""


class _New(NamedTuple):
    conversation_key: int
    seq: int
    kind: str
    sender_id: str
    server_ts: int
    payload: bytes


class PostgresSearch:
    """`storage.search.SearchIndex` on two pools.

    Args:
        database: For steps of the index.
        reading: For searches.
    """

    def __init__(self, database: Database, reading: Database) -> None:
        self._database = database
        self._reading = reading
        self._behind: list[int] = []
        self._taken_up = -1  # of the log's position

    async def open(self) -> None:
        """The migrations made it. What was written meanwhile is taken up."""
        self._taken_up = -1

    async def discard(self) -> None:
        """Nothing: other nodes may search, and what is recalled leaves by itself."""

    async def follow(self) -> int | None:
        """Take up entries of some conversations."""
        async with self._database.transaction() as connection:
            ((is_ours,),) = await connection.fetch(TRY_LOCK)
            if not is_ours:
                self._behind = []
                return None
            if not self._behind and not await self._look(connection):
                return 0
            keys, self._behind = self._behind[:INDEX_MAX], self._behind[INDEX_MAX:]
            spans = _bounded(tuple(row) for row in await connection.fetch(SELECT_SPANS, keys))
            if spans:
                await _take_up(connection, spans)
        taken = {key for key, _, _ in spans}
        self._behind += [key for key in keys if key not in taken]
        return max(1, sum(last - first + 1 for _, first, last in spans))

    async def _look(self, connection: Connection) -> bool:
        """Look for conversations with something new, if anything was written since the last look."""
        position = await reads.position(connection)
        if position == self._taken_up:
            return False
        self._behind = [row[0] for row in await connection.fetch(SELECT_BEHIND, _BEHIND_MAX)]
        if not self._behind:
            self._taken_up = position
        return bool(self._behind)

    async def is_behind(self, user_id: str) -> bool:
        """Whether any conversation of the user has something new."""
        async with self._reading.transaction(READ) as connection:
            ((is_behind,),) = await connection.fetch(SELECT_IS_BEHIND, user_id)
        return bool(is_behind)

    async def candidates(self, wanted: Wanted, before_place: int, limit: int) -> Candidates:
        """What the index proposes, as far as the user may see it, in one snapshot."""
        async with self._reading.transaction(READ, _SEARCHING) as connection:
            await connection.execute(BY_WHAT_IS_ASKED)
            if wanted.conversation_id is None:
                keys = [row[0] for row in await connection.fetch(SELECT_KEYS, wanted.user_id)]
            else:
                keys = [(await reads.joined(connection, wanted.conversation_id, wanted.user_id)).key]
            first, end = places_of(wanted, before_place)
            if not keys or first >= end:
                return Candidates((), None, 0)
            proposed = await _propose(connection, wanted_terms(wanted), keys, (first, end, limit))
            found = await _visible(connection, wanted.user_id, proposed)
        last_place = proposed[-1].place if len(proposed) == limit else None
        return Candidates(tuple(found), last_place, len(proposed))


async def _propose(
    connection: Connection, terms: Sequence[Term], keys: Sequence[int], bounds: tuple[int, int, int]
) -> list[Proposed]:
    """What the index finds in some conversations, the newest first."""
    if len(keys) <= CONVERSATIONS_MAX:
        rows = await connection.fetch(SELECT_FOUND, _tsquery(terms, conversation_terms(keys)), *bounds)
    else:
        rows = await connection.fetch(SELECT_FOUND_AMONG, _tsquery(terms, []), *bounds, keys)
    return [Proposed(*row) for row in rows]


async def _visible(connection: Connection, user_id: str, proposed: Sequence[Proposed]) -> list[Candidate]:
    """Those that the user may see and that are what they see of their message, the newest first."""
    rows = await connection.fetch(SELECT_VISIBLE, *columns([it[:3] for it in proposed], 3), user_id)
    said = await marks(connection, user_id, [(key, seq, seq) for _, key, seq, *_ in rows])
    by_place, found = {it.place: it for it in proposed}, []
    for place, key, seq, *row in rows:
        of_message = said.get((key, seq), NO_MARKS)
        if is_shown(by_place[place], of_message):
            found.append(candidate_of(user_id, of_message, place, key, seq, *row))
    return found


def _bounded(spans: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """(conversation, first seq, last seq) of the next entries of some conversations, `INDEX_MAX` together at most."""
    room, taken = INDEX_MAX, []
    for key, indexed_seq, head_seq in spans:
        last = min(head_seq, indexed_seq + room)
        if room <= 0:
            break
        taken.append((key, indexed_seq + 1, last))
        room -= last - indexed_seq
    return taken


async def _take_up(connection: Connection, spans: Sequence[tuple[int, int, int]]) -> None:
    keys, firsts, lasts = ([*column] for column in zip(*spans, strict=True))
    rows = [_New(*row) for row in await connection.fetch(SELECT_NEW, keys, firsts, lasts)]
    named = {(it.conversation_key, edit[0]) for it in rows if (edit := _edit_of(it)) is not None}
    times = await connection.fetch(SELECT_TIMES, *columns(named, 2)) if named else []
    entries = await anyio.to_thread.run_sync(_entries, rows, {(key, seq): ts for key, seq, ts in times})
    if entries:
        await connection.fetch(
            INSERT_ENTRIES, *map(list, zip(*await _placed(connection, entries), strict=True))
        )
    recalled = [(it.conversation_key, recalled_seq(it.payload)) for it in rows if _is_recall(it)]
    if recalled:  # the triggers did not see what was being taken up
        await connection.fetch(DELETE_ENTRIES, *map(list, zip(*recalled, strict=True)))
    await connection.fetch(DELETE_EXPIRED, keys)
    await connection.fetch(NOTE_PROGRESS, keys, lasts)


def _entries(rows: Iterable[_New], times: Mapping[tuple[int, int], int]) -> list[_Version]:
    """Each version with words of a message."""
    found = []
    for it in rows:
        edit = _edit_of(it)
        message_seq, payload = (it.seq, it.payload) if edit is None else edit
        if edit is None and it.kind != "USER":
            continue
        terms = indexed_terms(it.conversation_key, it.sender_id, payload)
        if terms:
            at_ms = times.get((it.conversation_key, message_seq), it.server_ts)
            found.append((first_place(at_ms), it.conversation_key, message_seq, it.seq, " ".join(terms)))
    return found


def _edit_of(it: _New) -> tuple[int, bytes] | None:
    return edit_in(it.payload) if it.kind == "EDIT" else None


async def _placed(connection: Connection, entries: Sequence[_Version]) -> list[_Version]:
    """The same with a place for each."""
    firsts = sorted({it[0] for it in entries})
    rows = await connection.fetch(SELECT_LAST_PLACES, firsts, 1 << PLACE_BITS)
    following = {first: first if last is None else last + 1 for first, last in rows}
    placed = []
    for first, key, message_seq, seq, words in entries:
        placed.append((following[first], key, message_seq, seq, words))
        following[first] += 1
    return placed


def _is_recall(it: _New) -> bool:
    return it.kind == "RECALL" and entry_fault("RECALL", it.payload, is_recalled=False, is_cold=False) is None


def _tsquery(terms: Iterable[Term], any_of: Sequence[Term]) -> str:
    """All of some terms, and one of others, if there are any. No term has a quotation mark or a backslash in it."""
    one_of = [f"({' | '.join(map(_quoted, any_of))})"] if any_of else []
    return " & ".join((*map(_quoted, terms), *one_of))


def _quoted(term: Term) -> str:
    return f"'{term.text}'{':*' if term.is_prefix else ''}"
