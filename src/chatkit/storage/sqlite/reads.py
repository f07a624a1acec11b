"""The reads on SQLite. Each function takes a connection inside one snapshot and returns plain values.

Nothing here writes. Called by `store` on a connection of its pool.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from ...core.cursors import delivery_state
from ...core.log import reads as rules
from ...core.log.keys import Keys
from ...core.log.marks import NO_MARKS, StoredMarks, shown_bytes
from ...core.log.members import describe, keys_of_description
from ...core.log.outcomes import message_place
from ...core.log.rules import author_range, check_allowed, members_of, not_found
from ...core.log.state import ConversationState, MembershipState, State
from ...core.policy import Policy
from ...core.visibility import Interval
from ...drivers.sqlite import RETRY_AFTER_S, Connection, DamagedError, DamagedRowError, Row
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
from .cold import cold_and_floor
from .load import load
from .references import marks
from .references import pins as pins_of
from .select import select

_logger = logging.getLogger(__name__)


SELECT_NEW_REVOCATIONS = (
    "SELECT position, kind, user_id, device_id, token_hash, at_ms, ends_ms FROM revocation "
    "WHERE position > ? ORDER BY position LIMIT ?"
)
SELECT_KEPT_LOGIN = (
    "SELECT user_id, device_id, identity_expires_ms, scope FROM resume_token WHERE token_hash = ?"
)
_MEMBERSHIPS = """
SELECT {first}, leave_seq FROM conversation_member AS f WHERE conversation_key = ?1 AND user_id = ?2
    AND join_seq >= ifnull((
        SELECT max(f.join_seq) FROM conversation_member AS f
        WHERE f.conversation_key = ?1 AND f.user_id = ?2 AND {first} <= ?3), 0)
