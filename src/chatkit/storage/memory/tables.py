"""The tables of the store in memory: what SQLite keeps in rows, kept in dictionaries.

Plain mutable objects with the small questions that loading, writing and reading ask of them. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...core.log.audit import LOG, START, ChainedAct, Head
from ...core.log.blob_rows import BlobRow
from ...core.log.cold import ColdRange
from ...core.log.commands import RevocationKind
from ...core.log.keys import Subject
from ...core.log.outcomes import Revocation
from ...core.log.state import MessageRow, ModeratedPlace, ModeratedRow, PushTokenRow, StreamRow, TokenRow
from ...core.policy import RANKS
from ...core.visibility import Interval
from ...types import ConversationType, GrantedRole, History
from ..base import PushRecord
from ..person import Erasure


class Cursors(msgspec.Struct):
    """How far a user has got in one conversation, their farthest device, and whether they went by their own choice."""

    delivered_seq: int
    read_seq: int
    read_ms: int
    device_seq: int
    has_left: bool


class Device(msgspec.Struct):
    """How far a device has got in one conversation; `exact` are single confirmations above."""

    delivered_seq: int
    updated_ms: int
    exact: set[int] = msgspec.field(default_factory=set)


class Standing(msgspec.Struct):
    """What a user is in one conversation, or was when they went."""

    granted: GrantedRole
    silenced_until_ms: int


class Work(msgspec.Struct):
    """What a delivery worker goes by in one conversation; see the columns of `outbox` on SQLite."""

    handled_seq: int
    ready_ms: int | None
    attempt: int = 0
    ticket: int = 0


class Later(msgspec.Struct):
    """One device, or a whole conversation, that could not be pushed to; see `delivery` on SQLite."""

    after_seq: int
    ready_ms: int | None
    attempt: int
    since_ms: int
    reason: str
    ticket: int = 0


class Reported(msgspec.Struct):
    """A report; see `report` on SQLite."""

    report_id: int
    reason: str
    note: str
    at_ms: int
    body: bytes | None
    is_open: bool = True


class Ranged(msgspec.Struct):
    """A range of a log that is in the archive, and since when another object is written for it."""

    held: ColdRange
    next_ms: int = 0


class Conversation(msgspec.Struct, eq=False):
    """One conversation with everything in it.

    Attributes:
        rows: Its log; the entry of seq 1 is the first.
        recalled: The seq of the RECALL entry by the recalled seq.
        edits: The seqs of its EDIT entries by the edited seq.
        reactions: The seq of the REACTION entry by seq, user and reaction.
        mentions: (user, or * for everybody, seq of the entry that mentions them).
        pins: The seq of the PINNED entry by the pinned seq.
        description: What it is for.
        streams: Open streams by seq, each with the texts of its parts; the first is what it began with.
        members: Memberships by user.
        standings: Of the last membership, by user.
        bans: By whom and since when, by user.
        cursors: By user.
        devices: By user and device; a device without a row is where the user's farthest one is.
        outbox: First seq and since when; None if everybody has everything.
        work: Beside an outbox.
        muted: Until when members are not woken.
        but_mentions: Those of them whom a mention wakes all the same.
        later: By user and device.
        pushes: What providers said of pushes, by user, device and seq.
        ranges: What is archived, by first seq.
    """

    key: int
    conversation_id: str
    type: ConversationType
    title: str
    epoch: str
    head_seq: int
    owner_id: str
    pair: str | None
    member_count: int
    last_activity_ms: int
    blocks: int
    history: History
    rows: list[MessageRow] = msgspec.field(default_factory=list)
    by_client_id: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    recalled: dict[int, int] = msgspec.field(default_factory=dict)
    edits: dict[int, list[int]] = msgspec.field(default_factory=dict)
    reactions: dict[int, dict[tuple[str, str], int]] = msgspec.field(default_factory=dict)
    mentions: set[tuple[str, int]] = msgspec.field(default_factory=set)
    pins: dict[int, int] = msgspec.field(default_factory=dict)
    description: str = ""
    streams: dict[int, tuple[StreamRow, list[str]]] = msgspec.field(default_factory=dict)
    members: dict[str, list[Interval]] = msgspec.field(default_factory=dict)
    standings: dict[str, Standing] = msgspec.field(default_factory=dict)
    bans: dict[str, tuple[str, int]] = msgspec.field(default_factory=dict)
    cursors: dict[str, Cursors] = msgspec.field(default_factory=dict)
    devices: dict[str, dict[str, Device]] = msgspec.field(default_factory=dict)
    outbox: tuple[int, int] | None = None
    work: Work | None = None
    muted: dict[str, int] = msgspec.field(default_factory=dict)
    but_mentions: set[str] = msgspec.field(default_factory=set)
    later: dict[tuple[str, str], Later] = msgspec.field(default_factory=dict)
    pushes: dict[tuple[str, str, int], PushRecord] = msgspec.field(default_factory=dict)
    cold_seq: int = 0
    floor_seq: int = 0
    keep_ms: int | None = None
    manifest_version: int = 0
    ranges: dict[int, Ranged] = msgspec.field(default_factory=dict)

    def is_member(self, user_id: str) -> bool:
        """Whether the user is a member now."""
        intervals = self.members.get(user_id)
        return intervals is not None and intervals[-1].leave_seq is None

    def member_ids(self) -> list[str]:
        """Current members, ascending."""
        return sorted(filter(self.is_member, self.members))

    def others(self, user_id: str) -> list[str]:
        """The other current members, ascending."""
        return [user for user in self.member_ids() if user != user_id]

    def by_standing(self) -> list[tuple[int, int, str]]:
        """The rank of each current member, where they joined, and who they are; those who would own it first."""
        return sorted(
            (RANKS[self.standings[user].granted], self.members[user][-1].join_seq, user)
            for user in self.member_ids()
        )

    def devices_of(self, user_id: str) -> list[tuple[str, Device]]:
        """A user's devices here, ascending."""
        return sorted(self.devices.get(user_id, {}).items())

    def row(self, seq: int) -> MessageRow | None:
        """The entry at a seq."""
        return self.rows[seq - 1] if 0 < seq <= len(self.rows) else None


