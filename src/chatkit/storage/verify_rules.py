"""What must hold between the tables of a log, as SQL that returns the rows for which it does not.

Each statement looks at the conversations whose key is above ?1 and up to ?2, and returns at most ?3 rows: the key of a
conversation, then what the words name. It is written so that SQLite and PostgreSQL both read it (coalesce, CASE, TRUE;
no JSON, no max of two), and reads rows of these conversations only, so that it costs what they have. Run by the
`verify` of each store, which adds what its own tables are checked for.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Check = Literal[
    "structure", "schema", "unreadable", "row", "secret", "entries", "body", "recall", "edit", "reaction",
    "mention", "pin", "stream", "membership", "cursor", "device", "outbox", "audit", "block", "archive", "moderation",
]  # fmt: skip
"""What a finding is about."""


class Rule(NamedTuple):
    """One thing that must hold.

    Attributes:
        check: What it is about.
        sql: Returns what breaks it.
        words: Says so; `{name}` is the conversation, `{0}` and so on are the other columns.
    """

    check: Check
    sql: str
    words: str


_ENTRIES = """
SELECT key, CASE WHEN max(head) < 0 THEN 'no row' ELSE 'head ' || max(head) END, sum(entries), max(top) FROM (
    SELECT conversation_key AS key, head_seq AS head, 0 AS entries, 0 AS top FROM conversation
    WHERE conversation_key > ?1 AND conversation_key <= ?2
    UNION ALL
    SELECT conversation_key, -1, count(*), max(seq) FROM message
    WHERE conversation_key > ?1 AND conversation_key <= ?2 GROUP BY conversation_key
)
GROUP BY key HAVING max(head) <> sum(entries) OR max(head) <> max(top) ORDER BY key LIMIT ?3
"""
"""Reads the index of (conversation, seq) only. That one is unique and its seqs are from 1, so a count that is also the
greatest leaves no hole."""


def _orphans(check: Check, table: str) -> Rule:
    sql = (
        f"SELECT t.conversation_key, count(*) FROM {table} AS t "  # noqa: S608 -- names from below
        "WHERE t.conversation_key > ?1 AND t.conversation_key <= ?2 AND NOT EXISTS "
        "(SELECT 1 FROM conversation AS c WHERE c.conversation_key = t.conversation_key) "
        "GROUP BY t.conversation_key LIMIT ?3"
    )
    return Rule(check, sql, f"{{name}} has no row, but {{0}} in {table}")


def _rule(check: Check, words: str, columns: str, tables: str, broken: str) -> Rule:
    """A rule over rows `t` beside their conversation `c`."""
    sql = (
        f"SELECT t.conversation_key, {columns} FROM {tables} "  # noqa: S608 -- texts from below
        "JOIN conversation AS c ON c.conversation_key = t.conversation_key "
        f"WHERE t.conversation_key > ?1 AND t.conversation_key <= ?2 AND ({broken}) LIMIT ?3"
    )
    return Rule(check, sql, words)


_AUDIT_ORPHANS = """
SELECT t.conversation_key, count(*) FROM audit AS t
WHERE t.conversation_key > ?1 AND t.conversation_key <= ?2 AND t.conversation_key <> 0 AND NOT EXISTS (
    SELECT 1 FROM conversation AS c WHERE c.conversation_key = t.conversation_key)
GROUP BY t.conversation_key LIMIT ?3
"""
"""What concerns no conversation is of number 0."""

_HEAD_ORPHANS = """
SELECT h.chain FROM audit_head AS h
WHERE h.chain > ?1 AND h.chain <= ?2 AND h.chain <> 0 AND NOT EXISTS (
    SELECT 1 FROM conversation AS c WHERE c.conversation_key = h.chain)
