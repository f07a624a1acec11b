"""The reads on PostgreSQL. Each function takes a connection inside one snapshot and returns plain values.

Nothing here writes or locks. Called by `store`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...core.cursors import delivery_state
from ...core.log import reads as rules
from ...core.log.marks import NO_MARKS, StoredMarks, shown_bytes
from ...core.log.outcomes import message_place
from ...core.log.rules import (
    MEMBERS_SHOWN_MAX,
    author_range,
    check_allowed,
    intervals_of_pair,
    members_of,
    members_of_pair,
    not_found,
)
from ...core.policy import Policy
from ...core.visibility import Interval
from ...drivers.postgres import RETRY_AFTER_S, Connection, Row
from ...errors import UnavailableError
from ...wire.payload import RECALLED
from ..base import (
    Ban,
    Block,
    Conversation,
    ConversationHead,
    Delivery,
    Entry,
    KeptLogin,
    ListedConversation,
    ListedHead,
    MemberCursor,
    MembershipChange,
    MembershipChanges,
    OutboxEntry,
    Page,
    PinRow,
    ReadCounts,
    RecentPage,
    RecentPlace,
    Revocation,
    Status,
    message_id,
)
from ..body import body_fault
from ..pins import seqs_that_fit
from ..recent import page_of, rows_shown
from ..unread import NOTHING, Place, Unread, UnreadCounts
from .columns import columns
from .references import marks
from .references import pins as pins_of

_logger = logging.getLogger(__name__)

_END: Final = 2**63 - 1

SELECT_CONVERSATION = """
SELECT
    c.conversation_key, c.conversation_id, c.type, c.title, c.epoch, c.head_seq, c.owner_id, c.single_pair,
    c.member_count, c.history, m.join_seq, m.role, c.cold_seq, c.floor_seq, c.description
FROM conversation_name AS n
JOIN conversation AS c ON c.conversation_key = n.conversation_key
LEFT JOIN conversation_member AS m ON m.conversation_key = n.conversation_key AND m.user_id = $2
    AND m.leave_seq IS NULL
WHERE n.conversation_id = $1
"""
_MEMBERSHIPS = """
SELECT {first}, leave_seq FROM conversation_member AS f WHERE conversation_key = $1 AND user_id = $2
    AND join_seq >= coalesce((
        SELECT max(f.join_seq) FROM conversation_member AS f
        WHERE f.conversation_key = $1 AND f.user_id = $2 AND {first} <= $3), 0)
ORDER BY join_seq LIMIT $4
"""
SELECT_MEMBERSHIPS = _MEMBERSHIPS.format(first="f.join_seq")
SELECT_READABLE = _MEMBERSHIPS.format(first="coalesce(f.first_seq, f.join_seq)")
"""Those from a seq on; each one holds at least one entry, so a page of n needs no more than n + 2 of them."""

_OF_RANGES = """
FROM unnest($2::bigint[], $3::bigint[]) AS k (first_seq, last_seq)
JOIN message AS e ON e.conversation_key = $1 AND e.seq BETWEEN k.first_seq AND k.last_seq
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
ORDER BY e.seq
"""
SELECT_SIZES = "SELECT e.seq, octet_length(e.payload), r.recalled_by_seq" + _OF_RANGES
SELECT_ENTRIES = (
    "SELECT e.seq, e.epoch, e.sender_id, e.server_ts, e.payload, e.client_msg_id, r.recalled_by_seq"
    + _OF_RANGES
)
_HEAD = """
SELECT
    c.conversation_id, c.type, c.epoch, c.head_seq,
    greatest(c.floor_seq + 1, (SELECT coalesce(f.first_seq, f.join_seq) FROM conversation_member AS f
        WHERE f.conversation_key = c.conversation_key AND f.user_id = u.user_id ORDER BY f.join_seq LIMIT 1)),
    {delivered} AS delivered,
    u.read_seq,
    coalesce((SELECT min(o.delivered_seq) FROM member_cursor AS o
        WHERE o.conversation_key = c.conversation_key AND o.is_member AND o.user_id <> u.user_id), 0),
    coalesce((SELECT min(o.read_seq) FROM member_cursor AS o
        WHERE o.conversation_key = c.conversation_key AND o.is_member AND o.user_id <> u.user_id), 0),
    c.title, c.last_activity_ms, c.conversation_key{listed}
