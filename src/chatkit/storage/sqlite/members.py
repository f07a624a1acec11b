"""The rare commands on SQLite: conversations, memberships, sessions, epochs.

They write their rows directly; `writer`, which calls them, flushes the batch before and after each of them.
Each function validates all of its command before it changes anything, and returns the outcome or raises a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.visibility import Interval
from .. import base, rules
from ..base import (
    AddMembers,
    CreateConversation,
    Created,
    Done,
    MembersChanged,
    MembershipSnapshot,
    OpenSession,
    RemoveMember,
    RenewEpoch,
    RenewLogin,
    ResumeSession,
    SessionOpened,
)
from .batch import SELECT_INTERVALS, SELECT_MEMBER_IDS, Batch, Loaded

AUDIT = (
    "INSERT INTO audit (at_ms, conversation_key, actor_id, action, seq, subject) VALUES (?, ?, ?, ?, ?, ?)"
)
INSERT_CONVERSATION = (
    "INSERT INTO conversation (conversation_id, type, title, epoch, head_seq, creator_id, single_pair, "
    "member_count, created_ms, last_activity_ms) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?)"
)
INSERT_MEMBER = (
    "INSERT INTO conversation_member (conversation_key, user_id, join_seq, leave_seq, role) "
    "VALUES (?, ?, ?, NULL, ?)"
)
INSERT_MEMBER_CURSOR = (
    "INSERT INTO member_cursor (conversation_key, user_id, is_member, delivered_seq, read_seq, read_ms) "
    "VALUES (?, ?, 1, ?, ?, ?)"
)
INSERT_DEVICE_CURSORS_OF_NEW_MEMBER = (
    "INSERT INTO device_cursor "
    "(conversation_key, user_id, device_id, is_member, delivered_seq, exact_count, updated_ms) "
    "SELECT ?, user_id, device_id, 1, ?, 0, ? FROM device WHERE user_id = ?"
)
INSERT_DEVICE_CURSORS_OF_OLD_MEMBER = (
    INSERT_DEVICE_CURSORS_OF_NEW_MEMBER + " ON CONFLICT (conversation_key, user_id, device_id) DO NOTHING"
)
INSERT_DEVICE_CURSORS_OF_NEW_DEVICE = (
    "INSERT INTO device_cursor "
    "(conversation_key, user_id, device_id, is_member, delivered_seq, exact_count, updated_ms) "
    "SELECT m.conversation_key, m.user_id, ?, 1, ifnull("
    "(SELECT max(d.delivered_seq) FROM device_cursor AS d "
    "WHERE d.conversation_key = m.conversation_key AND d.user_id = m.user_id), "
    "(SELECT min(f.join_seq) - 1 FROM conversation_member AS f "
    "WHERE f.conversation_key = m.conversation_key AND f.user_id = m.user_id)), 0, ? "
    "FROM conversation_member AS m WHERE m.user_id = ? AND m.leave_seq IS NULL"
)
SELECT_MEMBER_POSITION = (
    "SELECT delivered_seq, read_seq FROM member_cursor WHERE conversation_key = ? AND user_id = ?"
)
SELECT_DEVICE_POSITIONS = (
    "SELECT device_id, delivered_seq FROM device_cursor WHERE conversation_key = ? AND user_id = ?"
)
UPDATE_MEMBER_RETURNED = (
    "UPDATE member_cursor SET is_member = 1, delivered_seq = ?, read_seq = ? "
    "WHERE conversation_key = ? AND user_id = ?"
)
UPDATE_DEVICE_RETURNED = (
    "UPDATE device_cursor SET is_member = 1, delivered_seq = ? "
    "WHERE conversation_key = ? AND user_id = ? AND device_id = ?"
)
UPDATE_MEMBER_COUNT = "UPDATE conversation SET member_count = ? WHERE conversation_key = ?"
UPDATE_MEMBER_GONE = (
    "UPDATE conversation_member SET leave_seq = ? "
    "WHERE conversation_key = ? AND user_id = ? AND leave_seq IS NULL"
)
UPDATE_MEMBER_CURSOR_GONE = (
    "UPDATE member_cursor SET is_member = 0 WHERE conversation_key = ? AND user_id = ?"
)
UPDATE_DEVICE_CURSOR_GONE = (
    "UPDATE device_cursor SET is_member = 0 WHERE conversation_key = ? AND user_id = ?"
)
UPDATE_EPOCH = "UPDATE conversation SET epoch = ? WHERE conversation_key = ?"
INSERT_DEVICE = (
    "INSERT INTO device (user_id, device_id, first_seen_ms, last_seen_ms) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (user_id, device_id) DO NOTHING"
)
UPDATE_DEVICE_SEEN = "UPDATE device SET last_seen_ms = ? WHERE user_id = ? AND device_id = ?"
SELECT_SURPLUS_DEVICES = (
    "SELECT device_id FROM device WHERE user_id = ? AND device_id <> ? "
    "ORDER BY last_seen_ms DESC, device_id DESC LIMIT -1 OFFSET ?"
)
SELECT_OUTBOX_OF_DEVICE = (
    "SELECT d.conversation_key FROM device_cursor AS d "
    "CROSS JOIN outbox AS o ON o.conversation_key = d.conversation_key "
    "WHERE d.user_id = ? AND d.device_id = ? AND d.is_member = 1"
)
DELETE_EXACT_OF_DEVICE = (
    "DELETE FROM device_exact WHERE user_id = ?1 AND device_id = ?2 AND conversation_key IN "
    "(SELECT d.conversation_key FROM device_cursor AS d "
    "WHERE d.user_id = ?1 AND d.device_id = ?2 AND d.exact_count > 0)"
)
DELETE_CURSORS_OF_DEVICE = "DELETE FROM device_cursor WHERE user_id = ? AND device_id = ?"
DELETE_RESUME = "DELETE FROM resume_token WHERE user_id = ? AND device_id = ?"
DELETE_DEVICE = "DELETE FROM device WHERE user_id = ? AND device_id = ?"
INSERT_RESUME = (
    "INSERT INTO resume_token (user_id, device_id, token_hash, expires_ms, identity_expires_ms, scope) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, device_id) DO UPDATE SET "
    "token_hash = excluded.token_hash, expires_ms = excluded.expires_ms, "
    "identity_expires_ms = excluded.identity_expires_ms, scope = excluded.scope"
)
UPDATE_LOGIN = (
    "UPDATE resume_token SET identity_expires_ms = ?, scope = ? WHERE user_id = ? AND device_id = ?"
)
SELECT_RESUME = (
    "SELECT user_id, device_id, expires_ms, identity_expires_ms, scope FROM resume_token WHERE token_hash = ?"
)
SELECT_JOINED = (
    "SELECT c.conversation_id, c.type, c.epoch, c.head_seq, c.member_count FROM conversation_member AS m "
    "JOIN conversation AS c ON c.conversation_key = m.conversation_key "
    "WHERE m.user_id = ? AND m.leave_seq IS NULL ORDER BY c.conversation_id"
)
ALL = -1
"""As a LIMIT: no bound. A group's size is bounded where members are added."""


