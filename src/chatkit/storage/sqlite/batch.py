"""One transaction's working memory for SQLite: what was loaded, what is still to be written, and the writing.

A `Batch` lives as long as one transaction and is never kept, since another process may write in between. It loads
each conversation, membership and cursor once, lets commands change them in memory, and writes each once in
`flush`. Message rows are written at once, because the unique key decides about repeats. Called by the command
modules (`commands`, `members`) and driven by `writer`; reads use its finders.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import msgspec

from ...core.visibility import Interval
from ...drivers.sqlite import Connection
from ...types import ConversationType
from .. import rules
from ..base import Conversation, Entry, message_id

_CONVERSATION = """
SELECT
    c.conversation_key, c.conversation_id, c.type, c.title, c.epoch, c.head_seq, c.creator_id, c.single_pair,
    c.member_count, o.first_seq
FROM conversation AS c LEFT JOIN outbox AS o ON o.conversation_key = c.conversation_key
"""
SELECT_CONVERSATION = _CONVERSATION + "WHERE c.conversation_id = ?"
SELECT_CONVERSATION_BY_KEY = _CONVERSATION + "WHERE c.conversation_key = ?"
SELECT_CONVERSATION_BY_PAIR = _CONVERSATION + "WHERE c.single_pair = ?"
SELECT_CONVERSATIONS_AND_INTERVALS = """
SELECT
    c.conversation_key, c.conversation_id, c.type, c.title, c.epoch, c.head_seq, c.creator_id, c.single_pair,
    c.member_count, o.first_seq, j.value, m.join_seq, m.leave_seq