FROM {source}
JOIN member_cursor AS u ON u.conversation_key = c.conversation_key AND u.user_id = $1
LEFT JOIN mute AS x ON x.conversation_key = u.conversation_key AND x.user_id = u.user_id
"""
_DEVICE_DELIVERED = """
    coalesce((SELECT d.delivered_seq FROM device_cursor AS d WHERE d.conversation_key = c.conversation_key
        AND d.user_id = u.user_id AND d.device_id = ${place}), u.device_seq)
"""
_MUTED = ", coalesce(x.until_ms, 0), coalesce(x.but_mentions, false)"
_LISTED = (
    _MUTED
    + """, c.description,
    c.history, c.owner_id, c.single_pair, c.role, c.join_seq, c.silenced_until_ms
"""
)
_OF_USER = """conversation_member AS m JOIN conversation AS c ON c.conversation_key = m.conversation_key"""
_PAGE_OF_USER = f"""(
    SELECT c.*, m.role, m.join_seq, m.silenced_until_ms FROM {_OF_USER}
    WHERE m.user_id = $1 AND m.leave_seq IS NULL AND c.conversation_id > $2
    ORDER BY c.conversation_id LIMIT $3
) AS c"""  # noqa: S608 -- joined from constants of this module only
_RECENT_OF_USER = f"""(
    SELECT c.*, m.role, m.join_seq, m.silenced_until_ms FROM {_OF_USER}
    WHERE m.user_id = $1 AND m.leave_seq IS NULL
        AND (c.last_activity_ms < $2 OR (c.last_activity_ms = $2 AND c.conversation_id > $3))
    ORDER BY c.last_activity_ms DESC, c.conversation_id LIMIT $4
) AS c"""  # noqa: S608 -- joined from constants of this module only
SELECT_HEADS = (
    "SELECT * FROM ("  # noqa: S608 -- joined from constants of this module only
    + _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=2), source=_OF_USER, listed=_MUTED)
    + "WHERE m.user_id = $1 AND m.leave_seq IS NULL) AS h "
    + "ORDER BY delivered >= head_seq, last_activity_ms DESC, conversation_id"
)
SELECT_ROWS_OF_DEVICE = (
    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=4), source=_PAGE_OF_USER, listed=_LISTED)
    + "ORDER BY c.conversation_id"
)
SELECT_ROWS_OF_USER = (
    _HEAD.format(delivered="u.delivered_seq", source=_PAGE_OF_USER, listed=_LISTED)
    + "ORDER BY c.conversation_id"
)
_BY_ACTIVITY = "ORDER BY c.last_activity_ms DESC, c.conversation_id"
SELECT_RECENT_OF_DEVICE = (
    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=5), source=_RECENT_OF_USER, listed=_LISTED)
    + _BY_ACTIVITY
)
SELECT_RECENT_OF_USER = (
    _HEAD.format(delivered="u.delivered_seq", source=_RECENT_OF_USER, listed=_LISTED) + _BY_ACTIVITY
)
SELECT_UNREAD = f"""
SELECT k.place, (
    SELECT count(*) FROM (
        SELECT FROM conversation_member AS v
        JOIN message AS e ON e.conversation_key = v.conversation_key
            AND e.seq >= greatest(v.join_seq, k.first_seq) AND e.seq < coalesce(v.leave_seq, {_END})
        WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id
            AND coalesce(v.leave_seq, {_END}) > k.first_seq
            AND e.kind = 'USER' AND e.sender_id <> k.user_id AND NOT EXISTS (
                SELECT FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
        LIMIT $1
    ) AS found
), (
    SELECT count(*) FROM (
        SELECT FROM mention AS t
        CROSS JOIN LATERAL (
            SELECT FROM message AS f
            WHERE f.conversation_key = t.conversation_key AND f.seq = t.seq AND f.sender_id <> k.user_id OFFSET 0
        ) AS e
        WHERE t.conversation_key = k.conversation_key AND t.user_id IN (k.user_id, '*') AND t.seq > k.read_seq
            AND EXISTS (SELECT FROM conversation_member AS v
                WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id
                    AND t.seq >= v.join_seq AND t.seq < coalesce(v.leave_seq, {_END}))
        LIMIT $1
    ) AS found
)
FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY
    AS k (conversation_key, user_id, first_seq, read_seq, place)
ORDER BY k.place
"""  # noqa: S608 -- a constant
SELECT_LAST = f"""
SELECT e.conversation_key, e.seq, octet_length(e.payload), r.recalled_by_seq
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS k (conversation_key, first_seq, head_seq)
CROSS JOIN LATERAL (
    SELECT n.conversation_key, n.seq, n.payload FROM message AS n
    WHERE n.conversation_key = k.conversation_key AND n.seq BETWEEN k.first_seq AND k.head_seq AND n.kind = 'USER'
        AND EXISTS (SELECT FROM conversation_member AS v
            WHERE v.conversation_key = k.conversation_key AND v.user_id = $1
                AND coalesce(v.first_seq, v.join_seq) <= n.seq AND coalesce(v.leave_seq, {_END}) > n.seq)
    ORDER BY n.seq DESC LIMIT 1
) AS e
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""  # noqa: S608 -- a constant
"""The newest message of each that the reader may see: the log is walked down from its head."""
SELECT_LAST_ENTRIES = """
SELECT e.conversation_key, e.seq, e.epoch, e.sender_id, e.server_ts, e.payload, e.client_msg_id, r.recalled_by_seq,
    c.cold_seq
FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_key, seq)
JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
JOIN conversation AS c ON c.conversation_key = k.conversation_key
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
SELECT_MEMBERS = """
SELECT m.user_id, m.role, m.join_seq, m.silenced_until_ms, u.delivered_seq, u.read_seq FROM conversation_member AS m
JOIN member_cursor AS u ON u.conversation_key = m.conversation_key AND u.user_id = m.user_id
WHERE m.conversation_key = $1 AND m.leave_seq IS NULL AND m.user_id > $2 ORDER BY m.user_id LIMIT $3
"""
SELECT_FIRST_MEMBERS = """
SELECT user_id FROM conversation_member
WHERE conversation_key = $1 AND leave_seq IS NULL ORDER BY user_id LIMIT $2
"""
SELECT_BANS = """
SELECT user_id, by_id, since_ms FROM conversation_ban
WHERE conversation_key = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
"""
SELECT_BLOCKS = """
SELECT blocked_id, since_ms FROM block WHERE user_id = $1 AND blocked_id > $2 ORDER BY blocked_id LIMIT $3
"""
SELECT_MESSAGE = """
SELECT e.epoch, e.sender_id, e.server_ts FROM conversation AS c
JOIN conversation_member AS m ON m.conversation_key = c.conversation_key AND m.user_id = $3 AND m.leave_seq IS NULL
JOIN message AS e ON e.conversation_key = c.conversation_key AND e.seq = $2
WHERE c.conversation_key = $1
"""
_HOLDS = f"""
    EXISTS (SELECT FROM conversation_member AS v WHERE v.conversation_key = u.conversation_key
        AND v.user_id = u.user_id AND v.join_seq <= $3 AND coalesce(v.leave_seq, {_END}) > $3)
"""
SELECT_COUNTS = f"""
SELECT count(*), count(*) FILTER (WHERE u.delivered_seq >= $3 OR EXISTS (
        SELECT FROM device_exact AS x
        WHERE x.conversation_key = u.conversation_key AND x.user_id = u.user_id AND x.seq = $3
    )), count(*) FILTER (WHERE u.read_seq >= $3)
FROM member_cursor AS u
WHERE u.conversation_key = $1 AND u.is_member AND u.user_id <> $2 AND {_HOLDS}
"""  # noqa: S608 -- joined from constants of this module only
SELECT_DELIVERIES = f"""
SELECT v.user_id, v.device_id, coalesce(d.delivered_seq, u.device_seq), coalesce(d.updated_ms, v.first_seen_ms),
    u.read_seq, u.read_ms,
    EXISTS (SELECT FROM device_exact AS x WHERE x.conversation_key = u.conversation_key
        AND x.user_id = v.user_id AND x.device_id = v.device_id AND x.seq = $3)
FROM member_cursor AS u
JOIN device AS v ON v.user_id = u.user_id
LEFT JOIN device_cursor AS d ON d.conversation_key = u.conversation_key AND d.user_id = v.user_id
    AND d.device_id = v.device_id
WHERE u.conversation_key = $1 AND u.is_member AND u.user_id >= $4 AND u.user_id <> $2
    AND (v.user_id, v.device_id) > ($4, $5) AND {_HOLDS}
ORDER BY u.user_id, v.device_id LIMIT $6
"""  # noqa: S608 -- joined from constants of this module only
SELECT_NEWEST_BY_AUTHOR = (
    "SELECT sender_id, max(seq) FROM message WHERE conversation_key = $1 AND seq BETWEEN $2 AND $3 "
    "AND kind = 'USER' AND sender_id = ANY ($4::text[]) GROUP BY sender_id ORDER BY sender_id"
)
SELECT_OUTBOX = """
SELECT c.conversation_id, o.first_seq, c.head_seq, o.since_ms
FROM (SELECT * FROM outbox ORDER BY conversation_key LIMIT $1) AS o
CROSS JOIN LATERAL (
    SELECT * FROM conversation AS f WHERE f.conversation_key = o.conversation_key OFFSET 0
) AS c
ORDER BY o.conversation_key
"""
SELECT_HEAD_SEQS = """
SELECT n.conversation_id, c.epoch, c.head_seq FROM conversation_name AS n
JOIN conversation AS c ON c.conversation_key = n.conversation_key
WHERE n.conversation_id = ANY ($1::text[])
"""
SELECT_NEWEST_CHANGE = "SELECT coalesce(max(audit_id), 0) FROM audit WHERE action IN ('CREATED', 'ADDED')"
SELECT_JOINS = """
SELECT a.audit_id, c.conversation_id, a.subject, e.payload FROM audit AS a
JOIN conversation AS c ON c.conversation_key = a.conversation_key
LEFT JOIN message AS e ON a.action = 'CREATED' AND e.conversation_key = a.conversation_key AND e.seq = a.seq
WHERE a.audit_id > $1 AND a.action IN ('CREATED', 'ADDED') ORDER BY a.audit_id LIMIT $2
"""
SELECT_RESUME_HASHES = """
SELECT t.user_id, t.device_id, t.token_hash FROM unnest($1::text[], $2::text[]) AS k (user_id, device_id)
JOIN resume_token AS t ON t.user_id = k.user_id AND t.device_id = k.device_id
"""
_SHARED = """
FROM conversation_member AS m
JOIN conversation AS c ON c.conversation_key = m.conversation_key AND c.member_count <= {most}
JOIN conversation_member AS o ON o.conversation_key = m.conversation_key AND o.leave_seq IS NULL
WHERE m.user_id = {user} AND m.leave_seq IS NULL AND o.user_id <> m.user_id
"""
SELECT_CONTACTS = f"""
SELECT k.user_id, f.user_id FROM unnest($1::text[]) AS k (user_id)
CROSS JOIN LATERAL (
    SELECT DISTINCT o.user_id {_SHARED.format(user="k.user_id", most="$2")}
        AND NOT EXISTS (SELECT FROM block AS b WHERE b.user_id = k.user_id AND b.blocked_id = o.user_id)
    ORDER BY o.user_id LIMIT $3
) AS f
ORDER BY k.user_id, f.user_id
"""  # noqa: S608 -- joined from constants of this module only
SELECT_KNOWN_TO = f"""
SELECT k.user_id, (SELECT max(d.last_seen_ms) FROM device AS d WHERE d.user_id = k.user_id)
FROM unnest($2::text[]) AS k (user_id)
WHERE EXISTS (SELECT {_SHARED.format(user="$1", most="$3")} AND o.user_id = k.user_id)
    AND NOT EXISTS (SELECT FROM block AS b WHERE b.user_id = k.user_id AND b.blocked_id = $1)
"""  # noqa: S608 -- joined from constants of this module only
SELECT_NEW_REVOCATIONS = (
    "SELECT position, kind, user_id, device_id, token_hash, at_ms, ends_ms FROM revocation "
    "WHERE position > $1 ORDER BY position LIMIT $2"
)
SELECT_KEPT_LOGIN = (
    "SELECT user_id, device_id, identity_expires_ms, scope FROM resume_token WHERE token_hash = $1"
)
SELECT_POSITION = "SELECT coalesce(sum(added), 0)::bigint FROM log_position"
SELECT_CONVERSATION_IDS = """
SELECT conversation_id FROM conversation_name WHERE conversation_id > $1 ORDER BY conversation_id LIMIT $2
"""


class _Found:
    """A conversation as reads need it."""

    def __init__(self, row: Row) -> None:
        self.key, self.conversation_id, self.type, self.title, self.epoch, self.head_seq, *rest = row
        self.owner_id, self.pair, self.member_count, self.history, self.join_seq, self.granted, *rest = rest
        self.cold_seq, self.floor_seq, self.description = rest


async def _find(connection: Connection, conversation_id: str, user_id: str = "") -> _Found | None:
    rows = await connection.fetch(SELECT_CONVERSATION, conversation_id, user_id)
    return _Found(rows[0]) if rows else None


async def joined(connection: Connection, conversation_id: str, user_id: str) -> _Found:
    """A conversation, for a current member of it. Raises NotFoundError."""
    found = await _find(connection, conversation_id, user_id)
    if found is None or found.join_seq is None:
        raise not_found()
    return found


async def pins(connection: Connection, conversation_id: str, user_id: str, bytes_max: int) -> list[PinRow]:
    """What is pinned. Raises as `page` does."""
    found = await joined(connection, conversation_id, user_id)
    pinned = await pins_of(connection, found.key, user_id)
    if not pinned or bytes_max <= 0:
        return pinned
    spans = [(it.seq, it.seq) for it in pinned]
    said = await marks(connection, user_id, [(found.key, *span) for span in spans])
    shown = {seq: it for (_, seq), it in said.items()}
    sizes = {
        seq: size + shown.get(seq, NO_MARKS).size_bytes
        for seq, size, _ in await _of_ranges(connection, SELECT_SIZES, found.key, spans)
    }
    spans = [(seq, seq) for seq in seqs_that_fit(pinned, sizes, bytes_max)]
    rows = await _of_ranges(connection, SELECT_ENTRIES, found.key, spans)
    entries = {row[0]: _entry(found, row, user_id, shown.get(row[0], NO_MARKS)) for row in rows}
    return [it._replace(entry=entries.get(it.seq)) for it in pinned]


async def page(
    connection: Connection,
    conversation_id: str,
    user_id: str,
    after_seq: int,
    limit: int,
    bytes_max: int,
    history: bool,
) -> Page:
    """Visible entries after a seq, bounded in number and bytes.

    Raises:
        NotFoundError: Not a member.
        UnavailableError: A body of the page is not what was stored; nothing of the page is served.
    """
    found = await joined(connection, conversation_id, user_id)
    after_seq = max(after_seq, found.floor_seq)
    if found.pair is None:
        place = (found.key, user_id, after_seq + 1, limit + 2)
        memberships = await connection.fetch(SELECT_READABLE if history else SELECT_MEMBERSHIPS, *place)
        intervals = [Interval(*row) for row in memberships]
    else:
        intervals = intervals_of_pair(found.pair, user_id)
    ranges = rules.page_ranges(intervals, after_seq, found.head_seq, limit)
    shown = await marks(connection, user_id, [(found.key, *span) for span in ranges])
    sizes = [
        (seq, shown_bytes(size, shown.get((found.key, seq), NO_MARKS), recalled=recalled_by is not None))
        for seq, size, recalled_by in await _of_ranges(connection, SELECT_SIZES, found.key, ranges)
    ]
    last = rules.last_that_fits(sizes, bytes_max)
    spans = [(first, min(end, last)) for first, end in ranges if last is not None and first <= last]
    rows = await _of_ranges(connection, SELECT_ENTRIES, found.key, spans)
    up_to_seq = rules.page_end(intervals, last, found.head_seq)
    listed = tuple(_entry(found, row, user_id, shown.get((found.key, row[0]), NO_MARKS)) for row in rows)
    more = up_to_seq < found.head_seq
    return Page(conversation_id, found.epoch, found.head_seq, listed, up_to_seq, more, found.floor_seq)


async def _of_ranges(
    connection: Connection, sql: str, key: int, ranges: Sequence[tuple[int, int]]
) -> list[Row]:
    """Rows of (first seq, last seq), ascending."""
    if not ranges:
        return []
    return await connection.fetch(sql, key, [first for first, _ in ranges], [last for _, last in ranges])


async def entries(connection: Connection, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
    """The log itself after a seq, whoever may see it."""
    found = await _find(connection, conversation_id)
    if found is None:
        return []
    after_seq = max(after_seq, found.floor_seq)
    rows = await _of_ranges(
        connection, SELECT_ENTRIES, found.key, [(after_seq + 1, min(after_seq + limit, _END))]
    )
    return [_entry(found, row, None) for row in rows]


def _entry(found: _Found, row: Row, reader_id: str | None, shown: StoredMarks = NO_MARKS) -> Entry:
    """A row as the contract shows it: with its key to its author, or to nobody in particular."""
    place = (found.conversation_id, found.epoch, found.key)
    return _entry_of(*place, tuple(row), reader_id, found.cold_seq, shown)


def _entry_of(
    conversation_id: str,
    log_epoch: str,
    key: int,
    row: tuple[Any, ...],
    reader_id: str | None,
    cold_seq: int,
    shown: StoredMarks = NO_MARKS,
) -> Entry:
    seq, epoch, sender_id, server_ts, payload, client_msg_id, recalled_by = row
    if recalled_by is None and (payload or seq > cold_seq):  # a body that is in the archive is empty here
        _check_body(conversation_id, seq, payload)
    return Entry(
        conversation_id,
        log_epoch,
        message_id(key, epoch, seq),
        seq,
        sender_id,
        server_ts,
        payload if recalled_by is None else RECALLED,
        client_msg_id if reader_id is None or sender_id == reader_id else None,
        shown.edit if recalled_by is None else None,
        shown.reactions if recalled_by is None else (),
        shown.stream if recalled_by is None else None,
    )


def _check_body(conversation_id: str, seq: int, payload: bytes) -> None:
    """A body goes into an answer as it is, so one that is no JSON object would break all of the answer."""
    if fault := body_fault(payload, is_recalled=False):
        place = f"conversation {conversation_id}, seq {seq}"
        _logger.error("the log is damaged: %s: %s", place, fault)
        raise UnavailableError(f"storage is damaged: {place}", retry_after_s=RETRY_AFTER_S)


async def heads(connection: Connection, user_id: str, device_id: str) -> list[ListedHead]:
    """The user's conversations, for one device."""
    rows = await connection.fetch(SELECT_HEADS, user_id, device_id)
    return [ListedHead(*row[:11], *row[12:]) for row in map(list, rows)]


async def head_seqs(connection: Connection, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """(epoch, head) of each conversation that exists."""
    rows = await connection.fetch(SELECT_HEAD_SEQS, list(conversation_ids))
    return {name: (epoch, head_seq) for name, epoch, head_seq in rows}


async def conversation(connection: Connection, conversation_id: str, user_id: str) -> Conversation:
    """One conversation, for a member of it."""
    found = await joined(connection, conversation_id, user_id)
    if found.pair is not None:
        members = members_of_pair(found.pair)[: found.member_count]
    else:
        rows = await connection.fetch(SELECT_FIRST_MEMBERS, found.key, MEMBERS_SHOWN_MAX)
        members = tuple(row[0] for row in rows)
    return Conversation(
        conversation_id,
        found.type,
        found.title,
        found.epoch,
        found.head_seq,
        found.member_count,
        members,
        found.history,
        found.description,
    )


async def conversations(
    connection: Connection,
    counts: UnreadCounts,
    user_id: str,
    device_id: str | None,
    after: str | None,
    limit: int,
) -> list[ListedConversation]:
    """A page of the user's conversations with what a list shows."""
    place = (user_id, after or "", limit)
    if device_id is None:
        rows = await connection.fetch(SELECT_ROWS_OF_USER, *place)
    else:
        rows = await connection.fetch(SELECT_ROWS_OF_DEVICE, *place, device_id)
    return await _conversation_rows(connection, counts, user_id, rows)


async def recent(
    connection: Connection,
    counts: UnreadCounts,
    user_id: str,
    device_id: str | None,
    after: RecentPlace | None,
    limit: int,
    bytes_max: int,
) -> RecentPage:
    """A page of the user's conversations, newest activity first, each with its last message."""
    place = (user_id, *(after or (_END, "")), limit + 1)
    if device_id is None:
        found = await connection.fetch(SELECT_RECENT_OF_USER, *place)
    else:
        found = await connection.fetch(SELECT_RECENT_OF_DEVICE, *place, device_id)
    rows = found[:limit]
    firsts = [rules.first_of_preview(row[4], row[3]) for row in rows]
    keys, heads_of = [row[11] for row in rows], [row[3] for row in rows]
    last = {
        key: (seq, size, recalled_by)
        for key, seq, size, recalled_by in await connection.fetch(
            SELECT_LAST, user_id, keys, firsts, heads_of
        )
    }
    said = await marks(connection, user_id, [(key, seq, seq) for key, (seq, _, _) in last.items()])
    count = rows_shown(keys, last, said, bytes_max)
    shown = await _last_entries(connection, user_id, rows[:count], last, said)
    listed = await _conversation_rows(connection, counts, user_id, rows[:count])
    return page_of(listed, shown, more=count < len(found))


async def _last_entries(
    connection: Connection,
    user_id: str,
    rows: Sequence[Row],
    last: Mapping[int, tuple[int, int, str | None]],
    said: Mapping[tuple[int, int], StoredMarks],
) -> dict[str, Entry]:
    """The last message of each of these conversations that has one, by id."""
    places = [(row[11], last[row[11]][0]) for row in rows if row[11] in last]
    found = await connection.fetch(
        SELECT_LAST_ENTRIES, [key for key, _ in places], [seq for _, seq in places]
    )
    logs = {row[11]: (row[0], row[2], row[11]) for row in rows}
    return {
        logs[key][0]: _entry_of(
            *logs[key], tuple(entry), user_id, cold_seq, said.get((key, entry[0]), NO_MARKS).in_a_list
        )
        for key, *entry, cold_seq in map(list, found)
    }


async def _conversation_rows(
    connection: Connection, counts: UnreadCounts, user_id: str, rows: Sequence[Row]
) -> list[ListedConversation]:
    places: list[Place] = [(row[11], user_id, max(row[6], row[4] - 1), row[3]) for row in rows]
    return [
        _conversation_row(user_id, list(row), unread)
        for row, unread in zip(rows, await unread_at(connection, counts, places), strict=True)
    ]


def _conversation_row(user_id: str, row: list[Any], unread: Unread) -> ListedConversation:
    title, last_activity_ms, _, muted_until_ms, but_mentions, description, history, *member = row[9:]
    return ListedConversation(
        ConversationHead(*row[:9]),
        title,
        *unread,
        last_activity_ms,
        muted_until_ms,
        but_mentions,
        rules.member_of(user_id, *member),
        history,
        description,
    )


async def unread_at(connection: Connection, counts: UnreadCounts, places: Sequence[Place]) -> list[Unread]:
    """Of each place, in their order: the visible messages of others after the read cursor that are not recalled, and
    what of theirs mentions the user."""
    known = {place: counts.known(place) for place in places}
    missing = [place for place, count in known.items() if count is None]
    for place, count in zip(missing, await _count_unread(connection, missing), strict=True):
        known[place] = counts.keep(place, count)
    return [known[place] or NOTHING for place in places]


async def _count_unread(connection: Connection, places: Sequence[Place]) -> list[Unread]:
    if not places:
        return []
    firsts = [max(read_seq, head_seq - rules.UNREAD_ENTRIES_MAX) + 1 for _, _, read_seq, head_seq in places]
    keys, users, reads, _ = columns(places, 4)
    rows = await connection.fetch(SELECT_UNREAD, rules.UNREAD_MAX, keys, users, firsts, reads)
    return [(row[1], row[2]) for row in rows]


async def members(
    connection: Connection, conversation_id: str, user_id: str, after: str | None, limit: int
) -> list[MemberCursor]:
    """A page of the current members with their cursors."""
    found = await joined(connection, conversation_id, user_id)
    rows = await connection.fetch(SELECT_MEMBERS, found.key, after or "", limit)
    return [
        MemberCursor(rules.member_of(member, found.owner_id, found.pair, *standing), delivered, read)
        for member, *standing, delivered, read in map(list, rows)
    ]


async def bans(
    connection: Connection,
    conversation_id: str,
    user_id: str | None,
    policy: Policy,
    after: str | None,
    limit: int,
) -> list[Ban]:
    """A page of who is banned from a conversation."""
    found = await _find(connection, conversation_id, user_id or "")
    if found is None or (user_id is not None and found.join_seq is None):
        raise not_found()
    if user_id is not None:
        role = rules.role_of(user_id, found.granted, found.owner_id, found.pair)
        check_allowed(policy, role, "BAN_MEMBERS", None, found.type)
    return [Ban(*row) for row in await connection.fetch(SELECT_BANS, found.key, after or "", limit)]


async def blocks(connection: Connection, user_id: str, after: str | None, limit: int) -> list[Block]:
    """A page of whom a user blocked."""
    return [Block(*row) for row in await connection.fetch(SELECT_BLOCKS, user_id, after or "", limit)]


async def membership_changes(connection: Connection, after: int | None, limit: int) -> MembershipChanges:
    """Who joined any conversation after a position."""
    ((newest,),) = await connection.fetch(SELECT_NEWEST_CHANGE)
    rows = [] if after is None else await connection.fetch(SELECT_JOINS, after, limit)
    position = rows[-1][0] if rows and len(rows) == limit else max(newest, after or 0)
    return MembershipChanges(position, tuple(_join(*list(row)[1:]) for row in rows))


def _join(conversation_id: str, subject: str, payload: bytes | None) -> MembershipChange:
    if payload is None:
        return MembershipChange(conversation_id, (subject,), "JOINED")
    try:
        return MembershipChange(conversation_id, members_of(payload), "CREATED")
    except ValueError:  # msgspec's errors; their words could tell of the body
        place = f"conversation {conversation_id}: an entry that names no members"
        _logger.error("the log is damaged: %s", place)
        raise UnavailableError(f"storage is damaged: {place}", retry_after_s=RETRY_AFTER_S) from None


async def resume_hashes(
    connection: Connection, devices: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], bytes]:
    """Digest of each device's resume token."""
    users, names = [user for user, _ in devices], [name for _, name in devices]
    rows = await connection.fetch(SELECT_RESUME_HASHES, users, names)
    return {(user_id, device_id): token_hash for user_id, device_id, token_hash in rows}


async def contacts(
    connection: Connection, user_ids: Sequence[str], members_max: int, limit: int
) -> dict[str, list[str]]:
    """Who may know of each of these users."""
    found: dict[str, list[str]] = {}
    for user_id, other in await connection.fetch(SELECT_CONTACTS, list(user_ids), members_max, limit):
        found.setdefault(user_id, []).append(other)
    return found


async def known_to(
    connection: Connection, user_id: str, others: Sequence[str], members_max: int
) -> dict[str, int | None]:
    """Whom of the others a user may know of, and when they were last seen."""
    rows = await connection.fetch(SELECT_KNOWN_TO, user_id, list(others), members_max)
    return {row[0]: row[1] for row in rows}


async def revocations(connection: Connection, after: int, limit: int) -> list[Revocation]:
    """Those above a position."""
    return [Revocation(*row) for row in await connection.fetch(SELECT_NEW_REVOCATIONS, after, limit)]


async def kept_login(connection: Connection, token_hash: bytes) -> KeptLogin | None:
    """The login of a resume token."""
    rows = await connection.fetch(SELECT_KEPT_LOGIN, token_hash)
    return KeptLogin(*rows[0]) if rows else None


async def status(
    connection: Connection, name: str, user_id: str, after: tuple[str, str] | None, limit: int
) -> Status:
    """The state of a message, for its author."""
    place = message_place(name)
    if place is None:
        raise not_found()
    key, epoch, seq = place
    rows = await connection.fetch(SELECT_MESSAGE, key, seq, user_id)
    if not rows or (rows[0][0], rows[0][1]) != (epoch, user_id):
        raise not_found()
    ((counted, delivered, read),) = await connection.fetch(SELECT_COUNTS, key, user_id, seq)
    found = await connection.fetch(SELECT_DELIVERIES, key, user_id, seq, *(after or ("", "")), limit + 1)
    deliveries = tuple(_delivery(row, seq, rows[0][2]) for row in found[:limit])
    following = (deliveries[-1].user_id, deliveries[-1].device_id) if len(found) > limit else None
    word = rules.status_of(counted, delivered, read)
    return Status(word, counted, delivered, read, deliveries, following)


def _delivery(row: Row, seq: int, server_ts: int) -> Delivery:
    user_id, device_id, delivered_seq, updated_ms, read_seq, read_ms, exact = row
    state = delivery_state(seq, delivered_seq, [seq] if exact else [], read_seq)
    return Delivery(user_id, device_id, state, rules.state_ms(state, server_ts, updated_ms, read_ms))


async def read_counts(
    connection: Connection, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
) -> list[ReadCounts]:
    """How many of the others have got to the newest message of each of some authors in a range."""
    found = await _find(connection, conversation_id) if authors else None
    if found is None:
        return []
    first = author_range(after_seq, up_to_seq) + 1
    rows = await connection.fetch(SELECT_NEWEST_BY_AUTHOR, found.key, first, up_to_seq, list(authors))
    return [await _counts(connection, found.key, author, seq) for author, seq in rows]


async def _counts(connection: Connection, key: int, author: str, seq: int) -> ReadCounts:
    ((counted, delivered, read),) = await connection.fetch(SELECT_COUNTS, key, author, seq)
    return ReadCounts(author, seq, delivered, read, counted)


async def outbox(connection: Connection, limit: int) -> list[OutboxEntry]:
    """Open outbox rows, those of the oldest conversations first."""
    return [OutboxEntry(*row) for row in await connection.fetch(SELECT_OUTBOX, limit)]


async def position(connection: Connection) -> int:
    """How many entries and audit rows were ever written, above the floor of the last renewal."""
    ((found,),) = await connection.fetch(SELECT_POSITION)
    return int(found)


async def conversation_ids(connection: Connection, after: str, limit: int) -> list[str]:
    """The ids of all conversations after one, ascending."""
    return [row[0] for row in await connection.fetch(SELECT_CONVERSATION_IDS, after, limit)]
