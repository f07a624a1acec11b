"""Writes the rows of a batch: what `Changes` holds, with one statement per kind of row. Nothing is decided here.

Called by `writer` inside a write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import astuple

from ...core.log.changes import Changes, HeldOutbox, Outbox, OutboxRows
from ...core.log.state import DevicePlace, MayBeRepeatError
from ...drivers.sqlite import Connection
from . import blobs, moderation, references
from .audit import write_audit
from .cold import STALE_BY_RECALL, write_retention
from .person import write_erasures
from .select import insert, select

SET_POSITION_FLOOR = (
    "INSERT INTO setting (name, value) VALUES ('position_floor', ?) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
INSERT_CONVERSATION = (
    "INSERT INTO conversation (conversation_key, conversation_id, type, title, epoch, head_seq, owner_id, "
    "single_pair, member_count, created_ms, last_activity_ms, blocks, history) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_HEAD = "UPDATE conversation SET head_seq = ?, last_activity_ms = ? WHERE conversation_key = ?"
UPDATE_CONVERSATION = (
    "UPDATE conversation SET epoch = ?, member_count = ?, title = ?, owner_id = ?, blocks = ?, history = ? "
    "WHERE conversation_key = ?"
)
INSERT_MESSAGE = (
    "INSERT INTO message (conversation_key, seq, epoch, kind, sender_id, client_msg_id, server_ts, payload_mac, "
    "payload) SELECT * FROM (VALUES {keys}) WHERE column1 <> 0 "
    "ON CONFLICT (conversation_key, sender_id, client_msg_id) DO NOTHING"
)
"""Leaves out a message whose key made one already, and what only fills the statement up: keys of conversations begin at
1."""

UPDATE_BLANK = "UPDATE message SET payload = zeroblob(length(payload)) WHERE conversation_key = ? AND seq = ?"
INSERT_RECALL = "INSERT INTO recall (conversation_key, seq, recalled_by_seq) VALUES (?, ?, ?)"
UPDATE_MEMBER_GONE = (
    "UPDATE conversation_member SET leave_seq = ? WHERE conversation_key = ? AND user_id = ? AND join_seq = ?"
)
INSERT_MEMBER = (
    "INSERT INTO conversation_member (conversation_key, user_id, join_seq, leave_seq, first_seq, role, "
    "silenced_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_STANDING = (
    "UPDATE conversation_member SET role = ?, silenced_until_ms = ? "
    "WHERE conversation_key = ? AND user_id = ? AND join_seq = ?"
)
INSERT_BAN = (
    "INSERT OR REPLACE INTO conversation_ban (conversation_key, user_id, by_id, since_ms) VALUES (?, ?, ?, ?)"
)
DELETE_BAN = "DELETE FROM conversation_ban WHERE conversation_key = ? AND user_id = ?"
SELECT_OUTBOX_OF_DEVICE = """
WITH k (user_id, device_id) AS (VALUES {keys})
SELECT DISTINCT o.conversation_key, o.first_seq, c.head_seq FROM k
CROSS JOIN device_cursor AS d ON d.user_id = k.user_id AND d.device_id = k.device_id AND d.is_member = 1
CROSS JOIN outbox AS o ON o.conversation_key = d.conversation_key
CROSS JOIN conversation AS c ON c.conversation_key = o.conversation_key
"""
DELETE_EXACT_OF_DEVICE = (
    "DELETE FROM device_exact WHERE user_id = ?1 AND device_id = ?2 AND conversation_key IN "
    "(SELECT d.conversation_key FROM device_cursor AS d "
    "WHERE d.user_id = ?1 AND d.device_id = ?2 AND d.exact_count > 0)"
)
DELETE_RESUME = "DELETE FROM resume_token WHERE user_id = ? AND device_id = ?"
DELETE_DEVICE = "DELETE FROM device WHERE user_id = ? AND device_id = ?"
DELETE_CURSORS_OF_DEVICE = "DELETE FROM device_cursor WHERE user_id = ? AND device_id = ?"
INSERT_DEVICE = (
    "INSERT INTO device (user_id, device_id, first_seen_ms, last_seen_ms) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (user_id, device_id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms"
)
_INSERT_DEVICE_CURSOR = (
    "INSERT INTO device_cursor "
    "(conversation_key, user_id, device_id, is_member, delivered_seq, exact_count, updated_ms) "
)
_OR_CHANGE = (
    " ON CONFLICT (conversation_key, user_id, device_id) DO UPDATE SET is_member = excluded.is_member, "
    "delivered_seq = excluded.delivered_seq, exact_count = excluded.exact_count, "
    "updated_ms = excluded.updated_ms"
)
INSERT_MEMBER_CURSOR = (
    "INSERT INTO member_cursor "
    "(conversation_key, user_id, is_member, delivered_seq, read_seq, read_ms, device_seq, has_left) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (conversation_key, user_id) DO UPDATE SET "
    "is_member = excluded.is_member, delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq, "
    "read_ms = excluded.read_ms, device_seq = excluded.device_seq, has_left = excluded.has_left"
)
UPDATE_MEMBER_CURSOR = (
    "UPDATE member_cursor SET delivered_seq = ?, read_seq = ?, read_ms = ?, device_seq = ? "
    "WHERE conversation_key = ? AND user_id = ?"
)
INSERT_DEVICE_CURSOR = _INSERT_DEVICE_CURSOR + "VALUES (?, ?, ?, ?, ?, ?, ?)" + _OR_CHANGE
UPDATE_DEVICE_CURSOR = (
    "UPDATE device_cursor SET delivered_seq = ?, exact_count = ?, updated_ms = ? "
    "WHERE conversation_key = ? AND user_id = ? AND device_id = ?"
)
DELETE_EXACT = (
    "DELETE FROM device_exact WHERE conversation_key = ? AND user_id = ? AND device_id = ? AND seq <= ?"
)
INSERT_EXACT = "INSERT INTO device_exact (conversation_key, user_id, device_id, seq) VALUES (?, ?, ?, ?)"
INSERT_RESUME = (
    "INSERT INTO resume_token "
    "(user_id, device_id, token_hash, expires_ms, identity_expires_ms, scope, login_hash, login_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, device_id) DO UPDATE SET "
    "token_hash = excluded.token_hash, expires_ms = excluded.expires_ms, "
    "identity_expires_ms = excluded.identity_expires_ms, scope = excluded.scope, "
    "login_hash = excluded.login_hash, login_ms = excluded.login_ms"
)
DELETE_RESUMES = "DELETE FROM resume_token"
INSERT_REVOCATION = (
    "INSERT OR REPLACE INTO revocation (position, kind, user_id, device_id, token_hash, at_ms, ends_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
DELETE_REVOCATIONS = "DELETE FROM revocation WHERE ends_ms < ?1 AND at_ms < ?1"
INSERT_BLOCK = (
    "INSERT INTO block (user_id, blocked_id, since_ms) VALUES (?, ?, ?) "
    "ON CONFLICT (user_id, blocked_id) DO UPDATE SET since_ms = excluded.since_ms"
)
DELETE_BLOCK = "DELETE FROM block WHERE user_id = ? AND blocked_id = ?"
SELECT_LEASTS = """
WITH k (conversation_key, first_seq, head_seq) AS (VALUES {keys})
SELECT k.conversation_key, min(
    ifnull((
        SELECT min(max(d.delivered_seq, m.join_seq - 1)) FROM device_cursor AS d
        CROSS JOIN conversation_member AS m ON m.conversation_key = d.conversation_key AND m.user_id = d.user_id
            AND m.leave_seq IS NULL
        WHERE d.conversation_key = k.conversation_key AND d.is_member = 1 AND d.delivered_seq < k.head_seq
    ), k.head_seq),
    ifnull((
        SELECT min(max(u.device_seq, m.join_seq - 1)) FROM member_cursor AS u
        CROSS JOIN conversation_member AS m ON m.conversation_key = u.conversation_key AND m.user_id = u.user_id
            AND m.leave_seq IS NULL
        WHERE u.conversation_key = k.conversation_key AND u.is_member = 1 AND u.device_seq < k.head_seq
            AND NOT EXISTS (
                SELECT 1 FROM device_cursor AS d
                WHERE d.conversation_key = u.conversation_key AND d.user_id = u.user_id)
    ), k.head_seq)
)
FROM k
WHERE k.conversation_key IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM member_cursor AS u
    CROSS JOIN conversation_member AS m ON m.conversation_key = u.conversation_key AND m.user_id = u.user_id
        AND m.leave_seq IS NULL AND m.join_seq <= k.first_seq
    WHERE u.conversation_key = k.conversation_key AND u.is_member = 1 AND u.device_seq < k.first_seq
) AND NOT EXISTS (
    SELECT 1 FROM device_cursor AS d
    CROSS JOIN conversation_member AS m ON m.conversation_key = d.conversation_key AND m.user_id = d.user_id
        AND m.leave_seq IS NULL AND m.join_seq <= k.first_seq
    WHERE d.conversation_key = k.conversation_key AND d.is_member = 1 AND d.delivered_seq < k.first_seq
)
"""
"""Ends at the first member or device that still lacks the first entry, which is what most confirmations find in a large
group."""

INSERT_OUTBOX = (
    "INSERT INTO outbox (conversation_key, first_seq, since_ms, handled_seq, ready_ms) "
    "SELECT e.conversation_key, e.seq, e.server_ts, e.seq - 1, e.server_ts "
    "FROM message AS e WHERE e.conversation_key = ? AND e.seq = ? "
    "ON CONFLICT (conversation_key) DO UPDATE SET first_seq = excluded.first_seq, since_ms = excluded.since_ms, "
    "handled_seq = max(handled_seq, excluded.handled_seq), "
    "ready_ms = CASE WHEN attempt = 0 AND handled_seq < excluded.first_seq THEN excluded.since_ms ELSE ready_ms END"
)
"""A worker need not look before the first entry that somebody still lacks is old enough."""

DELETE_OUTBOX = "DELETE FROM outbox WHERE conversation_key = ?"
WAKE_OUTBOX = "UPDATE outbox SET ready_ms = ? WHERE conversation_key = ? AND ready_ms IS NULL"
DELETE_PUSHED = "DELETE FROM push_token WHERE user_id = ? AND device_id = ?"
DROP_PUSHED = (
    "DELETE FROM push_token WHERE user_id = ?1 AND (?2 = '' OR device_id = ?2) "
    "AND (?3 IS NULL OR token = ?3) AND (?4 IS NULL OR at_ms <= ?4)"
)
DROP_PUSHED_OF_LOGIN = "DELETE FROM push_token WHERE login_hash = ?"
DELETE_TAKEN = "DELETE FROM push_token WHERE token_hash = ?"
INSERT_PUSHED = (
    "INSERT OR REPLACE INTO push_token "
    "(user_id, device_id, provider, token, token_hash, hide_body, at_ms, login_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_MUTE = (
    "INSERT OR REPLACE INTO mute (conversation_key, user_id, until_ms, but_mentions) VALUES (?, ?, ?, ?)"
)
DELETE_MUTE = "DELETE FROM mute WHERE conversation_key = ? AND user_id = ?"


def load_held_outboxes(connection: Connection, forgotten: Sequence[DevicePlace]) -> list[HeldOutbox]:
    """The outboxes that these devices may hold open; asked before their cursors are deleted."""
    return select(connection, SELECT_OUTBOX_OF_DEVICE, forgotten)


def write(connection: Connection, changes: Changes) -> None:
    """Write everything but the outbox. Raises MayBeRepeatError, with only a part of it written."""
    if changes.new_conversations or changes.conversations:
        _many(connection, INSERT_CONVERSATION, changes.new_conversations)
        _many(connection, UPDATE_CONVERSATION, changes.conversations)
    _many(connection, UPDATE_HEAD, changes.heads)
    if insert(connection, INSERT_MESSAGE, changes.messages, blobs=2) < len(changes.messages):
        raise MayBeRepeatError
    if changes.blobs is not None:
        blobs.write(connection, changes)
    if changes.recalls or changes.ended or changes.joined:
        _write_acts(connection, changes)
    if changes.has_references:
        references.write(connection, changes)
    if changes.streams or changes.ended_streams:
        references.write_streams(connection, changes)
    if changes.standings or changes.bans or changes.ended_bans:
        _many(connection, UPDATE_STANDING, changes.standings)
        _many(connection, INSERT_BAN, changes.bans)
        _many(connection, DELETE_BAN, changes.ended_bans)
    if changes.devices or changes.forgotten:
        _write_devices(connection, changes)
    _write_cursors(connection, changes)
    if changes.logins_ended:
        connection.execute(DELETE_RESUMES)
    if changes.revocations:
        _write_access(connection, changes)
    if changes.tokens:
        _many(connection, INSERT_RESUME, changes.tokens)
    if changes.blocks or changes.ended_blocks:
        _many(connection, INSERT_BLOCK, changes.blocks)
        _many(connection, DELETE_BLOCK, changes.ended_blocks)
    if changes.mutes or changes.dropped_push or changes.dropped_push_logins or changes.taken_push:
        _write_pushing(connection, changes)
    if changes.moderated or changes.unmoderated or changes.reports or changes.resolved_reports:
        moderation.write(connection, changes)
    _many(connection, WAKE_OUTBOX, changes.woken)
    if changes.audit:
        write_audit(connection, changes.audit)
    if changes.erasures or changes.ended_erasures:
        write_erasures(connection, changes)
        moderation.erase(connection, [user_id for user_id, _ in changes.ended_erasures])
        blobs.drop_erased(connection, changes)
    if changes.retentions or changes.floors:
        write_retention(connection, changes)
        blobs.drop_expired(connection, changes)
        references.drop_expired(connection, changes)


def _write_pushing(connection: Connection, changes: Changes) -> None:
    """Who is woken, and where they are reached; a token belongs to one device."""
    _many(connection, INSERT_MUTE, [row for row in changes.mutes if row[2]])
    _many(connection, DELETE_MUTE, [row[:2] for row in changes.mutes if not row[2]])
    _many(connection, DROP_PUSHED, changes.dropped_push)
    _many(connection, DROP_PUSHED_OF_LOGIN, changes.dropped_push_logins)
    _many(connection, DELETE_TAKEN, changes.taken_push)
    _many(connection, INSERT_PUSHED, changes.push_tokens)


def _write_access(connection: Connection, changes: Changes) -> None:
    """Revocations, and the resume tokens that they reach."""
    _many(connection, DELETE_RESUME, changes.dropped_tokens)
    _many(connection, INSERT_REVOCATION, [astuple(it) for it in changes.revocations])
    _many(connection, DELETE_REVOCATIONS, [(changes.revocations_before_ms,)])


def _write_acts(connection: Connection, changes: Changes) -> None:
    """Recalls, and changes of members."""
    _many(connection, UPDATE_BLANK, [row[:2] for row in changes.recalls])
    _many(connection, INSERT_RECALL, changes.recalls)
    _many(connection, STALE_BY_RECALL, [row[:2] for row in changes.recalls])
    _many(connection, UPDATE_MEMBER_GONE, changes.ended)
    _many(connection, INSERT_MEMBER, changes.joined)


def _write_devices(connection: Connection, changes: Changes) -> None:
    """Forget devices, and register new ones."""
    _many(connection, DELETE_EXACT_OF_DEVICE, changes.forgotten)
    _many(connection, DELETE_CURSORS_OF_DEVICE, changes.forgotten)
    _many(connection, DELETE_RESUME, changes.forgotten)
    _many(connection, DELETE_PUSHED, changes.forgotten)
    _many(connection, DELETE_DEVICE, changes.forgotten)
    _many(connection, INSERT_DEVICE, changes.devices)


def _write_cursors(connection: Connection, changes: Changes) -> None:
    if changes.new_member_cursors or changes.new_device_cursors:
        _many(connection, INSERT_MEMBER_CURSOR, changes.new_member_cursors)
        _many(connection, INSERT_DEVICE_CURSOR, changes.new_device_cursors)
    _many(connection, UPDATE_MEMBER_CURSOR, changes.member_cursors)
    _many(connection, UPDATE_DEVICE_CURSOR, changes.device_cursors)
    if changes.passed or changes.exact:
        _many(connection, DELETE_EXACT, changes.passed)
        _many(connection, INSERT_EXACT, changes.exact)


def load_leasts(connection: Connection, outboxes: Sequence[Outbox]) -> list[tuple[int, int]]:
    """For `close_confirmed`: how far everybody has got, where all have the first entry."""
    wanted = [(it.conversation_key, it.first_seq, it.head_seq) for it in outboxes]
    return select(connection, SELECT_LEASTS, wanted)


def write_outbox(connection: Connection, rows: OutboxRows) -> None:
    """Write the outbox, after everything else: when its first entry was stored is read from the log."""
    _many(connection, DELETE_OUTBOX, rows.closed)
    _many(connection, INSERT_OUTBOX, rows.opened)


def _many(connection: Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection.executemany(sql, rows)