FROM json_each(?) AS j
CROSS JOIN conversation AS c ON c.conversation_id = j.key
LEFT JOIN outbox AS o ON o.conversation_key = c.conversation_key
LEFT JOIN conversation_member AS m ON m.conversation_key = c.conversation_key AND m.user_id = j.value
"""
SELECT_INTERVALS = (
    "SELECT join_seq, leave_seq FROM conversation_member "
    "WHERE conversation_key = ? AND user_id = ? ORDER BY join_seq"
)
SELECT_MEMBER_CURSOR = (
    "SELECT delivered_seq, read_seq, read_ms FROM member_cursor WHERE conversation_key = ? AND user_id = ?"
)
SELECT_DEVICE_CURSOR = (
    "SELECT delivered_seq, exact_count, updated_ms FROM device_cursor "
    "WHERE conversation_key = ? AND user_id = ? AND device_id = ?"
)
SELECT_CLOSABLE = """
SELECT o.conversation_key, (
    SELECT ifnull(min(d.delivered_seq), 9223372036854775807) FROM device_cursor AS d
    WHERE d.conversation_key = o.conversation_key AND d.is_member = 1
) FROM json_each(?) AS j CROSS JOIN outbox AS o ON o.conversation_key = j.value
WHERE NOT EXISTS (
    SELECT 1 FROM device_cursor AS d
    WHERE d.conversation_key = o.conversation_key AND d.is_member = 1 AND d.delivered_seq < o.first_seq
) AND NOT EXISTS (
    SELECT 1 FROM member_cursor AS u WHERE u.conversation_key = o.conversation_key AND u.is_member = 1
        AND NOT EXISTS (SELECT 1 FROM device_cursor AS d
            WHERE d.conversation_key = u.conversation_key AND d.user_id = u.user_id)
)
"""
INSERT_MESSAGE = (
    "INSERT INTO message (conversation_key, seq, epoch, kind, sender_id, client_msg_id, server_ts, payload_mac, "
    "payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (conversation_key, sender_id, client_msg_id) DO NOTHING"
)
INSERT_OUTBOX = "INSERT INTO outbox (conversation_key, first_seq, since_ms) VALUES (?, ?, ?)"
UPDATE_HEAD = "UPDATE conversation SET head_seq = ?, last_activity_ms = ? WHERE conversation_key = ?"
UPDATE_OUTBOX = (
    "UPDATE outbox SET first_seq = ?1, "
    "since_ms = (SELECT e.server_ts FROM message AS e WHERE e.conversation_key = ?2 AND e.seq = ?1) "
    "WHERE conversation_key = ?2"
)
DELETE_OUTBOX = "DELETE FROM outbox WHERE conversation_key = ?"
UPDATE_MEMBER_CURSOR = (
    "UPDATE member_cursor SET delivered_seq = ?, read_seq = ?, read_ms = ? "
    "WHERE conversation_key = ? AND user_id = ?"
)
UPDATE_DEVICE_CURSOR = (
    "UPDATE device_cursor SET delivered_seq = ?, exact_count = ?, updated_ms = ? "
    "WHERE conversation_key = ? AND user_id = ? AND device_id = ?"
)


SELECT_MEMBER_IDS = (
    "SELECT user_id FROM conversation_member WHERE conversation_key = ? AND leave_seq IS NULL "
    "ORDER BY user_id LIMIT ?"
)

_encode = msgspec.json.encode
_join_seq = attrgetter("join_seq")


class Loaded:
    """A conversation as this transaction sees it.

    Attributes:
        outbox_seq: First seq in the outbox; None if nothing is there.
        outbox_ms: When that one was written, if the row is still to be made; else None.
        last_ms: When the newest entry was written; None if there is none since the last write.
        confirmed: Whether a device's cursor moved, or a lagging one left, since the last write.
    """

    __slots__ = (
        "confirmed",
        "conversation_id",
        "creator_id",
        "epoch",
        "head_seq",
        "key",
        "last_ms",
        "member_count",
        "outbox_ms",
        "outbox_seq",
        "pair",
        "title",
        "type",
    )

    def __init__(
        self,
        key: int,
        conversation_id: str,
        type_: ConversationType,
        title: str,
        epoch: str,
        head_seq: int,
        creator_id: str,
        pair: str | None,
        member_count: int,
        outbox_seq: int | None,
    ) -> None:
        self.key = key
        self.conversation_id = conversation_id
        self.type: ConversationType = type_
        self.title = title
        self.epoch = epoch
        self.head_seq = head_seq
        self.creator_id = creator_id
        self.pair = pair
        self.member_count = member_count
        self.outbox_seq = outbox_seq
        self.outbox_ms: int | None = None
        self.last_ms: int | None = None
        self.confirmed = False


class MemberCursors:
    """A user's cursors in one conversation, as this transaction sees them."""

    __slots__ = ("delivered_seq", "dirty", "read_ms", "read_seq")

    def __init__(self, delivered_seq: int, read_seq: int, read_ms: int) -> None:
        self.delivered_seq = delivered_seq
        self.read_seq = read_seq
        self.read_ms = read_ms
        self.dirty = False


class DeviceCursors:
    """A device's cursor in one conversation, as this transaction sees it."""

    __slots__ = ("delivered_seq", "dirty", "exact_count", "updated_ms")

    def __init__(self, delivered_seq: int, exact_count: int, updated_ms: int) -> None:
        self.delivered_seq = delivered_seq
        self.exact_count = exact_count
        self.updated_ms = updated_ms
        self.dirty = False


