"""What there is of one user on SQLite, and who is being erased. Reads inside a snapshot, writes in a transaction."""

from __future__ import annotations

from typing import Final

from ...core.log.changes import Changes
from ...drivers.sqlite import Connection
from ..person import Erasure, KnownDevice, OwnMessage, PlacePage, own_message, places

BEGIN_ERASURE = (
    "INSERT INTO erasure (user_id, erases_bodies, by_id, began_ms) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (user_id) DO UPDATE SET erases_bodies = max(erases_bodies, excluded.erases_bodies)"
)
END_ERASURE = "DELETE FROM erasure WHERE user_id = ? AND erases_bodies <= ?"
SELECT_ERASURES = "SELECT user_id, erases_bodies, by_id, began_ms FROM erasure ORDER BY user_id LIMIT 1000"
SELECT_DEVICES_OF = """
SELECT d.device_id, d.first_seen_ms, d.last_seen_ms, t.provider, t.at_ms FROM device AS d
LEFT JOIN push_token AS t ON t.user_id = d.user_id AND t.device_id = d.device_id
WHERE d.user_id = ? ORDER BY d.device_id
"""
SELECT_PLACES_OF = """
SELECT c.conversation_key, c.conversation_id, c.type, m.join_seq, m.leave_seq, u.delivered_seq, u.read_seq, u.read_ms,
    ifnull((SELECT until_ms FROM mute AS x WHERE x.conversation_key = c.conversation_key AND x.user_id = u.user_id), 0)
FROM conversation AS c
CROSS JOIN member_cursor AS u ON u.conversation_key = c.conversation_key AND u.user_id = ?1
CROSS JOIN conversation_member AS m ON m.conversation_key = c.conversation_key AND m.user_id = ?1
WHERE c.conversation_key > ?2 AND c.conversation_key <= ?3 ORDER BY c.conversation_key, m.join_seq
"""
SELECT_LAST_PLACE = "SELECT ifnull(max(conversation_key), 0) FROM conversation"
SELECT_MESSAGES_OF = """
SELECT e.client_msg_id, c.conversation_key, e.epoch, e.seq, e.kind, e.server_ts, r.seq IS NOT NULL, e.payload,
    e.seq <= c.floor_seq
FROM conversation AS c
CROSS JOIN message AS e ON e.conversation_key = c.conversation_key AND e.sender_id = ?2 AND e.client_msg_id > ?3
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
WHERE c.conversation_id = ?1 AND (e.seq > c.floor_seq OR e.kind = 'USER' AND r.seq IS NULL AND (
    e.payload <> x'' OR EXISTS (
        SELECT 1 FROM edit AS d WHERE d.conversation_key = e.conversation_key AND d.seq = e.seq)))
ORDER BY e.client_msg_id LIMIT ?4
"""

PLACES_SEARCHED: Final = 20_000
"""Conversations that one read looks into."""


def write_erasures(connection: Connection, changes: Changes) -> None:
    """Who is being erased from now on, and who no more."""
    connection.executemany(BEGIN_ERASURE, changes.erasures)
    connection.executemany(END_ERASURE, changes.ended_erasures)


def erasures(connection: Connection) -> list[Erasure]:
    """Those that have not ended."""
    rows = connection.execute(SELECT_ERASURES)
    return [Erasure(user_id, bool(erases), by_id, began_ms) for user_id, erases, by_id, began_ms in rows]


def devices_of(connection: Connection, user_id: str) -> list[KnownDevice]:
    """The user's devices, by id."""
    return [KnownDevice(*row) for row in connection.execute(SELECT_DEVICES_OF, (user_id,))]


def places_of(connection: Connection, user_id: str, after_key: int) -> PlacePage:
    """The conversations that the user is or was in, among the next ones."""
    ((last_key,),) = connection.execute(SELECT_LAST_PLACE)
    up_to = after_key + PLACES_SEARCHED
    rows = connection.execute(SELECT_PLACES_OF, (user_id, after_key, up_to))
    return PlacePage(places(rows), up_to if up_to < last_key else None)


def messages_of(
    connection: Connection, conversation_id: str, user_id: str, after: str, limit: int
) -> list[OwnMessage]:
    """What the user wrote in a conversation, in the order of their keys."""
    rows = connection.execute(SELECT_MESSAGES_OF, (conversation_id, user_id, after, limit))
    return [own_message(*row) for row in rows]
