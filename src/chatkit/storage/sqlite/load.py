"""Loads the rows of a batch: what `Keys` name, into a `State`, with one statement per kind of row.

Called by `writer` inside a write transaction and by `reads` inside a snapshot. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...core.log.keys import Keys
from ...core.log.outcomes import MembershipSnapshot, Revocation
from ...core.log.state import (
    ConversationState,
    DeviceCursor,
    DeviceState,
    MemberCursors,
    MembershipState,
    MessageRow,
    State,
    TokenRow,
)
from ...core.policy import RANKS
from ...core.visibility import Interval
from ...drivers.sqlite import Connection, Row
from . import blobs, moderation, references
from .select import select

_CONVERSATION = """
SELECT
    c.conversation_key, c.conversation_id, c.type, c.title, c.epoch, c.head_seq, c.owner_id, c.single_pair,
    c.member_count, c.last_activity_ms, c.blocks, o.first_seq, o.first_seq, c.history,
    c.floor_seq, o.ready_ms IS NULL
FROM k CROSS JOIN conversation AS c ON c.{column} = k.name
LEFT JOIN outbox AS o ON o.conversation_key = c.conversation_key
"""
_NAMED = "WITH k (name) AS (VALUES {keys})"
SELECT_CONVERSATIONS = _NAMED + _CONVERSATION.replace("{column}", "conversation_id")
SELECT_CONVERSATIONS_BY_KEY = _NAMED + _CONVERSATION.replace("{column}", "conversation_key")
SELECT_CONVERSATIONS_BY_PAIR = _NAMED + _CONVERSATION.replace("{column}", "single_pair")
SELECT_LAST_KEY = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'conversation'"
SELECT_PRESENT = """
WITH k (conversation_key, user_id) AS (VALUES {keys})
SELECT m.user_id, m.conversation_key, m.join_seq, m.first_seq, m.role, m.silenced_until_ms FROM k
CROSS JOIN conversation_member AS m ON m.conversation_key = k.conversation_key AND m.user_id = k.user_id
    AND m.leave_seq IS NULL
"""
SELECT_INTERVALS_AND_CURSORS = """
WITH k (conversation_key, user_id) AS (VALUES {keys})
SELECT
    m.user_id, m.conversation_key, m.join_seq, m.leave_seq, m.first_seq, m.role, m.silenced_until_ms,
    u.delivered_seq, u.read_seq, u.read_ms, u.device_seq, u.has_left
FROM k
CROSS JOIN conversation_member AS m ON m.conversation_key = k.conversation_key AND m.user_id = k.user_id
CROSS JOIN member_cursor AS u ON u.conversation_key = k.conversation_key AND u.user_id = k.user_id
"""
SELECT_DEVICE_CURSORS = """
WITH k (conversation_key, user_id) AS (VALUES {keys})
SELECT d.user_id, d.conversation_key, d.device_id, d.delivered_seq, d.updated_ms, d.exact_count FROM k
CROSS JOIN device_cursor AS d ON d.conversation_key = k.conversation_key AND d.user_id = k.user_id
"""
SELECT_EXACT = """
WITH k (conversation_key, user_id, device_id) AS (VALUES {keys})
SELECT x.user_id, x.conversation_key, x.device_id, x.seq FROM k
CROSS JOIN device_exact AS x ON x.conversation_key = k.conversation_key AND x.user_id = k.user_id
    AND x.device_id = k.device_id
"""
_MESSAGE = """
SELECT
    e.conversation_key, e.seq, e.epoch, e.kind, e.sender_id, e.client_msg_id, e.server_ts, e.payload_mac, e.payload,
    r.recalled_by_seq
