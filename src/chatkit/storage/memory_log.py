"""What the store in memory holds: conversations with their logs, memberships and cursors, and the indexes over them.

Plain mutable objects with the small questions that both commands and reads ask of them. Called by `memory` and
`memory_reads` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ..core.visibility import Interval, ranges_after
from . import base, rules


class Row(msgspec.Struct):
    """One entry of a log."""

    seq: int
    epoch: str
    kind: rules.Kind
    sender_id: str
    server_ts: int
    payload: bytes
    client_msg_id: str | None = None
    mac: bytes = b""
    recalled_by: int | None = None


class Cursors(msgspec.Struct):
    """How far a user has got in one conversation."""

    delivered_seq: int
    read_seq: int
    read_ms: int


class Device(msgspec.Struct):
    """How far a device has got in one conversation; `exact` are single confirmations above."""

    delivered_seq: int
    exact: list[int]
    updated_ms: int


class Token(msgspec.Struct, frozen=True):
    """A resume token and the login it stands for."""

    user_id: str
    device_id: str
    expires_ms: int
    identity_expires_ms: int | None
    scope: str


class Conversation:
    """One conversation with everything in it.

    Args:
        key: Its internal number.
        command: What made it.
        pair: The unique name of a SINGLE's pair.
    """

    def __init__(self, key: int, command: base.CreateConversation, pair: str | None) -> None:
        self.key = key
        self.conversation_id = command.conversation_id
        self.type = command.type
        self.title = command.title
        self.epoch = command.epoch
        self.creator_id = command.creator_id
        self.pair = pair
        self.last_activity_ms = command.at_ms
        self.rows: list[Row] = []
        self.by_client_id: dict[tuple[str, str], int] = {}
        self.members: dict[str, list[Interval]] = {}
        self.cursors: dict[str, Cursors] = {}
        self.devices: dict[str, dict[str, Device]] = {}
        self.outbox: base.OutboxEntry | None = None

    @property
    def head_seq(self) -> int:
        """The highest seq."""
        return len(self.rows)

    @property
    def member_count(self) -> int:
        """How many are members now."""
        return sum(map(self.is_member, self.members))

    def is_member(self, user_id: str) -> bool:
        """Whether the user is a member now."""
        return rules.is_current(self.members.get(user_id, ()))

    def check_member(self, user_id: str) -> None:
        """NotFoundError unless the user is a member now."""
        if not self.is_member(user_id):
            raise rules.not_found()

    def member_ids(self) -> list[str]:
        """Current members, ascending."""
        return sorted(user for user in self.members if self.is_member(user))

    def others(self, user_id: str) -> list[str]:
        """The other current members, ascending."""
        return [user for user in self.member_ids() if user != user_id]

    def devices_of(self, user_id: str) -> list[tuple[str, Device]]:
        """A user's devices here, ascending."""
        return sorted(self.devices.get(user_id, {}).items())

    def authors(self, user_id: str, after_seq: int, up_to_seq: int) -> tuple[str, ...]:
        """Who wrote the entries in (after_seq, up_to_seq] that the user sees."""
        if after_seq >= up_to_seq or not rules.tells_authors(self.member_count):
            return ()
        if self.pair is not None:
            return (rules.other_of(self.pair, user_id),)
        start = rules.author_range(after_seq, up_to_seq)
        ranges = ranges_after(self.members[user_id], start, up_to_seq)
        found = {row.sender_id for first, last in ranges for row in self.rows[first - 1 : last]}
        return tuple(sorted(found - {user_id}))

    def join_device(self, user_id: str, device_id: str, at_ms: int) -> None:
        """A device goes on where it stood; a new one starts where the user's farthest stands."""
        start = max((it.delivered_seq for _, it in self.devices_of(user_id)), default=0)
        device = self.devices.setdefault(user_id, {}).setdefault(device_id, Device(start, [], at_ms))
        device.delivered_seq = rules.settled(device.delivered_seq, self.members[user_id])

    def append(
        self,
        kind: rules.Kind,
        sender_id: str,
        payload: bytes,
        at_ms: int,
        *,
        client_msg_id: str | None = None,
        mac: bytes = b"",
    ) -> Row:
        """Write the next entry and put it into the outbox."""
        row = Row(self.head_seq + 1, self.epoch, kind, sender_id, at_ms, payload, client_msg_id, mac)
        self.rows.append(row)
        self.last_activity_ms = at_ms
        if client_msg_id is not None:
            self.by_client_id[sender_id, client_msg_id] = row.seq
        first, since = (
            (row.seq, at_ms) if self.outbox is None else (self.outbox.first_seq, self.outbox.since_ms)
        )
        self.outbox = base.OutboxEntry(self.conversation_id, first, row.seq, since)
        return row

    def entry(self, row: Row, epoch: str, reader_id: str | None = None) -> base.Entry:
        """A row as the contract shows it: with its key to its author, or to whoever wrote it just now."""
        own = reader_id is None or reader_id == row.sender_id
        return base.Entry(
            self.conversation_id,
            epoch,
            base.message_id(self.key, row.epoch, row.seq),
            row.seq,
            row.sender_id,
            row.server_ts,
            row.payload,
            row.client_msg_id if own else None,
        )

    def describe(self) -> base.Conversation:
        """The conversation with its first members."""
        members = self.member_ids()
        shown = tuple(members[: rules.MEMBERS_SHOWN_MAX])
        return base.Conversation(
            self.conversation_id, self.type, self.title, self.epoch, self.head_seq, len(members), shown
        )

    def joined(self) -> base.MembershipSnapshot:
        """What a session starts with."""
        return base.MembershipSnapshot(
            self.conversation_id, self.type, self.epoch, self.head_seq, self.member_count
        )

    def close_confirmed(self) -> None:
        """Close what every device of every current member has confirmed; a member without any keeps it open."""
        if self.outbox is None:
            return
        least = self.head_seq
        for user in filter(self.is_member, self.members):
            devices = self.devices.get(user, {}).values()
            least = min([least, *(it.delivered_seq for it in devices)]) if devices else 0
            if least < self.outbox.first_seq:
                return
        self.close_outbox(least)

    def close_outbox(self, up_to_seq: int) -> None:
        """Take the entries up to `up_to_seq` out of the outbox."""
        found = self.outbox
        if found is None or up_to_seq < found.first_seq:
            return
        self.outbox = None
        if up_to_seq < found.last_seq:
            first = self.rows[up_to_seq]
            self.outbox = base.OutboxEntry(self.conversation_id, first.seq, found.last_seq, first.server_ts)