class MemoryState:
    """All tables. `devices` says by user and device when each was first and last seen; `blocks` since when a user
    blocks another one."""

    def __init__(self) -> None:
        self.by_key: dict[int, Conversation] = {}
        self.by_id: dict[str, Conversation] = {}
        self.by_pair: dict[str, Conversation] = {}
        self.devices: dict[str, dict[str, tuple[int, int]]] = {}
        self.tokens: dict[tuple[str, str], TokenRow] = {}
        self.token_places: dict[bytes, tuple[str, str]] = {}
        self.blocks: dict[tuple[str, str], int] = {}
        self.audit: list[ChainedAct] = []
        self.erasures: dict[str, Erasure] = {}
        self.audit_heads: dict[int, Head] = {LOG: START}
        self.revocations: dict[tuple[Subject, RevocationKind], Revocation] = {}
        self.owner_marks: list[str] = []
        self.last_position = 0
        self.position_floor = 0
        self.push_tokens: dict[tuple[str, str], PushTokenRow] = {}
        self.moderated: dict[ModeratedPlace, ModeratedRow] = {}
        self.last_held_id = self.last_report_id = 0
        self.reports: dict[tuple[int, int, str], Reported] = {}
        self.blobs: dict[str, BlobRow] = {}
        self.blob_references: dict[tuple[int, int], str] = {}
        self.blob_due: dict[int, tuple[int, str, int]] = {}
        self.last_due_id = 0

    def of_user(self, user_id: str) -> Iterator[Conversation]:
        """The conversations that the user is a member of now."""
        return (it for it in self.by_key.values() if it.is_member(user_id))