FROM k CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND {key}
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
"""
SELECT_SENT = "WITH k (conversation_key, sender_id, client_msg_id) AS (VALUES {keys})" + _MESSAGE.replace(
    "{key}", "e.sender_id = k.sender_id AND e.client_msg_id = k.client_msg_id"
)
SELECT_PLACES = "WITH k (conversation_key, seq) AS (VALUES {keys})" + _MESSAGE.replace(
    "{key}", "e.seq = k.seq"
)
SELECT_SENDERS = """
WITH k (conversation_key, first_seq, last_seq) AS (VALUES {keys})
SELECT e.conversation_key, e.seq, e.sender_id FROM k
CROSS JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq BETWEEN k.first_seq AND k.last_seq
"""
SELECT_MEMBER_IDS = """
WITH k (conversation_key) AS (VALUES {keys})
SELECT m.conversation_key, m.user_id FROM k
CROSS JOIN conversation_member AS m ON m.conversation_key = k.conversation_key AND m.leave_seq IS NULL
    AND m.user_id <= ifnull((
        SELECT l.user_id FROM conversation_member AS l
        WHERE l.conversation_key = k.conversation_key AND l.leave_seq IS NULL ORDER BY l.user_id LIMIT 1 OFFSET ?
    ), x'')
"""
"""Up to the nth member; where there are fewer, up to the empty blob, which is greater than every text."""

SELECT_ELDERS = """
WITH k (conversation_key) AS (VALUES {keys})
SELECT m.conversation_key, m.user_id, m.join_seq, m.role FROM k
CROSS JOIN conversation_member AS m ON m.conversation_key = k.conversation_key AND m.leave_seq IS NULL
    AND m.user_id IN (
        SELECT l.user_id FROM conversation_member AS l
        WHERE l.conversation_key = k.conversation_key AND l.leave_seq IS NULL
        ORDER BY CASE l.role WHEN 'ADMIN' THEN 1 WHEN 'MEMBER' THEN 2 ELSE 3 END, l.join_seq, l.user_id LIMIT ?
    )
"""
SELECT_BLOCKS = """
WITH k (user_id, blocked_id) AS (VALUES {keys})
SELECT b.user_id, b.blocked_id FROM k
CROSS JOIN block AS b ON b.user_id = k.user_id AND b.blocked_id = k.blocked_id
"""
SELECT_BLOCK_COUNTS = """
WITH k (user_id) AS (VALUES {keys})
SELECT k.user_id, (SELECT count(*) FROM block AS b WHERE b.user_id = k.user_id) FROM k
WHERE k.user_id IS NOT NULL
"""
SELECT_BANS = """
WITH k (conversation_id, user_id) AS (VALUES {keys})
SELECT k.conversation_id, k.user_id FROM k
CROSS JOIN conversation AS c ON c.conversation_id = k.conversation_id
CROSS JOIN conversation_ban AS b ON b.conversation_key = c.conversation_key AND b.user_id = k.user_id
"""
SELECT_BAN_COUNTS = """
WITH k (conversation_id) AS (VALUES {keys})
SELECT k.conversation_id, (SELECT count(*) FROM conversation_ban AS b WHERE b.conversation_key = c.conversation_key)
FROM k CROSS JOIN conversation AS c ON c.conversation_id = k.conversation_id
"""
SELECT_DEVICES = """
WITH k (user_id) AS (VALUES {keys})
SELECT d.user_id, d.device_id, d.first_seen_ms, d.last_seen_ms FROM k
CROSS JOIN device AS d ON d.user_id = k.user_id
"""
SELECT_LISTED = """
WITH k (user_id) AS (VALUES {keys})
SELECT m.user_id, m.conversation_key, c.conversation_id, c.type, c.epoch, c.head_seq, c.member_count FROM k
CROSS JOIN conversation_member AS m ON m.user_id = k.user_id AND m.leave_seq IS NULL
CROSS JOIN conversation AS c ON c.conversation_key = m.conversation_key
"""
_RESUME = """
SELECT
    t.user_id, t.device_id, t.token_hash, t.expires_ms, t.identity_expires_ms, t.scope, t.login_hash, t.login_ms