def create_conversation(batch: Batch, command: CreateConversation) -> Created:
    """Create a conversation with its first entry, or find the one that is meant."""
    users = rules.founders(command)
    pair = rules.pair_of(users) if command.type == "SINGLE" else None
    existing = batch.find_by_pair(pair) if pair is not None else None
    if existing is None:
        existing = batch.find(command.conversation_id)
        if existing is not None:
            rows = batch.connection.execute(SELECT_MEMBER_IDS, (existing.key, ALL))
            rules.check_same_group(command, existing.type, [user_id for (user_id,) in rows])
    if existing is not None:
        return Created(batch.describe(existing), False, None, ())
    loaded = _insert(batch, command, pair, len(users))
    payload = rules.member_payload("CREATED", users)
    entry = batch.append_made(loaded, "MEMBER", command.creator_id, payload, command.at_ms)
    _join_new(batch, loaded, users, entry.seq, command.at_ms)
    _audit(batch, loaded, command.at_ms, command.creator_id, "CREATED", entry.seq, command.conversation_id)
    return Created(batch.describe(loaded), True, entry, users)


def _insert(batch: Batch, command: CreateConversation, pair: str | None, member_count: int) -> Loaded:
    batch.connection.change(
        INSERT_CONVERSATION,
        (
            command.conversation_id,
            command.type,
            command.title,
            command.epoch,
            command.creator_id,
            pair,
            member_count,
            command.at_ms,
            command.at_ms,
        ),
    )
    loaded = batch.find(command.conversation_id)
    assert loaded is not None, "a row that was just inserted is there"
    return loaded