ORDER BY join_seq LIMIT ?4
"""
SELECT_MEMBERSHIPS = _MEMBERSHIPS.format(first="f.join_seq")
SELECT_READABLE = _MEMBERSHIPS.format(first="ifnull(f.first_seq, f.join_seq)")
"""Those from a seq on; each one holds at least one entry, so a page of n needs no more than n + 2 of them."""

_OF_RANGES = """
FROM k CROSS JOIN message AS e ON e.conversation_key = k.conversation_key
    AND e.seq BETWEEN k.first_seq AND k.last_seq
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
_RANGES = "WITH k (conversation_key, first_seq, last_seq) AS (VALUES {keys})"
SELECT_SIZES = _RANGES + "SELECT e.seq, length(e.payload), r.recalled_by_seq" + _OF_RANGES
SELECT_ENTRIES = (
    _RANGES
    + "SELECT e.seq, e.epoch, e.sender_id, e.server_ts, e.payload, e.client_msg_id, r.recalled_by_seq"
    + _OF_RANGES
)
SELECT_LAST_ENTRIES = f"""{_RANGES}
SELECT e.conversation_key, e.seq, e.epoch, e.sender_id, e.server_ts, e.payload, e.client_msg_id, r.recalled_by_seq,
    (SELECT c.cold_seq FROM conversation AS c WHERE c.conversation_key = e.conversation_key)
{_OF_RANGES}"""  # noqa: S608 -- joined from constants of this module only
_NEWEST_MS: Final = 9223372036854775807
_HEAD = """
SELECT
    c.conversation_id, c.type, c.epoch, c.head_seq,
    max(c.floor_seq + 1, (SELECT ifnull(f.first_seq, f.join_seq) FROM conversation_member AS f
        WHERE f.conversation_key = c.conversation_key AND f.user_id = u.user_id ORDER BY f.join_seq LIMIT 1)),
    {delivered} AS delivered,
    u.read_seq,
    ifnull((SELECT min(o.delivered_seq) FROM member_cursor AS o
        WHERE o.conversation_key = c.conversation_key AND o.is_member = 1 AND o.user_id <> u.user_id), 0),
    ifnull((SELECT min(o.read_seq) FROM member_cursor AS o
        WHERE o.conversation_key = c.conversation_key AND o.is_member = 1 AND o.user_id <> u.user_id), 0),
    c.title, c.last_activity_ms, c.conversation_key{listed}
FROM {source}
JOIN member_cursor AS u ON u.conversation_key = c.conversation_key AND u.user_id = ?1
LEFT JOIN mute AS x ON x.conversation_key = u.conversation_key AND x.user_id = u.user_id
"""
_DEVICE_DELIVERED = """
    ifnull((SELECT d.delivered_seq FROM device_cursor AS d WHERE d.conversation_key = c.conversation_key
        AND d.user_id = u.user_id AND d.device_id = ?{place}), u.device_seq)
"""
_MUTED = ", ifnull(x.until_ms, 0), ifnull(x.but_mentions, 0)"
_LISTED = (
    _MUTED
    + """, c.description,
    c.history, c.owner_id, c.single_pair, c.role, c.join_seq, c.silenced_until_ms
"""
)
_OF_USER = """conversation_member AS m JOIN conversation AS c ON c.conversation_key = m.conversation_key"""
_PAGE_OF_USER = f"""(
    SELECT c.*, m.role, m.join_seq, m.silenced_until_ms FROM {_OF_USER}
    WHERE m.user_id = ?1 AND m.leave_seq IS NULL AND c.conversation_id > ?2
    ORDER BY c.conversation_id LIMIT ?3
) AS c"""  # noqa: S608 -- joined from constants of this module only
_RECENT_OF_USER = f"""(
    SELECT c.*, m.role, m.join_seq, m.silenced_until_ms FROM {_OF_USER}
    WHERE m.user_id = ?1 AND m.leave_seq IS NULL
        AND (c.last_activity_ms < ?2 OR (c.last_activity_ms = ?2 AND c.conversation_id > ?3))
    ORDER BY c.last_activity_ms DESC, c.conversation_id LIMIT ?4
) AS c"""  # noqa: S608 -- joined from constants of this module only
SELECT_HEADS = (
    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=2), source=_OF_USER, listed=_MUTED)
    + "WHERE m.user_id = ?1 AND m.leave_seq IS NULL "
    + "ORDER BY delivered >= c.head_seq, c.last_activity_ms DESC, c.conversation_id"
)
SELECT_ROWS_OF_DEVICE = (
    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=4), source=_PAGE_OF_USER, listed=_LISTED)
    + "ORDER BY c.conversation_id"
)
SELECT_ROWS_OF_USER = (
    _HEAD.format(delivered="u.delivered_seq", source=_PAGE_OF_USER, listed=_LISTED)
    + "ORDER BY c.conversation_id"
)
SELECT_UNREAD = """
WITH k (conversation_key, user_id, first_seq, read_seq) AS (VALUES {keys})
SELECT k.conversation_key, k.user_id, (
    SELECT count(*) FROM (
        SELECT 1 FROM conversation_member AS v
        JOIN message AS e ON e.conversation_key = v.conversation_key
            AND e.seq >= max(v.join_seq, k.first_seq) AND e.seq < ifnull(v.leave_seq, 9223372036854775807)
        WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id
            AND ifnull(v.leave_seq, 9223372036854775807) > k.first_seq
            AND e.kind = 'USER' AND e.sender_id <> k.user_id AND NOT EXISTS (
                SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
        LIMIT ?
    )
), (
    SELECT count(*) FROM (
        SELECT 1 FROM mention AS t
        CROSS JOIN message AS e ON e.conversation_key = t.conversation_key AND e.seq = t.seq
            AND e.sender_id <> k.user_id
        WHERE t.conversation_key = k.conversation_key AND t.user_id IN (k.user_id, '*') AND t.seq > k.read_seq
            AND EXISTS (SELECT 1 FROM conversation_member AS v
                WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id
                    AND t.seq >= v.join_seq AND t.seq < ifnull(v.leave_seq, 9223372036854775807))
        LIMIT ?
    )
)
FROM k
"""
SELECT_LAST = """
WITH k (conversation_key, user_id, first_seq, head_seq) AS (VALUES {keys})
SELECT e.conversation_key, e.seq, length(e.payload), r.recalled_by_seq
FROM k CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = (
    SELECT n.seq FROM message AS n
    WHERE n.conversation_key = k.conversation_key AND n.seq BETWEEN k.first_seq AND k.head_seq AND n.kind = 'USER'
        AND EXISTS (SELECT 1 FROM conversation_member AS v
            WHERE v.conversation_key = k.conversation_key AND v.user_id = k.user_id
                AND ifnull(v.first_seq, v.join_seq) <= n.seq
                AND ifnull(v.leave_seq, 9223372036854775807) > n.seq)
    ORDER BY n.seq DESC LIMIT 1)
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
"""The newest message of each that its reader may see: the log is walked down from its head."""
_BY_ACTIVITY = "ORDER BY c.last_activity_ms DESC, c.conversation_id"
SELECT_RECENT_OF_DEVICE = (
    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=5), source=_RECENT_OF_USER, listed=_LISTED)
    + _BY_ACTIVITY
)
SELECT_RECENT_OF_USER = (
    _HEAD.format(delivered="u.delivered_seq", source=_RECENT_OF_USER, listed=_LISTED) + _BY_ACTIVITY
)
SELECT_MEMBERS = """
SELECT m.user_id, m.role, m.join_seq, m.silenced_until_ms, u.delivered_seq, u.read_seq FROM conversation_member AS m
JOIN member_cursor AS u ON u.conversation_key = m.conversation_key AND u.user_id = m.user_id
WHERE m.conversation_key = ? AND m.leave_seq IS NULL AND m.user_id > ? ORDER BY m.user_id LIMIT ?
"""
SELECT_BANS = (
    "SELECT user_id, by_id, since_ms FROM conversation_ban WHERE conversation_key = ? AND user_id > ? "
    "ORDER BY user_id LIMIT ?"
)
SELECT_BLOCKS = (
    "SELECT blocked_id, since_ms FROM block WHERE user_id = ? AND blocked_id > ? ORDER BY blocked_id LIMIT ?"
)
SELECT_MESSAGE = "SELECT epoch, sender_id, server_ts FROM message WHERE conversation_key = ? AND seq = ?"
_HOLDS = """
    EXISTS (SELECT 1 FROM conversation_member AS v WHERE v.conversation_key = u.conversation_key
        AND v.user_id = u.user_id AND v.join_seq <= ?3 AND ifnull(v.leave_seq, 9223372036854775807) > ?3)