class Batch:
    """The working memory of one transaction.

    Args:
        connection: In a write transaction, which somebody else ends.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._conversations: dict[str, Loaded] = {}
        self._by_key: dict[int, Loaded] = {}
        self._intervals: dict[tuple[int, str], list[Interval]] = {}
        self._members: dict[tuple[int, str], MemberCursors] = {}
        self._devices: dict[tuple[int, str, str], DeviceCursors] = {}

    def preload(self, places: dict[str, str]) -> None:
        """Load conversations, and for each the memberships of one user, in one statement.

        Args:
            places: A user id by conversation id. What does not exist is passed over.
        """
        rows = self.connection.execute(SELECT_CONVERSATIONS_AND_INTERVALS, (_encode(places).decode(),))
        for *columns, user_id, join_seq, leave_seq in rows:
            key = columns[0]
            if key not in self._by_key:
                self._by_key[key] = self._conversations[columns[1]] = Loaded(*columns)
            intervals = self._intervals.setdefault((key, user_id), [])
            if join_seq is not None:
                intervals.append(Interval(join_seq, leave_seq))
        for intervals in self._intervals.values():
            if len(intervals) > 1:
                intervals.sort(key=_join_seq)

    def find(self, conversation_id: str) -> Loaded | None:
        """A conversation by its id."""
        found = self._conversations.get(conversation_id)
        return found or self._load(SELECT_CONVERSATION, conversation_id)

    def find_by_key(self, key: int) -> Loaded | None:
        """A conversation by its internal number."""
        return self._by_key.get(key) or self._load(SELECT_CONVERSATION_BY_KEY, key)

    def find_by_pair(self, pair: str) -> Loaded | None:
        """The SINGLE of a pair."""
        return self._load(SELECT_CONVERSATION_BY_PAIR, pair)

    def _load(self, sql: str, value: int | str) -> Loaded | None:
        rows = self.connection.execute(sql, (value,))
        if not rows:
            return None
        loaded = Loaded(*rows[0])
        self._by_key[loaded.key] = loaded
        return self._conversations.setdefault(loaded.conversation_id, loaded)

    def intervals(self, key: int, user_id: str) -> list[Interval]:
        """A user's memberships in a conversation, ascending."""
        place = (key, user_id)
        found = self._intervals.get(place)
        if found is None:
            rows = self.connection.execute(SELECT_INTERVALS, place)
            found = self._intervals[place] = [Interval(join, leave) for join, leave in rows]
        return found

    def joined(self, conversation_id: str, user_id: str) -> tuple[Loaded, list[Interval]]:
        """A conversation and the memberships of a current member of it.

        Raises:
            NotFoundError: There is no such conversation, or the user is no member now.
        """
        loaded = self.find(conversation_id)
        if loaded is None:
            raise rules.not_found()
        intervals = self.intervals(loaded.key, user_id)
        if not rules.is_current(intervals):
            raise rules.not_found()
        return loaded, intervals

    def member_cursors(self, key: int, user_id: str) -> MemberCursors:
        """The cursors of a user who is or was a member."""
        place = (key, user_id)
        found = self._members.get(place)
        if found is None:
            (row,) = self.connection.execute(SELECT_MEMBER_CURSOR, place)
            found = self._members[place] = MemberCursors(*row)
        return found

    def device_cursors(self, key: int, user_id: str, device_id: str) -> DeviceCursors | None:
        """The cursor of a device; None if the device is not known yet."""
        place = (key, user_id, device_id)
        found = self._devices.get(place)
        if found is None:
            rows = self.connection.execute(SELECT_DEVICE_CURSOR, place)
            if rows:
                found = self._devices[place] = DeviceCursors(*rows[0])
        return found

    def forget_device(self, user_id: str, device_id: str) -> None:
        """Forget the cursors of a device whose rows are gone."""
        for place in [place for place in self._devices if place[1:] == (user_id, device_id)]:
            del self._devices[place]

    def describe(self, loaded: Loaded) -> Conversation:
        """The conversation with its first members, as this transaction sees it."""
        rows = self.connection.execute(SELECT_MEMBER_IDS, (loaded.key, rules.MEMBERS_SHOWN_MAX))
        return Conversation(
            loaded.conversation_id,
            loaded.type,
            loaded.title,
            loaded.epoch,
            loaded.head_seq,
            loaded.member_count,
            tuple(user_id for (user_id,) in rows),
        )

    def append_made(
        self, loaded: Loaded, kind: rules.Kind, sender_id: str, payload: bytes, at_ms: int
    ) -> Entry:
        """Append an entry that the server makes."""
        seq = loaded.head_seq + 1
        self.connection.change(
            INSERT_MESSAGE, (loaded.key, seq, loaded.epoch, kind, sender_id, None, at_ms, None, payload)
        )
        self.took_place(loaded, seq, at_ms)
        place = message_id(loaded.key, loaded.epoch, seq)
        return Entry(loaded.conversation_id, loaded.epoch, place, seq, sender_id, at_ms, payload, None)

    def took_place(self, loaded: Loaded, seq: int, at_ms: int) -> None:
        """Note that `seq` is written: head, activity and outbox follow in `flush`."""
        loaded.head_seq = seq
        loaded.last_ms = at_ms
        if loaded.outbox_seq is None:
            loaded.outbox_seq = seq
            loaded.outbox_ms = at_ms

    def write(self) -> None:
        """Write everything that commands left in memory."""
        self._write_heads()
        self._write_members()
        self._write_devices()
        self._close_confirmed()

    def flush(self) -> None:
        """Write everything and forget it: at the end, and around commands that change rows directly."""
        self.write()
        self._conversations.clear()
        self._by_key.clear()
        self._intervals.clear()
        self._members.clear()
        self._devices.clear()

    def _write_heads(self) -> None:
        grown = [loaded for loaded in self._conversations.values() if loaded.last_ms is not None]
        if not grown:
            return
        self.connection.executemany(UPDATE_HEAD, [(it.head_seq, it.last_ms, it.key) for it in grown])
        opened = [(it.key, it.outbox_seq, it.outbox_ms) for it in grown if it.outbox_ms is not None]
        if opened:
            self.connection.executemany(INSERT_OUTBOX, opened)
        for loaded in grown:
            loaded.last_ms = loaded.outbox_ms = None

    def _write_members(self) -> None:
        rows = []
        for place, cursors in self._members.items():
            if cursors.dirty:
                cursors.dirty = False
                rows.append((cursors.delivered_seq, cursors.read_seq, cursors.read_ms, *place))
        if rows:
            self.connection.executemany(UPDATE_MEMBER_CURSOR, rows)

    def _write_devices(self) -> None:
        rows = []
        for place, cursors in self._devices.items():
            if cursors.dirty:
                cursors.dirty = False
                rows.append((cursors.delivered_seq, cursors.exact_count, cursors.updated_ms, *place))
        if rows:
            self.connection.executemany(UPDATE_DEVICE_CURSOR, rows)

    def _close_confirmed(self) -> None:
        """Close what the last device of every current member has confirmed by now."""
        confirmed = [it for it in self._conversations.values() if it.confirmed]
        for loaded in confirmed:
            loaded.confirmed = False
        self.close_confirmed([it.key for it in confirmed if it.outbox_seq is not None])

    def close_confirmed(self, keys: Sequence[int]) -> None:
        """Close what is confirmed in these conversations; everything in memory must be written.

        A member without any device keeps his conversations open.
        """
        if not keys:
            return
        rows = self.connection.execute(SELECT_CLOSABLE, (_encode(keys).decode(),))
        found = ((self.find_by_key(key), least) for key, least in rows)
        self.close_outbox([(loaded, least) for loaded, least in found if loaded is not None])

    def close_outbox(self, closings: Sequence[tuple[Loaded, int]]) -> None:
        """Take the entries up to a seq out of the outbox, for conversations that have a row there."""
        done = [loaded for loaded, up_to_seq in closings if up_to_seq >= loaded.head_seq]
        for loaded in done:
            loaded.outbox_seq = None
        raised = [
            (loaded, up_to_seq + 1)
            for loaded, up_to_seq in closings
            if loaded.outbox_seq is not None and up_to_seq >= loaded.outbox_seq
        ]
        for loaded, first_seq in raised:
            loaded.outbox_seq = first_seq
        if done:
            self.connection.executemany(DELETE_OUTBOX, [(loaded.key,) for loaded in done])
        if raised:
            self.connection.executemany(UPDATE_OUTBOX, [(first_seq, it.key) for it, first_seq in raised])