def _join_new(batch: Batch, loaded: Loaded, users: Sequence[str], seq: int, at_ms: int) -> None:
    """Start the memberships of users who never were members."""
    _insert_memberships(batch, loaded, users, seq)
    cursor = seq - 1
    batch.connection.executemany(
        INSERT_MEMBER_CURSOR, [(loaded.key, user, cursor, cursor, at_ms) for user in users]
    )
    batch.connection.executemany(
        INSERT_DEVICE_CURSORS_OF_NEW_MEMBER, [(loaded.key, cursor, at_ms, user) for user in users]
    )


def _insert_memberships(batch: Batch, loaded: Loaded, users: Sequence[str], seq: int) -> None:
    roles = ((user, "CREATOR" if user == loaded.creator_id else "MEMBER") for user in users)
    batch.connection.executemany(INSERT_MEMBER, [(loaded.key, user, seq, role) for user, role in roles])


def _join_again(batch: Batch, loaded: Loaded, user_id: str, seq: int, at_ms: int) -> None:
    """Start another membership: cursors go on where they stood, moved over what is not visible."""
    _insert_memberships(batch, loaded, [user_id], seq)
    place = (loaded.key, user_id)
    intervals = [Interval(*row) for row in batch.connection.execute(SELECT_INTERVALS, place)]
    ((delivered, read),) = batch.connection.execute(SELECT_MEMBER_POSITION, place)
    moved = (rules.settled(delivered, intervals), rules.settled(read, intervals))
    batch.connection.change(UPDATE_MEMBER_RETURNED, (*moved, *place))
    known = {
        device: rules.settled(cursor, intervals)
        for device, cursor in batch.connection.execute(SELECT_DEVICE_POSITIONS, place)
    }
    batch.connection.executemany(
        UPDATE_DEVICE_RETURNED, [(cursor, *place, device) for device, cursor in known.items()]
    )
    start = max(known.values(), default=rules.settled(0, intervals))
    batch.connection.change(INSERT_DEVICE_CURSORS_OF_OLD_MEMBER, (loaded.key, start, at_ms, user_id))


def add_members(batch: Batch, command: AddMembers) -> MembersChanged:
    """Add those users to a group who are not in it."""
    loaded, _ = batch.joined(command.conversation_id, command.by)
    rules.check_may_add(loaded.type, loaded.creator_id, command.by)
    before = {user: batch.intervals(loaded.key, user) for user in sorted(set(command.user_ids))}
    added = [user for user, intervals in before.items() if not rules.is_current(intervals)]
    rules.check_member_count(loaded.member_count + len(added), command.members_max)
    if not added:
        return MembersChanged(batch.describe(loaded), (), (), None)
    payload = rules.member_payload("ADDED", added)
    entry = batch.append_made(loaded, "MEMBER", command.by, payload, command.at_ms)
    _set_member_count(batch, loaded, loaded.member_count + len(added))
    _join_new(batch, loaded, [user for user in added if not before[user]], entry.seq, command.at_ms)
    for user in added:
        if before[user]:
            _join_again(batch, loaded, user, entry.seq, command.at_ms)
        _audit(batch, loaded, command.at_ms, command.by, "ADDED", entry.seq, user)
    return MembersChanged(batch.describe(loaded), tuple(added), (), entry)


def remove_member(batch: Batch, command: RemoveMember) -> MembersChanged:
    """End a membership; the entry that says so is the first one its user does not see."""
    loaded, _ = batch.joined(command.conversation_id, command.by)
    if not rules.is_current(batch.intervals(loaded.key, command.user_id)):
        raise rules.not_found()
    rules.check_may_remove(loaded.type, loaded.creator_id, command.by, command.user_id)
    op: rules.MemberOp = "LEFT" if command.by == command.user_id else "REMOVED"
    payload = rules.member_payload(op, [command.user_id])
    entry = batch.append_made(loaded, "MEMBER", command.by, payload, command.at_ms)
    place = (loaded.key, command.user_id)
    batch.connection.change(UPDATE_MEMBER_GONE, (entry.seq, *place))
    batch.connection.change(UPDATE_MEMBER_CURSOR_GONE, place)
    batch.connection.change(UPDATE_DEVICE_CURSOR_GONE, place)
    _set_member_count(batch, loaded, loaded.member_count - 1)
    loaded.confirmed = True  # who goes may have been the last one missing
    _audit(batch, loaded, command.at_ms, command.by, op, entry.seq, command.user_id)
    return MembersChanged(batch.describe(loaded), (), (command.user_id,), entry)