FROM k CROSS JOIN resume_token AS t ON
"""
SELECT_TOKENS = (
    "WITH k (user_id, device_id) AS (VALUES {keys})"
    + _RESUME
    + "t.user_id = k.user_id AND t.device_id = k.device_id"
)
SELECT_TOKENS_OF_USERS = "WITH k (user_id) AS (VALUES {keys})" + _RESUME + "t.user_id = k.user_id"
SELECT_TOKENS_OF_LOGINS = "WITH k (login_hash) AS (VALUES {keys})" + _RESUME + "t.login_hash = k.login_hash"
SELECT_REVOCATIONS = """
WITH k (user_id, device_id, token_hash) AS (VALUES {keys})
SELECT r.position, r.kind, r.user_id, r.device_id, r.token_hash, r.at_ms, r.ends_ms FROM k
CROSS JOIN revocation AS r ON r.user_id = k.user_id AND r.device_id = k.device_id AND r.token_hash = k.token_hash
"""
SELECT_LAST_POSITION = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'revocation'"
SELECT_TOKENS_BY_HASH = "WITH k (token_hash) AS (VALUES {keys})" + _RESUME + "t.token_hash = k.token_hash"


def load(connection: Connection, keys: Keys, state: State) -> None:
    """Put everything that the keys name into the state.

    Args:
        connection: In a transaction or snapshot.
        keys: What is wanted; kinds of which nothing is named cost nothing.
        state: Empty, or what an earlier load left.
    """
    state.expect(keys)
    unknown = [name for name in keys.conversations if state.conversations[name] is None]
    _load_named(connection, SELECT_CONVERSATIONS, unknown, state)
    if keys.names_rare:
        _load_other_conversations(connection, keys, state)
    with_cursors, others = state.expect_members(keys)
    if others:
        _load_present(connection, others, state)
    if with_cursors:
        _load_cursors(connection, with_cursors, state)
    if keys.sent:
        _load_sent(connection, keys, state)
    if keys.names_references:
        references.load(connection, keys, state)
    if keys.names_moderation:
        moderation.load(connection, keys, state)
    if keys.names_blobs:
        blobs.load(connection, keys, state)
    if keys.names_rare:
        _load_messages(connection, keys, state)
        _load_member_lists(connection, keys, state)
        _load_users(connection, keys, state)


def _load_other_conversations(connection: Connection, keys: Keys, state: State) -> None:
    """Those that are not named by their id, each once, whatever it is named by."""
    by_key = [key for key in keys.conversation_keys if state.conversations[key] is None]
    _load_named(connection, SELECT_CONVERSATIONS_BY_KEY, by_key, state)
    by_pair = [pair for pair in keys.pairs if state.pairs[pair] is None]
    _load_named(connection, SELECT_CONVERSATIONS_BY_PAIR, by_pair, state)
    if keys.new_conversations:
        ((last,),) = connection.execute(SELECT_LAST_KEY)
        state.new_keys.extend(range(last + 1, last + 1 + keys.new_conversations))


def _load_named(connection: Connection, sql: str, names: Iterable[str | int], state: State) -> None:
    for row in select(connection, sql, [(name,) for name in names]):
        state.add_conversation(ConversationState(*row))


def _load_present(connection: Connection, named: Sequence[MembershipState], state: State) -> None:
    for user_id, key, join_seq, first_seq, *standing in select(connection, SELECT_PRESENT, _places(named)):
        state.memberships[user_id][key].load(Interval(join_seq, None, first_seq), *standing)


def _load_cursors(connection: Connection, named: Sequence[MembershipState], state: State) -> None:
    places = _places(named)
    for user_id, key, *columns in select(connection, SELECT_INTERVALS_AND_CURSORS, places):
        membership = state.memberships[user_id][key]
        membership.load(Interval(*columns[:3]), *columns[3:5])
        if membership.cursors is None:
            delivered_seq, read_seq, read_ms, device_seq, has_left = columns[5:]
            membership.cursors = MemberCursors(delivered_seq, read_seq, read_ms, device_seq, bool(has_left))
    exact = []
    for row in select(connection, SELECT_DEVICE_CURSORS, places):
        user_id, key, device_id, delivered_seq, updated_ms, exact_count = row
        state.memberships[user_id][key].devices[device_id] = DeviceCursor(delivered_seq, updated_ms)
        if exact_count:
            exact.append((key, user_id, device_id))
    above: dict[tuple[str, int, str], list[int]] = {}
    for user_id, key, device_id, seq in select(connection, SELECT_EXACT, exact):
        above.setdefault((user_id, key, device_id), []).append(seq)
    for (user_id, key, device_id), seqs in above.items():
        state.memberships[user_id][key].devices[device_id].exact = sorted(seqs)


def _places(named: Sequence[MembershipState]) -> list[tuple[object, ...]]:
    return [(it.conversation.key, it.user_id) for it in named]


def _load_messages(connection: Connection, keys: Keys, state: State) -> None:
    for row in select(connection, SELECT_PLACES, keys.places):
        message = _message(row, state)
        state.places[message.conversation_key, message.seq] = message
    for key, seq, sender_id in select(connection, SELECT_SENDERS, keys.merged_senders()):
        state.senders.setdefault(key, {})[seq] = sender_id


def _load_sent(connection: Connection, keys: Keys, state: State) -> None:
    wanted, ids = [], {}
    for conversation_id, sender_id, client_msg_id in keys.sent:
        conversation = state.conversations[conversation_id]
        if conversation is not None:
            wanted.append((conversation.key, sender_id, client_msg_id))
            ids[conversation.key] = conversation_id
    for row in select(connection, SELECT_SENT, wanted):
        message = _message(row, state)
        assert message.client_msg_id is not None, "it was found by it"
        state.sent[ids[message.conversation_key], message.sender_id, message.client_msg_id] = message


def _message(row: Row, state: State) -> MessageRow:
    *columns, recalled_by_seq = row
    message = MessageRow(*columns)
    if recalled_by_seq is not None:
        state.recalled[message.conversation_key, message.seq] = recalled_by_seq
    return message


def _load_member_lists(connection: Connection, keys: Keys, state: State) -> None:
    wanted = [(key,) for key in state.expect_lists(keys)]
    for key, user_id in select(connection, SELECT_MEMBER_IDS, wanted, keys.members_max - 1):
        state.member_ids[key].add(user_id)
    eldest = [(key,) for key in state.expect_elders(keys)]
    for key, user_id, join_seq, role in select(connection, SELECT_ELDERS, eldest, keys.elders_max):
        state.elders[key][user_id] = (RANKS[role], join_seq)


def _load_users(connection: Connection, keys: Keys, state: State) -> None:
    unknown = [(it,) for it in keys.devices if not state.devices[it]]
    for user_id, device_id, *seen in select(connection, SELECT_DEVICES, unknown):
        state.devices[user_id][device_id] = DeviceState(*seen)
    for user_id, key, *columns in select(connection, SELECT_LISTED, [(it,) for it in keys.listed]):
        state.listed[user_id][key] = MembershipSnapshot(*columns)
    for user_id, blocked_id in select(connection, SELECT_BLOCKS, keys.blocks):
        state.blocks[user_id, blocked_id] = True
    counted = [(it,) for it in keys.block_counts]
    state.block_counts.update(select(connection, SELECT_BLOCK_COUNTS, counted))
    state.bans.update(dict.fromkeys(select(connection, SELECT_BANS, keys.bans), True))
    state.ban_counts.update(select(connection, SELECT_BAN_COUNTS, [(it,) for it in keys.ban_counts]))
    _load_tokens(connection, keys, state)
    for position, *columns in select(connection, SELECT_REVOCATIONS, keys.revocations):
        found = Revocation(position, *columns)
        state.revocations[found.user_id, found.device_id, found.token_hash][found.kind] = found
    if keys.new_revocations:
        ((last,),) = connection.execute(SELECT_LAST_POSITION)
        state.new_positions.extend(range(last + 1, last + 1 + keys.new_revocations))


def _load_tokens(connection: Connection, keys: Keys, state: State) -> None:
    tokens = [
        *select(connection, SELECT_TOKENS, keys.tokens),
        *select(connection, SELECT_TOKENS_BY_HASH, [(it,) for it in keys.token_hashes]),
        *select(connection, SELECT_TOKENS_OF_USERS, [(it,) for it in keys.token_users]),
        *select(connection, SELECT_TOKENS_OF_LOGINS, [(it,) for it in keys.login_hashes]),
    ]
    for row in tokens:
        token = TokenRow(*row)
        place = (token.user_id, token.device_id)
        state.tokens[place] = token
        state.token_places[token.token_hash] = place