class World:
    """Everything, and the indexes over it."""

    def __init__(self) -> None:
        self.by_key: dict[int, Conversation] = {}
        self.by_id: dict[str, Conversation] = {}
        self.by_pair: dict[str, Conversation] = {}
        self.devices: dict[str, dict[str, int]] = {}  # when each was last seen, by user and device
        self.tokens: dict[tuple[str, str], bytes] = {}
        self.tokens_by_hash: dict[bytes, Token] = {}
        self.audit: list[base.AuditRow] = []

    def create(self, command: base.CreateConversation, pair: str | None) -> Conversation:
        """A new, empty conversation."""
        log = Conversation(len(self.by_key) + 1, command, pair)
        self.by_key[log.key] = self.by_id[log.conversation_id] = log
        if pair is not None:
            self.by_pair[pair] = log
        return log

    def join(self, log: Conversation, users: Iterable[str], seq: int, at_ms: int) -> None:
        """Start memberships: cursors go on where they stood, moved over what is not visible."""
        for user in users:
            intervals = [*log.members.get(user, ()), Interval(seq)]
            log.members[user] = intervals
            cursors = log.cursors.setdefault(user, Cursors(seq - 1, seq - 1, at_ms))
            cursors.delivered_seq = rules.settled(cursors.delivered_seq, intervals)
            cursors.read_seq = rules.settled(cursors.read_seq, intervals)
            for device_id in sorted(self.devices.get(user, ())):
                log.join_device(user, device_id, at_ms)

    def register(self, user_id: str, device_id: str, at_ms: int) -> None:
        """Make sure that a device is known and has a cursor wherever its user is a member.

        If that makes more than `base.DEVICES_MAX`, the longest unseen other one is forgotten.
        """
        known = self.devices.setdefault(user_id, {})
        if device_id in known:
            return
        for log in self.of_user(user_id):
            log.join_device(user_id, device_id, at_ms)
        unseen = sorted(known, key=lambda other: (known[other], other))
        known[device_id] = at_ms
        for surplus in unseen[: max(0, len(known) - base.DEVICES_MAX)]:
            self._forget(user_id, surplus)

    def _forget(self, user_id: str, device_id: str) -> None:
        """Drop a device; what only this one still missed is missed no more."""
        del self.devices[user_id][device_id]
        token_hash = self.tokens.pop((user_id, device_id), None)
        if token_hash is not None:
            del self.tokens_by_hash[token_hash]
        for log in self.by_key.values():
            if log.devices.get(user_id, {}).pop(device_id, None) is not None and log.is_member(user_id):
                log.close_confirmed()

    def find(self, conversation_id: str) -> Conversation:
        """A conversation; NotFoundError if there is none."""
        log = self.by_id.get(conversation_id)
        if log is None:
            raise rules.not_found()
        return log

    def joined(self, conversation_id: str, user_id: str) -> Conversation:
        """A conversation that the user is a member of; else NotFoundError."""
        log = self.find(conversation_id)
        log.check_member(user_id)
        return log

    def place(self, message_id: str) -> tuple[Conversation, Row]:
        """The row that an id names; NotFoundError if there is none."""
        place = base.message_place(message_id)
        log = self.by_key.get(place[0]) if place else None
        if place is None or log is None or place[2] > log.head_seq:
            raise rules.not_found()
        row = log.rows[place[2] - 1]
        if row.epoch != place[1]:
            raise rules.not_found()
        return log, row

    def visible(self, message_id: str, user_id: str) -> tuple[Conversation, Row]:
        """The row that an id names, for a current member who sees it; else NotFoundError."""
        log, row = self.place(message_id)
        rules.check_visible(log.members.get(user_id, ()), row.seq)
        return log, row

    def of_user(self, user_id: str) -> Iterator[Conversation]:
        """The conversations that the user is a member of now."""
        return (log for log in self.by_key.values() if log.is_member(user_id))

    def replace_token(self, token_hash: bytes, token: Token) -> None:
        """Keep a device's new resume token; the former one no longer holds."""
        former = self.tokens.get((token.user_id, token.device_id))
        if former is not None:
            del self.tokens_by_hash[former]
        self.tokens[token.user_id, token.device_id] = token_hash
        self.tokens_by_hash[token_hash] = token