def _set_member_count(batch: Batch, loaded: Loaded, count: int) -> None:
    loaded.member_count = count
    batch.connection.change(UPDATE_MEMBER_COUNT, (count, loaded.key))


def _audit(
    batch: Batch, loaded: Loaded, at_ms: int, actor_id: str, action: str, seq: int, subject: str
) -> None:
    batch.connection.change(AUDIT, (at_ms, loaded.key, actor_id, action, seq, subject))


def register_device(batch: Batch, user_id: str, device_id: str, at_ms: int) -> None:
    """Make sure that a device is known and has a cursor wherever its user is a member.

    If that makes more than `base.DEVICES_MAX`, the longest unseen other one is forgotten.
    """
    batch.write()
    if not batch.connection.change(INSERT_DEVICE, (user_id, device_id, at_ms, at_ms)):
        return
    batch.connection.change(INSERT_DEVICE_CURSORS_OF_NEW_DEVICE, (device_id, at_ms, user_id))
    others = (user_id, device_id, base.DEVICES_MAX - 1)
    for (surplus,) in batch.connection.execute(SELECT_SURPLUS_DEVICES, others):
        _forget_device(batch, user_id, surplus)


def _forget_device(batch: Batch, user_id: str, device_id: str) -> None:
    """Drop a device; what only this one still missed is missed no more."""
    place = (user_id, device_id)
    waiting = [key for (key,) in batch.connection.execute(SELECT_OUTBOX_OF_DEVICE, place)]
    for sql in (DELETE_EXACT_OF_DEVICE, DELETE_CURSORS_OF_DEVICE, DELETE_RESUME, DELETE_DEVICE):
        batch.connection.change(sql, place)
    batch.forget_device(user_id, device_id)
    batch.close_confirmed(waiting)


def open_session(batch: Batch, command: OpenSession) -> SessionOpened:
    """Register the device, replace its resume token, and read the user's conversations."""
    return _open(batch, command, command.user_id, command.identity_expires_ms, command.scope)


def resume_session(batch: Batch, command: ResumeSession) -> SessionOpened:
    """Spend a resume token and go on as if its user had logged in."""
    rows = batch.connection.execute(SELECT_RESUME, (command.used_hash,))
    if not rows or rows[0][1] != command.device_id or command.at_ms > rows[0][2]:
        raise rules.token_revoked()
    ((user_id, _, _, identity_expires_ms, scope),) = rows
    rules.check_login(identity_expires_ms, command.leeway_ms, command.at_ms)
    return _open(batch, command, user_id, identity_expires_ms, scope)


def _open(
    batch: Batch,
    command: OpenSession | ResumeSession,
    user_id: str,
    identity_expires_ms: int | None,
    scope: str,
) -> SessionOpened:
    device_id = command.device_id
    register_device(batch, user_id, device_id, command.at_ms)
    batch.connection.change(UPDATE_DEVICE_SEEN, (command.at_ms, user_id, device_id))
    token = (command.resume_hash, command.resume_expires_ms, identity_expires_ms, scope)
    batch.connection.change(INSERT_RESUME, (user_id, device_id, *token))
    joined = tuple(MembershipSnapshot(*row) for row in batch.connection.execute(SELECT_JOINED, (user_id,)))
    return SessionOpened(user_id, device_id, identity_expires_ms, scope, joined)


def renew_login(batch: Batch, command: RenewLogin) -> Done:
    """Let the device's resume token stand for a newer login; without one there is nothing to do."""
    place = (command.user_id, command.device_id)
    batch.connection.change(UPDATE_DEVICE_SEEN, (command.at_ms, *place))
    batch.connection.change(UPDATE_LOGIN, (command.identity_expires_ms, command.scope, *place))
    return Done()


def renew_epoch(batch: Batch, command: RenewEpoch) -> Done:
    """Give the log a new identity; entries keep the epoch, and so the id, that they were written under."""
    loaded = batch.find(command.conversation_id)
    if loaded is None:
        raise rules.not_found()
    batch.connection.change(UPDATE_EPOCH, (command.epoch, loaded.key))
    _audit(batch, loaded, command.at_ms, "", "EPOCH_RENEWED", loaded.head_seq, command.epoch)
    return Done()