"""
SELECT_COUNTS = f"""
SELECT count(*), ifnull(sum(u.delivered_seq >= ?3 OR EXISTS (
        SELECT 1 FROM device_cursor AS d
        JOIN device_exact AS x ON x.conversation_key = d.conversation_key AND x.user_id = d.user_id
            AND x.device_id = d.device_id AND x.seq = ?3
        WHERE d.conversation_key = u.conversation_key AND d.user_id = u.user_id
    )), 0), ifnull(sum(u.read_seq >= ?3), 0)
FROM member_cursor AS u
WHERE u.conversation_key = ?1 AND u.is_member = 1 AND u.user_id <> ?2 AND {_HOLDS}
"""  # noqa: S608 -- joined from constants of this module only
SELECT_DELIVERIES = f"""
SELECT v.user_id, v.device_id, ifnull(d.delivered_seq, u.device_seq), ifnull(d.updated_ms, v.first_seen_ms),
    u.read_seq, u.read_ms,
    EXISTS (SELECT 1 FROM device_exact AS x WHERE x.conversation_key = u.conversation_key
        AND x.user_id = v.user_id AND x.device_id = v.device_id AND x.seq = ?3)
FROM member_cursor AS u
CROSS JOIN device AS v ON v.user_id = u.user_id
LEFT JOIN device_cursor AS d ON d.conversation_key = u.conversation_key AND d.user_id = v.user_id
    AND d.device_id = v.device_id
WHERE u.conversation_key = ?1 AND u.is_member = 1 AND u.user_id >= ?4 AND u.user_id <> ?2
    AND (v.user_id, v.device_id) > (?4, ?5) AND {_HOLDS}