LIMIT ?3
"""

_KIND_AT = (
    "coalesce((SELECT e.kind FROM message AS e "
    "WHERE e.conversation_key = t.conversation_key AND e.seq = {}), '')"
)
_MEMBERSHIPS = (
    "conversation_member AS m WHERE m.conversation_key = t.conversation_key AND m.user_id = t.user_id"
)
_IS_CURRENT = f"EXISTS (SELECT 1 FROM {_MEMBERSHIPS} AND m.leave_seq IS NULL)"  # noqa: S608
_BLOCKS = """CASE WHEN t.single_pair IS NULL THEN 0 ELSE (
    SELECT coalesce(sum(CASE WHEN b.user_id < b.blocked_id THEN 1 ELSE 2 END), 0)
    FROM conversation_member AS m CROSS JOIN conversation_member AS o CROSS JOIN block AS b
    WHERE m.conversation_key = t.conversation_key AND o.conversation_key = t.conversation_key
        AND b.user_id = m.user_id AND b.blocked_id = o.user_id
) END"""
"""A pair is in the order of its ids."""
_EXACT = (
    "(SELECT count(*) FROM device_exact AS x WHERE x.conversation_key = t.conversation_key "
    "AND x.user_id = t.user_id AND x.device_id = t.device_id)"
)

_RANGES = "SELECT 1 FROM archive_range AS r WHERE r.conversation_key = t.conversation_key AND r.name <> ''"

RULES: Final = (
    Rule("entries", _ENTRIES, "{name} has {0}, but {1} entries up to seq {2}"),
    _orphans("membership", "conversation_member"),
    _orphans("recall", "recall"),
    _orphans("edit", "edit"),
    _orphans("reaction", "reaction"),
    _orphans("mention", "mention"),
    _orphans("pin", "pin"),
    _orphans("stream", "stream"),
    _orphans("stream", "stream_part"),
    _orphans("cursor", "member_cursor"),
    _orphans("cursor", "device_cursor"),
    _orphans("cursor", "device_exact"),
    _orphans("outbox", "outbox"),
    _orphans("outbox", "delivery"),
    _orphans("outbox", "mute"),
    _orphans("outbox", "push_record"),
    _rule(
        "outbox",
        "{name} has a push to device {0} of {1} about seq {2}, above its head",
        "t.device_id, t.user_id, t.seq",
        "push_record AS t",
        "t.seq > c.head_seq",
    ),
    _orphans("archive", "archive_range"),
    _orphans("moderation", "moderated"),
    _orphans("moderation", "report"),
    _rule(
        "moderation",
        "{name} has the held message {0} of {1}, which waits behind none",
        "t.held_id, t.sender_id",
        "moderated AS t",
        "t.state = 'READY' AND NOT EXISTS (SELECT 1 FROM moderated AS m WHERE m.sender_id = t.sender_id "
        "AND m.conversation_key = t.conversation_key AND m.state = 'REVIEW' AND m.held_id < t.held_id)",
    ),
    _rule(
        "moderation",
        "{name} has a report of seq {0}, which is no message",
        "t.seq",
        "report AS t",
        f"{_KIND_AT.format('t.seq')} <> 'USER'",
    ),
    Rule("audit", _AUDIT_ORPHANS, "{name} has no row, but {0} in audit"),
    _rule(
        "audit",
        "{name} has no chain in the audit",
        "t.conversation_id",
        "conversation AS t",
        "NOT EXISTS (SELECT 1 FROM audit_head AS h WHERE h.chain = t.conversation_key)",
    ),
    Rule("audit", _HEAD_ORPHANS, "{name} has no row, but a chain in the audit"),
    _rule(
        "recall",
        "{name} has a recall of seq {0} by seq {1}, which are no message and its recall",
        "t.seq, t.recalled_by_seq",
        "recall AS t",
        f"{_KIND_AT.format('t.seq')} NOT IN ('USER', 'EDIT') OR {_KIND_AT.format('t.recalled_by_seq')} <> 'RECALL'",
    ),
    _rule(
        "edit",
        "{name} has an edit of seq {0} by seq {1}, which are no message and its edit",
        "t.seq, t.edited_by_seq",
        "edit AS t",
        f"{_KIND_AT.format('t.seq')} <> 'USER' OR {_KIND_AT.format('t.edited_by_seq')} <> 'EDIT'",
    ),
    _rule(
        "reaction",
        "{name} has a reaction of {0} to seq {1} by seq {2}, which are no message and a reaction",
        "t.user_id, t.seq, t.reacted_by_seq",
        "reaction AS t",
        f"{_KIND_AT.format('t.seq')} <> 'USER' OR {_KIND_AT.format('t.reacted_by_seq')} <> 'REACTION'",
    ),
    _rule(
        "mention",
        "{name} has a mention of {0} by seq {1}, which is no message and no edit",
        "t.user_id, t.seq",
        "mention AS t",
        f"{_KIND_AT.format('t.seq')} NOT IN ('USER', 'EDIT')",
    ),
    _rule(
        "pin",
        "{name} has seq {0} pinned by seq {1}, which are no message and a pin",
        "t.seq, t.pinned_by_seq",
        "pin AS t",
        f"{_KIND_AT.format('t.seq')} <> 'USER' OR {_KIND_AT.format('t.pinned_by_seq')} <> 'PINNED'",
    ),
    _rule(
        "stream",
        "{name} has an open stream at seq {0}, which is no message that takes parts",
        "t.seq",
        "stream AS t",
        f"{_KIND_AT.format('t.seq')} <> 'USER' OR EXISTS (SELECT 1 FROM recall AS r "  # noqa: S608
        "WHERE r.conversation_key = t.conversation_key AND r.seq = t.seq) OR EXISTS (SELECT 1 FROM edit AS e "
        "WHERE e.conversation_key = t.conversation_key AND e.seq = t.seq)",
    ),
    _rule(
        "stream",
        "{name} has {0} parts of an open stream at seq {1}, and counts {2}",
        "(SELECT count(*) FROM stream_part AS p WHERE p.conversation_key = t.conversation_key AND p.seq = t.seq), "
        "t.seq, t.parts + 1",
        "stream AS t",
        "(SELECT count(*) FROM stream_part AS p WHERE p.conversation_key = t.conversation_key AND p.seq = t.seq "
        "AND p.part BETWEEN 0 AND t.parts) <> t.parts + 1",
    ),
    _rule(
        "stream",
        "{name} has part {0} of a stream at seq {1} that is not open",
        "t.part, t.seq",
        "stream_part AS t",
        "NOT EXISTS (SELECT 1 FROM stream AS s WHERE s.conversation_key = t.conversation_key AND s.seq = t.seq)",
    ),
    _rule(
        "membership",
        "{name} has a membership of {0} that begins at seq {1}, where no change of members is",
        "t.user_id, t.join_seq",
        "conversation_member AS t",
        f"{_KIND_AT.format('t.join_seq')} <> 'MEMBER'",
    ),
    _rule(
        "membership",
        "{name} has a membership of {0} that ends at seq {1}, where no change of members is",
        "t.user_id, t.leave_seq",
        "conversation_member AS t",
        f"t.leave_seq IS NOT NULL AND {_KIND_AT.format('t.leave_seq')} <> 'MEMBER'",
    ),
    _rule(
        "membership",
        "{name} has two memberships of {0} that hold at seq {1}",
        "t.user_id, t.join_seq",
        "conversation_member AS t",
        f"EXISTS (SELECT 1 FROM {_MEMBERSHIPS} AND m.join_seq < t.join_seq "  # noqa: S608
        "AND coalesce(m.leave_seq > t.join_seq, TRUE))",
    ),
    _rule(
        "membership",
        "{name} counts {0} members and has {1}",
        "t.member_count, (SELECT count(*) FROM conversation_member AS m "
        "WHERE m.conversation_key = t.conversation_key AND m.leave_seq IS NULL)",
        "conversation AS t",
        "t.member_count <> (SELECT count(*) FROM conversation_member AS m "
        "WHERE m.conversation_key = t.conversation_key AND m.leave_seq IS NULL)",
    ),
    _rule(
        "cursor",
        "{name} has no cursors of its member {0}",
        "t.user_id",
        "conversation_member AS t",
        "NOT EXISTS (SELECT 1 FROM member_cursor AS u "
        "WHERE u.conversation_key = t.conversation_key AND u.user_id = t.user_id)",
    ),
    _rule(
        "cursor",
        "{name} has cursors of {0} that do not say whether they are a member",
        "t.user_id",
        "member_cursor AS t",
        f"t.is_member <> {_IS_CURRENT}",
    ),
    _rule(
        "cursor",
        "{name} has head {3}, and cursors of {0} at {1} (read) and {2} (delivered)",
        "t.user_id, t.read_seq, t.delivered_seq, c.head_seq",
        "member_cursor AS t",
        "t.read_seq < 0 OR t.read_seq > t.delivered_seq OR t.delivered_seq > c.head_seq",
    ),
    _rule(
        "cursor",
        "{name} holds {1} as delivered to {0}, which is neither where they read ({2}) nor their farthest device ({3})",
        "t.user_id, t.delivered_seq, t.read_seq, t.device_seq",
        "member_cursor AS t",
        "t.device_seq < 0 OR t.delivered_seq <> "
        "CASE WHEN t.read_seq > t.device_seq THEN t.read_seq ELSE t.device_seq END",
    ),
    _rule(
        "membership",
        "{name} is owned by {0}, who is no member",
        "t.owner_id",
        "conversation AS t",
        "t.member_count > 0 AND NOT EXISTS (SELECT 1 FROM conversation_member AS m "
        "WHERE m.conversation_key = t.conversation_key AND m.user_id = t.owner_id AND m.leave_seq IS NULL)",
    ),
    _rule(
        "block",
        "{name} says {0} of the blocks between its members, which say {1}",
        f"t.blocks, {_BLOCKS}",
        "conversation AS t",
        f"t.blocks <> {_BLOCKS}",
    ),
    _rule(
        "device",
        "{name} has a cursor of device {1} of {0}, which is not there",
        "t.user_id, t.device_id",
        "device_cursor AS t",
        "NOT EXISTS (SELECT 1 FROM device AS d WHERE d.user_id = t.user_id AND d.device_id = t.device_id)",
    ),
    _rule(
        "device",
        "{name} has a cursor of device {1} of {0} that does not say whether they are a member",
        "t.user_id, t.device_id",
        "device_cursor AS t",
        f"t.is_member <> {_IS_CURRENT}",
    ),
    _rule(
        "device",
        "{name} has head {3}, and a cursor of device {1} of {0} at {2}",
        "t.user_id, t.device_id, t.delivered_seq, c.head_seq",
        "device_cursor AS t",
        "t.delivered_seq < 0 OR t.delivered_seq > c.head_seq",
    ),
    _rule(
        "device",
        "{name} has a cursor of device {1} of {0} at {2}, above the farthest of their devices",
        "t.user_id, t.device_id, t.delivered_seq",
        "device_cursor AS t",
        "t.delivered_seq > coalesce((SELECT u.device_seq FROM member_cursor AS u "
        "WHERE u.conversation_key = t.conversation_key AND u.user_id = t.user_id), -1)",
    ),
    _rule(
        "device",
        "{name} counts {2} single confirmations of device {1} of {0} and has {3}",
        f"t.user_id, t.device_id, t.exact_count, {_EXACT}",
        "device_cursor AS t",
        f"t.exact_count <> {_EXACT}",
    ),
    _rule(
        "device",
        "{name} has a confirmation of seq {2} by device {1} of {0}, which is not between its cursor and the head",
        "t.user_id, t.device_id, t.seq",
        "device_exact AS t",
        "t.seq > c.head_seq OR t.seq <= coalesce((SELECT d.delivered_seq FROM device_cursor AS d "
        "WHERE d.conversation_key = t.conversation_key AND d.user_id = t.user_id "
        "AND d.device_id = t.device_id), t.seq)",
    ),
    _rule(
        "outbox",
        "{name} has head {1}, and an outbox from seq {0}",
        "t.first_seq, c.head_seq",
        "outbox AS t",
        "t.first_seq < 1 OR t.first_seq > c.head_seq",
    ),
    _rule(
        "audit",
        "{name} has head {2}, and audit row {0} of seq {1}",
        "t.audit_id, t.seq, c.head_seq",
        "audit AS t",
        "t.seq < 1 OR t.seq > c.head_seq",
    ),
    _rule(
        "archive",
        "{name} has head {0}; its bodies are elsewhere up to seq {1}, and have expired up to seq {2}",
        "t.head_seq, t.cold_seq, t.floor_seq",
        "conversation AS t",
        "t.head_seq > 0 AND (t.cold_seq >= t.head_seq OR t.floor_seq >= t.head_seq)",
    ),
    _rule(
        "archive",
        "{name} has bodies elsewhere up to seq {0}, but no object holds that of seq {1}",
        "t.cold_seq, t.floor_seq + 1",
        "conversation AS t",
        f"t.cold_seq > t.floor_seq AND NOT EXISTS ({_RANGES} AND r.first_seq <= t.floor_seq + 1 "
        "AND r.last_seq > t.floor_seq)",
    ),
    _rule(
        "archive",
        "{name} has bodies elsewhere up to seq {0}, but no object holds that of seq {1}",
        "c.cold_seq, t.last_seq + 1",
        "archive_range AS t",
        "t.name <> '' AND t.last_seq > c.floor_seq AND t.last_seq < c.cold_seq "
        f"AND NOT EXISTS ({_RANGES} AND r.first_seq = t.last_seq + 1)",
    ),
    _rule(
        "archive",
        "{name} has head {2}, and an object of seqs {0} to {1}",
        "t.first_seq, t.last_seq, c.head_seq",
        "archive_range AS t",
        "t.last_seq >= c.head_seq",
    ),
    _rule(
        "archive",
        "{name} has two objects that hold seq {0}",
        "t.last_seq",
        "archive_range AS t",
        f"EXISTS ({_RANGES} AND r.first_seq > t.first_seq AND r.first_seq <= t.last_seq)",
    ),
)