ORDER BY u.user_id, v.device_id LIMIT ?6
"""  # noqa: S608 -- joined from constants of this module only
SELECT_NEWEST_BY_AUTHOR = (
    "SELECT sender_id, max(seq) FROM message WHERE conversation_key = ? AND seq BETWEEN ? AND ? "
    "AND kind = 'USER' AND +sender_id IN (SELECT value FROM json_each(?)) GROUP BY sender_id ORDER BY sender_id"
)
"""The plus keeps SQLite from going by sender, through all that one ever wrote; the range of seqs is short."""
SELECT_OUTBOX = """
SELECT c.conversation_id, o.first_seq, c.head_seq, o.since_ms FROM outbox AS o
JOIN conversation AS c ON c.conversation_key = o.conversation_key
ORDER BY o.conversation_key LIMIT ?
"""
SELECT_HEAD_SEQS = """
SELECT c.conversation_id, c.epoch, c.head_seq FROM json_each(?) AS j
CROSS JOIN conversation AS c ON c.conversation_id = j.value
"""
SELECT_NEWEST_CHANGE = "SELECT ifnull(max(audit_id), 0) FROM audit"
SELECT_JOINS = """
SELECT a.audit_id, c.conversation_id, a.subject, e.payload FROM audit AS a
JOIN conversation AS c ON c.conversation_key = a.conversation_key
LEFT JOIN message AS e ON a.action = 'CREATED' AND e.conversation_key = a.conversation_key AND e.seq = a.seq
WHERE a.audit_id > ? AND a.action IN ('CREATED', 'ADDED') ORDER BY a.audit_id LIMIT ?
"""
SELECT_RESUME_HASHES = """
SELECT t.user_id, t.device_id, t.token_hash FROM json_each(?) AS j
CROSS JOIN resume_token AS t ON t.user_id = j.value ->> 0 AND t.device_id = j.value ->> 1
"""
_SHARED = """
FROM conversation_member AS m
CROSS JOIN conversation AS c ON c.conversation_key = m.conversation_key AND c.member_count <= {most}
CROSS JOIN conversation_member AS o ON o.conversation_key = m.conversation_key AND o.leave_seq IS NULL
WHERE m.user_id = {user} AND m.leave_seq IS NULL AND o.user_id <> m.user_id
"""
SELECT_CONTACTS = f"""
SELECT DISTINCT o.user_id {_SHARED.format(user="?1", most="?2")}
    AND NOT EXISTS (SELECT 1 FROM block AS b WHERE b.user_id = ?1 AND b.blocked_id = o.user_id)
ORDER BY o.user_id LIMIT ?3
"""  # noqa: S608 -- joined from constants of this module only
SELECT_KNOWN_TO = f"""
SELECT j.value, (SELECT max(d.last_seen_ms) FROM device AS d WHERE d.user_id = j.value) FROM json_each(?2) AS j
WHERE EXISTS (SELECT 1 {_SHARED.format(user="?1", most="?3")} AND o.user_id = j.value)
    AND NOT EXISTS (SELECT 1 FROM block AS b WHERE b.user_id = j.value AND b.blocked_id = ?1)
"""  # noqa: S608 -- joined from constants of this module only
SELECT_POSITION = """
SELECT
    ifnull((SELECT CAST(value AS INTEGER) FROM setting WHERE name = 'position_floor'), 0)
    + ifnull((SELECT max(audit_id) FROM audit), 0) + ifnull(max(rowid), 0)
FROM message
"""
SELECT_CONVERSATION_IDS = (
    "SELECT conversation_id FROM conversation WHERE conversation_id > ? ORDER BY conversation_id LIMIT ?"
)


def pins(connection: Connection, conversation_id: str, user_id: str, bytes_max: int) -> list[PinRow]:
    """What is pinned. Raises as `page` does."""
    loaded = joined(connection, conversation_id, user_id).conversation
    pinned = pins_of(connection, loaded.key, user_id)
    if not pinned or bytes_max <= 0:
        return pinned
    cold_seq, _ = cold_and_floor(connection, loaded.key)
    spans = [(loaded.key, it.seq, it.seq) for it in pinned]
    shown = {seq: it for (_, seq), it in marks(connection, user_id, spans).items()}
    sizes = {
        seq: size + shown.get(seq, NO_MARKS).size_bytes
        for seq, size, _ in select(connection, SELECT_SIZES, spans)
    }
    spans = [(loaded.key, seq, seq) for seq in seqs_that_fit(pinned, sizes, bytes_max)]
    rows = _rows(connection, spans)
    entries = {row[0]: _entry(loaded, row, user_id, cold_seq, shown.get(row[0], NO_MARKS)) for row in rows}
    return [it._replace(entry=entries.get(it.seq)) for it in pinned]


def page(
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
        DamagedError: A body of the page is not what was stored; nothing of the page is served.
    """
    membership = joined(connection, conversation_id, user_id)
    loaded, intervals = membership.conversation, membership.intervals
    cold_seq, floor_seq = cold_and_floor(connection, loaded.key)
    after_seq = max(after_seq, floor_seq)
    if loaded.pair is None:
        place = (loaded.key, user_id, after_seq + 1, limit + 2)
        found = connection.execute(SELECT_READABLE if history else SELECT_MEMBERSHIPS, place)
        intervals = [Interval(*row) for row in found]
    ranges = [(loaded.key, *span) for span in rules.page_ranges(intervals, after_seq, loaded.head_seq, limit)]
    shown = marks(connection, user_id, ranges)
    sizes = [
        (seq, shown_bytes(size, shown.get((loaded.key, seq), NO_MARKS), recalled=recalled_by is not None))
        for seq, size, recalled_by in sorted(select(connection, SELECT_SIZES, ranges))
    ]
    last = rules.last_that_fits(sizes, bytes_max)
    spans = [(key, first, min(end, last)) for key, first, end in ranges if last is not None and first <= last]
    entries = [
        _entry(loaded, row, user_id, cold_seq, shown.get((loaded.key, row[0]), NO_MARKS))
        for row in _rows(connection, spans)
    ]
    up_to_seq = rules.page_end(intervals, last, loaded.head_seq)
    more = up_to_seq < loaded.head_seq
    return Page(conversation_id, loaded.epoch, loaded.head_seq, tuple(entries), up_to_seq, more, floor_seq)


def _rows(connection: Connection, ranges: Sequence[tuple[int, int, int]]) -> list[Row]:
    """The rows of (conversation key, first seq, last seq), ascending."""
    return sorted(select(connection, SELECT_ENTRIES, ranges), key=itemgetter(0))


def joined(connection: Connection, conversation_id: str, user_id: str) -> MembershipState:
    """A current member in a conversation. Raises NotFoundError."""
    keys, state = Keys(), State()
    keys.conversations.add(conversation_id)
    keys.members.add((conversation_id, user_id))
    load(connection, keys, state)
    return state.joined(conversation_id, user_id)


def _found(connection: Connection, conversation_id: str) -> ConversationState | None:
    keys, state = Keys(), State()
    keys.conversations.add(conversation_id)
    load(connection, keys, state)
    return state.conversations[conversation_id]


def entries(connection: Connection, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
    """The log itself after a seq, whoever may see it."""
    loaded = _found(connection, conversation_id)
    if loaded is None:
        return []
    cold_seq, floor_seq = cold_and_floor(connection, loaded.key)
    after_seq = max(after_seq, floor_seq)
    span = (loaded.key, after_seq + 1, after_seq + limit)
    return [_entry(loaded, row, None, cold_seq) for row in _rows(connection, [span])]


def _entry(
    loaded: ConversationState, row: Row, reader_id: str | None, cold_seq: int, shown: StoredMarks = NO_MARKS
) -> Entry:
    """A row as the contract shows it: with its key to its author, or to nobody in particular."""
    return _entry_of(loaded.conversation_id, loaded.epoch, loaded.key, row, reader_id, cold_seq, shown)


def _entry_of(
    conversation_id: str,
    log_epoch: str,
    key: int,
    row: Row,
    reader_id: str | None,
    cold_seq: int,
    shown: StoredMarks = NO_MARKS,
) -> Entry:
    seq, epoch, sender_id, server_ts, payload, client_msg_id, recalled_by = row
    in_place = recalled_by is None and (payload or seq > cold_seq)  # one that is in the archive is empty here
    if in_place and (fault := body_fault(payload, is_recalled=False)):
        raise _damaged(conversation_id, seq, fault)
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


def _damaged(conversation_id: str, seq: int, fault: str) -> DamagedError:
    """A body goes into an answer as it is, so one that is no JSON object would break all of the answer."""
    place = f"conversation {conversation_id}, seq {seq}"
    _logger.error("the log is damaged: %s: %s", place, fault)
    return DamagedError(f"storage is damaged: {place}", retry_after_s=RETRY_AFTER_S)


def heads(connection: Connection, user_id: str, device_id: str) -> list[ListedHead]:
    """The user's conversations, for one device."""
    rows = connection.execute(SELECT_HEADS, (user_id, device_id))
    return [_listed_head([*row[:11], row[12], bool(row[13])]) for row in rows]


def _listed_head(row: list[Any]) -> ListedHead:
    return ListedHead(*row)


def head_seqs(connection: Connection, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """(epoch, head) of each conversation that exists."""
    rows = connection.execute(SELECT_HEAD_SEQS, (_text(conversation_ids),))
    return {name: (epoch, head_seq) for name, epoch, head_seq in rows}


def conversation(connection: Connection, conversation_id: str, user_id: str) -> Conversation:
    """One conversation, for a member of it."""
    state = State()
    load(connection, keys_of_description(conversation_id, user_id), state)
    return describe(state, state.joined(conversation_id, user_id).conversation)


def conversations(
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
        rows = connection.execute(SELECT_ROWS_OF_USER, place)
    else:
        rows = connection.execute(SELECT_ROWS_OF_DEVICE, (*place, device_id))
    return _conversation_rows(connection, counts, user_id, rows)


def recent(
    connection: Connection,
    counts: UnreadCounts,
    user_id: str,
    device_id: str | None,
    after: RecentPlace | None,
    limit: int,
    bytes_max: int,
) -> RecentPage:
    """A page of the user's conversations, newest activity first, each with its last message."""
    place = (user_id, *(after or (_NEWEST_MS, "")), limit + 1)
    if device_id is None:
        found = connection.execute(SELECT_RECENT_OF_USER, place)
    else:
        found = connection.execute(SELECT_RECENT_OF_DEVICE, (*place, device_id))
    rows = found[:limit]
    places = {(row[11], user_id, rules.first_of_preview(row[4], row[3]), row[3]) for row in rows}
    last = {key: (seq, size, by) for key, seq, size, by in select(connection, SELECT_LAST, places)}
    said = marks(connection, user_id, [(key, seq, seq) for key, (seq, _, _) in last.items()])
    count = rows_shown([row[11] for row in rows], last, said, bytes_max)
    shown = _last_entries(connection, user_id, rows[:count], last, said)
    listed = _conversation_rows(connection, counts, user_id, rows[:count])
    return page_of(listed, shown, more=count < len(found))


def _last_entries(
    connection: Connection,
    user_id: str,
    rows: Sequence[Row],
    last: Mapping[int, tuple[int, int, int | None]],
    said: Mapping[tuple[int, int], StoredMarks],
) -> dict[str, Entry]:
    """The last message of each of these conversations that has one, by id."""
    spans = [(row[11], last[row[11]][0], last[row[11]][0]) for row in rows if row[11] in last]
    found = {row[0]: row[1:] for row in select(connection, SELECT_LAST_ENTRIES, spans)}
    return {
        name: _entry_of(
            name,
            epoch,
            key,
            found[key][:-1],
            user_id,
            found[key][-1],
            said.get((key, found[key][0]), NO_MARKS).in_a_list,
        )
        for name, epoch, key in ((row[0], row[2], row[11]) for row in rows)
        if key in found
    }


def _conversation_rows(
    connection: Connection, counts: UnreadCounts, user_id: str, rows: Sequence[Row]
) -> list[ListedConversation]:
    places: list[Place] = [(row[11], user_id, max(row[6], row[4] - 1), row[3]) for row in rows]
    unread = unread_at(connection, counts, places)
    return [_conversation_row(user_id, row, count) for row, count in zip(rows, unread, strict=True)]


def _conversation_row(user_id: str, row: Row, unread: Unread) -> ListedConversation:
    title, last_activity_ms, _, muted_until_ms, but_mentions, description, history, *member = row[9:]
    return ListedConversation(
        ConversationHead(*row[:9]),
        title,
        *unread,
        last_activity_ms,
        muted_until_ms,
        bool(but_mentions),
        rules.member_of(user_id, *member),
        history,
        description,
    )


def unread_at(connection: Connection, counts: UnreadCounts, places: Sequence[Place]) -> list[Unread]:
    """Of each place, in their order: the visible messages of others after the read cursor that are not recalled, and
    what of theirs mentions the user."""
    known = {place: counts.known(place) for place in places}
    missing = {place[:2]: place for place, count in known.items() if count is None}
    firsts = [
        (key, user_id, max(read_seq, head_seq - rules.UNREAD_ENTRIES_MAX) + 1, read_seq)
        for key, user_id, read_seq, head_seq in missing.values()
    ]
    bounds = (rules.UNREAD_MAX, rules.UNREAD_MAX)
    for key, user_id, count, mentions in select(connection, SELECT_UNREAD, firsts, *bounds):
        if key is not None:
            place = missing[key, user_id]
            known[place] = counts.keep(place, (count, mentions))
    return [known[place] or NOTHING for place in places]


def members(
    connection: Connection, conversation_id: str, user_id: str, after: str | None, limit: int
) -> list[MemberCursor]:
    """A page of the current members with their cursors."""
    loaded = joined(connection, conversation_id, user_id).conversation
    rows = connection.execute(SELECT_MEMBERS, (loaded.key, after or "", limit))
    return [
        MemberCursor(rules.member_of(member, loaded.owner_id, loaded.pair, *standing), delivered, read)
        for member, *standing, delivered, read in rows
    ]


def bans(
    connection: Connection,
    conversation_id: str,
    user_id: str | None,
    policy: Policy,
    after: str | None,
    limit: int,
) -> list[Ban]:
    """A page of who is banned from a conversation."""
    if user_id is None:
        loaded = _found(connection, conversation_id)
        if loaded is None:
            raise not_found()
    else:
        membership = joined(connection, conversation_id, user_id)
        loaded = membership.conversation
        check_allowed(policy, membership.role, "BAN_MEMBERS", None, loaded.type)
    return [Ban(*row) for row in connection.execute(SELECT_BANS, (loaded.key, after or "", limit))]


def blocks(connection: Connection, user_id: str, after: str | None, limit: int) -> list[Block]:
    """A page of whom a user blocked."""
    return [Block(*row) for row in connection.execute(SELECT_BLOCKS, (user_id, after or "", limit))]


def membership_changes(connection: Connection, after: int | None, limit: int) -> MembershipChanges:
    """Who joined any conversation after a position."""
    ((newest,),) = connection.execute(SELECT_NEWEST_CHANGE)
    rows = [] if after is None else connection.execute(SELECT_JOINS, (after, limit))
    position = rows[-1][0] if rows and len(rows) == limit else newest
    return MembershipChanges(position, tuple(_join(*row[1:]) for row in rows))


def _join(conversation_id: str, subject: str, payload: bytes | None) -> MembershipChange:
    if payload is None:
        return MembershipChange(conversation_id, (subject,), "JOINED")
    try:
        return MembershipChange(conversation_id, members_of(payload), "CREATED")
    except ValueError:  # msgspec's errors; their words could tell of the body
        place = f"conversation {conversation_id}: an entry that names no members"
        _logger.error("the log is damaged: %s", place)
        raise DamagedRowError(f"storage is damaged: {place}", retry_after_s=RETRY_AFTER_S) from None


def resume_hashes(connection: Connection, devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """Digest of each device's resume token."""
    rows = connection.execute(SELECT_RESUME_HASHES, (_text(devices),))
    return {(user_id, device_id): bytes(token_hash) for user_id, device_id, token_hash in rows}


def contacts(
    connection: Connection, user_ids: Sequence[str], members_max: int, limit: int
) -> dict[str, list[str]]:
    """Who may know of each of these users."""
    found = {}
    for user_id in user_ids:
        rows = connection.execute(SELECT_CONTACTS, (user_id, members_max, limit))
        if rows:
            found[user_id] = [other for (other,) in rows]
    return found


def known_to(
    connection: Connection, user_id: str, others: Sequence[str], members_max: int
) -> dict[str, int | None]:
    """Whom of the others a user may know of, and when they were last seen."""
    return dict(connection.execute(SELECT_KNOWN_TO, (user_id, _text(others), members_max)))


def revocations(connection: Connection, after: int, limit: int) -> list[Revocation]:
    """Those above a position."""
    return [Revocation(*row) for row in connection.execute(SELECT_NEW_REVOCATIONS, (after, limit))]


def kept_login(connection: Connection, token_hash: bytes) -> KeptLogin | None:
    """The login of a resume token."""
    rows = connection.execute(SELECT_KEPT_LOGIN, (token_hash,))
    return KeptLogin(*rows[0]) if rows else None


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def status(
    connection: Connection, name: str, user_id: str, after: tuple[str, str] | None, limit: int
) -> Status:
    """The state of a message, for its author."""
    place = message_place(name)
    if place is None:
        raise not_found()
    key, epoch, seq = place
    keys, state = Keys(), State()
    keys.conversation_keys.add(key)
    keys.members.add((key, user_id))
    load(connection, keys, state)
    loaded = state.conversations[key]
    if loaded is None or not state.membership(loaded, user_id).is_current:
        raise not_found()
    rows = connection.execute(SELECT_MESSAGE, (loaded.key, seq))
    if not rows or rows[0][:2] != (epoch, user_id):
        raise not_found()
    ((counted, delivered, read),) = connection.execute(SELECT_COUNTS, (loaded.key, user_id, seq))
    found = connection.execute(SELECT_DELIVERIES, (loaded.key, user_id, seq, *(after or ("", "")), limit + 1))
    deliveries = tuple(_delivery(row, seq, rows[0][2]) for row in found[:limit])
    following = (deliveries[-1].user_id, deliveries[-1].device_id) if len(found) > limit else None
    word = rules.status_of(counted, delivered, read)
    return Status(word, counted, delivered, read, deliveries, following)


def _delivery(row: Row, seq: int, server_ts: int) -> Delivery:
    user_id, device_id, delivered_seq, updated_ms, read_seq, read_ms, exact = row
    state = delivery_state(seq, delivered_seq, [seq] if exact else [], read_seq)
    return Delivery(user_id, device_id, state, rules.state_ms(state, server_ts, updated_ms, read_ms))


def read_counts(
    connection: Connection, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
) -> list[ReadCounts]:
    """How many of the others have got to the newest message of each of some authors in a range."""
    loaded = _found(connection, conversation_id) if authors else None
    if loaded is None:
        return []
    span = (loaded.key, author_range(after_seq, up_to_seq) + 1, up_to_seq)
    return [
        _counts(connection, loaded.key, author, seq)
        for author, seq in connection.execute(SELECT_NEWEST_BY_AUTHOR, (*span, _text(authors)))
    ]


def _counts(connection: Connection, key: int, author: str, seq: int) -> ReadCounts:
    ((counted, delivered, read),) = connection.execute(SELECT_COUNTS, (key, author, seq))
    return ReadCounts(author, seq, delivered, read, counted)


def outbox(connection: Connection, limit: int) -> list[OutboxEntry]:
    """Open outbox rows, those of the oldest conversations first."""
    return [OutboxEntry(*row) for row in connection.execute(SELECT_OUTBOX, (limit,))]


def position(connection: Connection) -> int:
    """How many entries and audit rows were ever written, above the floor of the last renewal."""
    ((found,),) = connection.execute(SELECT_POSITION)
    return int(found)


def conversation_ids(connection: Connection, after: str, limit: int) -> list[str]:
    """The ids of all conversations after one, ascending."""
    return [name for (name,) in connection.execute(SELECT_CONVERSATION_IDS, (after, limit))]
