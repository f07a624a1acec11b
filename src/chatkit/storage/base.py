"""The storage port: commands in, outcomes out (both from `core.log`, shown here too), and the reads.

A `Store` takes a whole batch of commands in one transaction, each with its own outcome; a refusal never fails
its neighbours, and when `commit` returns, everything it reports is durable. What a command does is decided by
`core.log.decide`, for all stores alike: a store loads what it needs and writes what it returns. Reads see only what is
committed. Membership is judged inside the same snapshot or transaction, never by a cache above.

Every implementation passes the contract suite `chatkit.testing.contracts.storage`. What the tables behind it look
like is in `docs/design/0002-data-model.md`.

All seqs are from 1; a cursor of 0 means "nothing yet". All times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from ..core.policy import Policy
from ..types import ConversationType, DeliveryState, History, JoinReason, Member

# One import for all: sorted, each name would be a statement of its own.
# isort: off
from ..core.log.commands import (
    AddMembers as AddMembers,
    AdvanceDelivered as AdvanceDelivered,
    AdvanceRead as AdvanceRead,
    BanMember as BanMember,
    SetRole as SetRole,
    SilenceMember as SilenceMember,
    UnbanMember as UnbanMember,
    DeviceRule as DeviceRule,
    LoginTerms as LoginTerms,
    RevocationKind as RevocationKind,
    Revoke as Revoke,
    SeeDevices as SeeDevices,
    Append as Append,
    AppendPart as AppendPart,
    EndStream as EndStream,
    BlockUser as BlockUser,
    HoldBounds as HoldBounds,
    ModeratedAppend as ModeratedAppend,
    ReportMessage as ReportMessage,
    ResolveReports as ResolveReports,
    Review as Review,
    Verdict as Verdict,
    Mute as Mute,
    RegisterPush as RegisterPush,
    UnregisterPush as UnregisterPush,
    ReserveBlob as ReserveBlob,
    FinishBlob as FinishBlob,
    CollectBlobs as CollectBlobs,
    ForgetBlobs as ForgetBlobs,
    Command as Command,
    ConfirmMessage as ConfirmMessage,
    CreateConversation as CreateConversation,
    ImportEntries as ImportEntries,
    ImportedEntry as ImportedEntry,
    EndLogins as EndLogins,
    RecordAct as RecordAct,
    BeginErasure as BeginErasure,
    ForgetDevices as ForgetDevices,
    EndErasure as EndErasure,
    OpenSession as OpenSession,
    Recall as Recall,
    RemoveMember as RemoveMember,
    RenewEpoch as RenewEpoch,
    SetRetention as SetRetention,
    Expire as Expire,
    RenewLogin as RenewLogin,
    ResumeSession as ResumeSession,
    UnblockUser as UnblockUser,
    TitleEntry as TitleEntry,
    UpdateConversation as UpdateConversation,
)
from ..core.log.trail import (
    PUSHES_PER_DEVICE_MAX as PUSHES_PER_DEVICE_MAX,
    READERS_MAX as READERS_MAX,
    MessageTrail as MessageTrail,
    OpenDelivery as OpenDelivery,
    OpenWork as OpenWork,
    PushAnswer as PushAnswer,
    PushRecord as PushRecord,
    Reader as Reader,
    ReaderDevice as ReaderDevice,
    RecallMark as RecallMark,
)
from ..core.log.outcomes import (
    Advanced as Advanced,
    Appended as Appended,
    Conversation as Conversation,
    Created as Created,
    Done as Done,
    StoredEdit as StoredEdit,
    Entry as Entry,
    Reactions as Reactions,
    PartAppended as PartAppended,
    Streamed as Streamed,
    Held as Held,
    Imported as Imported,
    Reviewed as Reviewed,
    MembersChanged as MembersChanged,
    MembershipSnapshot as MembershipSnapshot,
    Outcome as Outcome,
    Recalled as Recalled,
    Refused as Refused,
    Revocation as Revocation,
    Revoked as Revoked,
    BlobReserved as BlobReserved,
    BlobsCollected as BlobsCollected,
    SessionOpened as SessionOpened,
    Updated as Updated,
    message_id as message_id,
    message_place as message_place,
)
from ..core.log.rules import DEVICES_MAX as DEVICES_MAX
from .person import (
    EntryReader as EntryReader,
    Erasure as Erasure,
    KnownDevice as KnownDevice,
    OwnMessage as OwnMessage,
    PersonReader as PersonReader,
    Place as Place,
    PlacePage as PlacePage,
    Stay as Stay,
)
from .blobs import (
    CHARGE_MIN as CHARGE_MIN,
    DROPPED_KEEP_MS as DROPPED_KEEP_MS,
    BlobReader as BlobReader,
    BlobRow as BlobRow,
    DueBlob as DueBlob,
)
from .pins import PinReader as PinReader, PinRow as PinRow
from .streams import IdleStream as IdleStream, StreamReader as StreamReader
from .audit import (
    AuditFilter as AuditFilter,
    AuditReader as AuditReader,
    AuditRow as AuditRow,
    ChainPage as ChainPage,
)
# isort: on


class Page(msgspec.Struct, frozen=True):
    """Entries of (after_seq, up_to_seq] that are visible to the reader, ascending.

    A seq in the range that is not listed is not visible and never will be by this page. `more` says whether
    `up_to_seq` is below the head. `client_msg_id` is set only on the reader's own entries. Of a message whose body is
    in the archive the payload is empty; `server.archiving` puts it in.

    Attributes:
        floor_seq: Entries up to here have expired: they are not listed, and nobody can read them any more.
    """

    conversation_id: str
    epoch: str
    head_seq: int
    entries: tuple[Entry, ...]
    up_to_seq: int
    more: bool
    floor_seq: int = 0


class ConversationHead(msgspec.Struct, frozen=True, gc=False):
    """How far one device has got in one of its user's conversations.

    Attributes:
        first_seq: The first entry that the user may read.
        delivered_seq: The device's, or the user's where no device was asked for.
        read_seq: The user's.
        others_delivered_seq: The least of the other current members; 0 if there are none.
        others_read_seq: The same, of what they read.
    """

    conversation_id: str
    type: ConversationType
    epoch: str
    head_seq: int
    first_seq: int
    delivered_seq: int
    read_seq: int
    others_delivered_seq: int
    others_read_seq: int


class ListedHead(ConversationHead, frozen=True, gc=False):
    """A `ConversationHead` with what a list needs beside the log.

    Attributes:
        last_activity_ms: When the newest message or change of members was stored.
        muted_until_ms: Until when the user is not woken for it; 0: they are.
        but_mentions: Whether what mentions them wakes them all the same.
    """

    title: str
    last_activity_ms: int
    muted_until_ms: int
    but_mentions: bool


RecentPlace = tuple[int, str]
"""(last activity in Unix milliseconds, conversation id): what a page of `MemberReader.recent` ended with."""


class ListedConversation(msgspec.Struct, frozen=True):
    """One of a user's conversations in a list, with what a list shows.

    Attributes:
        unread_mentions: How many of them, and of edits, mention the user.
        muted_until_ms: Until when the user is not woken for it; 0: they are.
        but_mentions: Whether what mentions them wakes them all the same.
        member: The user as a member of it.
        history: What who joins may read of the time before.
        description: What a group is for.
        last: The newest message that the user may read; only `recent` looks for it.
    """

    head: ConversationHead
    title: str
    unread: int
    unread_mentions: int
    last_activity_ms: int
    muted_until_ms: int
    but_mentions: bool
    member: Member
    history: History
    description: str
    last: Entry | None = None


class RecentPage(msgspec.Struct, frozen=True):
    """Some of a user's conversations, newest activity first; `next_place` is where the next page goes on, or None."""

    rows: tuple[ListedConversation, ...]
    next_place: RecentPlace | None


class MemberCursor(msgspec.Struct, frozen=True):
    """A current member and how far they have got (`delivered_seq` never below `read_seq`)."""

    member: Member
    delivered_seq: int
    read_seq: int


class Ban(msgspec.Struct, frozen=True):
    """Somebody who is banned from a conversation; by the host if `by_id` is empty."""

    user_id: str
    by_id: str
    since_ms: int


class Block(msgspec.Struct, frozen=True):
    """Somebody whom a user blocked, and since when."""

    user_id: str
    since_ms: int


class Delivery(msgspec.Struct, frozen=True):
    """The state of one message on one device."""

    user_id: str
    device_id: str
    state: DeliveryState
    updated_ms: int


class Status(msgspec.Struct, frozen=True):
    """The state of one message: counted are the other members whose interval holds it and who still are members.

    `deliveries` is ordered by (user, device); `next_cursor` is None on the last page. A member without any
    device is counted and not listed.
    """

    status: Literal["SENT", "DELIVERED", "READ"]
    member_count: int
    delivered_count: int
    read_count: int
    deliveries: tuple[Delivery, ...]
    next_cursor: tuple[str, str] | None


class MembershipChange(msgspec.Struct, frozen=True):
    """Users became members of a conversation, by its creation or later. What became of them since is not said."""

    conversation_id: str
    user_ids: tuple[str, ...]
    reason: JoinReason


class MembershipChanges(msgspec.Struct, frozen=True):
    """Changes of membership in the order of their commits; the next read goes on after `position`."""

    position: int
    changes: tuple[MembershipChange, ...]


class ReadCounts(msgspec.Struct, frozen=True):
    """For one author in a large group: how many of the others have got to their newest entry in a range."""

    user_id: str
    seq: int
    delivered_count: int
    read_count: int
    member_count: int


class HeldRecord(msgspec.Struct, frozen=True):
    """A message that waits for somebody's decision.

    Attributes:
        held_id: Its number; of one sender's in a conversation they rise.
        at_ms: Since when.
        reason: Why the moderator holds it.
        payload: What is stored if it is released as it is: canonical JSON.
    """

    held_id: int
    conversation_id: str
    sender_id: str
    client_msg_id: str
    at_ms: int
    reason: str
    payload: bytes


class ReportRecord(msgspec.Struct, frozen=True):
    """An open report of a message by a user.

    Attributes:
        sender_id: Who wrote the message.
        reporter_id: Who reported it.
        body: The copy that was kept with it, else what the log has now: canonical JSON; None once that was recalled,
            or is in an archive.
    """

    report_id: int
    message_id: str
    conversation_id: str
    sender_id: str
    reporter_id: str
    reason: str
    note: str
    at_ms: int
    body: bytes | None


class OutboxEntry(msgspec.Struct, frozen=True):
    """Entries of one conversation, first_seq..last_seq, that not every device has confirmed."""

    conversation_id: str
    first_seq: int
    last_seq: int
    since_ms: int


class KeptLogin(msgspec.Struct, frozen=True):
    """The login that a resume token stands for."""

    user_id: str
    device_id: str
    expires_ms: int | None
    scope: str


class ClaimTerms(msgspec.Struct, frozen=True):
    """What a worker may be given, and for how long.

    Attributes:
        now_ms: What is to be tried again by now.
        after_ms: How long an entry is left to the sockets before a worker looks at it.
        lease_ms: How long what is given is left to the worker.
        ticket: Names this claim: a random number from 1 to 2^53 - 1.
    """

    now_ms: int
    after_ms: int
    lease_ms: int
    ticket: int

    @property
    def ready_before_ms(self) -> int:
        """The newest entry to look at is from then."""
        return self.now_ms - self.after_ms


class Claim(msgspec.Struct, frozen=True):
    """Entries after_seq + 1 to head_seq of one conversation, left to one worker for a while.

    Attributes:
        head_seq: The newest entry that is old enough to be looked at.
        conversation_key: The store's internal number of the conversation.
        attempt: How often they were given out without being finished, from 1.
        user_id: Empty for all members.
        device_id: With a user: only this device, which could not be pushed to before.
        since_ms: Since when that is so.
        after_ms: As in the terms of the claim.
    """

    conversation_key: int
    conversation_id: str
    type: ConversationType
    title: str
    member_count: int
    after_seq: int
    head_seq: int
    attempt: int
    user_id: str = ""
    device_id: str = ""
    since_ms: int = 0
    after_ms: int = 0


class PushTarget(msgspec.Struct, frozen=True):
    """A device that lacks something of a conversation and can be pushed to.

    Attributes:
        exact: What it confirmed singly above `delivered_seq`.
        only_mentions: Whether the user muted the conversation but for what mentions them.
        mentioned: What mentions the user after `read_seq`: the newest `MENTIONED_MAX` by name, and as many with
            everybody.
    """

    conversation_key: int
    user_id: str
    device_id: str
    provider: str
    token: str
    hide_body: bool
    registered_ms: int
    join_seq: int
    read_seq: int
    delivered_seq: int
    exact: tuple[int, ...]
    only_mentions: bool = False
    mentioned: tuple[int, ...] = ()


class EntryMark(msgspec.Struct, frozen=True):
    """An entry without its words.

    Attributes:
        kind: What it is.
        is_recalled: Whether it was recalled.
        recalls_seq: Of a RECALL, what it recalls.
    """

    conversation_key: int
    seq: int
    epoch: str
    kind: str
    sender_id: str
    server_ts: int
    is_recalled: bool
    recalls_seq: int | None

    @property
    def message_id(self) -> str:
        """Its id."""
        return message_id(self.conversation_key, self.epoch, self.seq)


class LaterDelivery(msgspec.Struct, frozen=True):
    """A device that could not be pushed to, or the conversation as a whole (both ids empty).

    Attributes:
        ready_ms: When to try again; None: it is given up, and kept as a dead letter.
        reason: Why, for people; never a token or a message's words.
    """

    user_id: str
    device_id: str
    ready_ms: int | None
    reason: str


class Finished(msgspec.Struct, frozen=True):
    """A claim that its worker is done with at `at_ms`, what of it has to come again, and what providers said of it."""

    claim: Claim
    at_ms: int
    later: tuple[LaterDelivery, ...] = ()
    pushes: tuple[PushRecord, ...] = ()


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up. Without a user it is the conversation as a whole."""

    conversation_id: str
    user_id: str
    device_id: str
    after_seq: int
    attempt: int
    since_ms: int
    reason: str


class DeliveryLag(msgspec.Struct, frozen=True):
    """How far the workers are behind.

    Attributes:
        waiting: Conversations and devices that are to be looked at, those being worked on among them; counted up to
            `LAG_MAX`.
        oldest_ms: Since when the oldest of them waits, or when it is to be tried again; None if none waits.
        dead: Dead letters, counted up to `LAG_MAX`.
    """

    waiting: int
    oldest_ms: int | None
    dead: int


LAG_MAX: Final = 100_000

MENTIONED_MAX: Final = 100
"""How many of the newest mentions of a user are looked at, by name and with everybody."""

MARKED_ENTRIES_MAX: Final = 10_000
"""How many of the newest entries are looked at for the newest messages and recalls among them."""


class DeliveryStore(Protocol):
    """What delivery workers ask of a store: its outbox, given out in parts. Any number of workers at the same time.

    All raise UnavailableError if storage refused; a retry is safe.
    """

    async def claim(
        self, terms: ClaimTerms, limit: int, conversation_ids: Sequence[str] | None = None
    ) -> list[Claim]:
        """Take what is due: half of it the longest waiting, half the newest, so that neither waits for the other.

        Nobody else is given it within `terms.lease_ms`, whatever their terms are.

        Args:
            terms: What, and for how long.
            limit: Most conversations, and most single devices.
            conversation_ids: Only these, and no single devices; None: whatever is due.
        """

    async def targets(self, claims: Sequence[Claim], now_ms: int) -> list[PushTarget]:
        """The devices of current members with a push token that lack entries of these, by conversation and user.

        Left out are members who read everything or muted the conversation altogether, devices that confirmed
        everything, and for a claim of all members those that are to be tried again anyway.
        """

    async def waiting(self, conversation_ids: Sequence[str]) -> set[str]:
        """Those of these that are due, or will be, or are left to a worker just now."""

    async def newest(self, claims: Sequence[Claim], count: int) -> list[EntryMark]:
        """The newest messages and recalls up to each claim's head, at most `count` of each conversation.

        They are looked for among its newest `MARKED_ENTRIES_MAX` entries; of what else is there nothing is counted.

        Returns:
            Ascending by conversation and seq.
        """

    async def marks(self, places: Collection[tuple[int, int]]) -> list[EntryMark]:
        """Those of these entries that are there, by (conversation_key, seq), in any order."""

    async def payloads(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """How messages read now, by (conversation_key, seq): the payload of the newest edit, else their own, of an open
        stream with its text so far. Of those that were recalled or have expired there is none."""

    async def unread(self, user_ids: Sequence[str], now_ms: int) -> dict[str, int]:
        """How many unread messages each user has in all conversations that they have not muted, and mentions in those
        that they have but for these.

        Counted as in `conversations`: at most `UNREAD_MAX` of each conversation. A user without any may be left out.
        """

    async def finish(self, ticket: int, finished: Sequence[Finished]) -> int:
        """Be done with claims. Entries that came meanwhile are due again, for a single device too.

        A device that was given up is then no dead letter: the next push stands for all that it missed.

        Of the pushes to one device in one conversation those about the newest `PUSHES_PER_DEVICE_MAX` entries are kept.

        Returns:
            How many of them were still this worker's; of the others nothing is written but what was pushed.
        """

    async def lag(self) -> DeliveryLag:
        """How far the workers are behind."""

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Those given up, the oldest first; at most `limit`."""

    async def discard_dead_letters(self, before_ms: int) -> int:
        """Forget some of those that began to fail before then; returns how many: 0 once none is left."""

    async def discard_pushes(self, before_ms: int) -> int:
        """Forget some of the pushes that were last answered before then; returns how many: 0 once none is left."""


class CommandStore(Protocol):
    """The write half of a store."""

    @property
    def commits_in_flight_max(self) -> int:
        """How many `commit`s may run side by side, at least 1. The server never runs two at once that touch one
        conversation under the same name."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """Apply a batch in order, in one transaction.

        If the batch breaks in an unforeseen way, each command is tried alone; what breaks then is refused with
        InternalError, and so is every later Append of that batch by the same sender to the same conversation, so
        that the sender's order survives. An empty batch is a transaction too: it shows whether storage takes one.

        Returns:
            One outcome per command, in order; when this returns they are durable.

        Raises:
            UnavailableError: Storage refused (busy, full, failed). Whether the batch was stored is unknown;
                resend with the same keys.
        """


class LogReader(Protocol):
    """Reads of the log."""

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
        *,
        history: bool = False,
    ) -> Page:
        """Visible entries after `after_seq`: at most `limit`, and about `bytes_max` of payload, at least one.

        Without `history` those that are delivered to the user, who was a member when they were written; with it also
        what they may read of the time before they joined.

        `after_seq` at or above the head: an empty page with `up_to_seq` = the head and `more` false.

        Raises:
            NotFoundError: No such conversation, or `user_id` is no member now.
        """

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
        """The log itself after `after_seq`, whoever may see it: for nodes, operators and proofs, never for a user.

        Returns:
            At most `limit` entries, ascending, each with its `client_msg_id`; none if there is no such conversation.
            What has expired is left out, and a body that is in the archive is empty.
        """

    async def heads(self, user_id: str, device_id: str) -> list[ListedHead]:
        """One snapshot of the user's conversations: those where this device is behind first, newest activity
        first within each part."""

    async def head_seqs(self, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(epoch, head) of each conversation that exists."""


class MemberReader(Protocol):
    """Reads of who is where."""

    async def conversation(self, conversation_id: str, user_id: str) -> Conversation:
        """One conversation, for a member of it. Raises NotFoundError."""

    async def conversations(
        self, user_id: str, device_id: str | None, after: str | None, limit: int
    ) -> list[ListedConversation]:
        """The user's conversations by id, those after `after`; at most `limit`. Without a device the delivered
        cursor is the user's."""

    async def recent(
        self, user_id: str, device_id: str | None, after: RecentPlace | None, limit: int, bytes_max: int
    ) -> RecentPage:
        """The user's conversations, newest activity first and by id where it is equal, each with its last message.

        `last` is the newest message of somebody (never an entry of the server's own) that the user may read, among the
        newest `PREVIEW_ENTRIES_MAX` entries; None where there is none. If it was recalled, its payload says so; if its
        body is in the archive, that is empty.

        Since activity never falls, a conversation only ever moves to the front: following `next_place` gives none
        twice, and leaves out only those that became active after the first page was read, or that the user joined
        since. It takes a bounded number of statements, however many rows there are.

        Args:
            user_id: Who asks.
            device_id: Whose delivered cursor to show; None: the user's.
            after: Where the last page ended; None: from the newest.
            limit: Most rows.
            bytes_max: About so many bytes of payloads, but at least one row.
        """

    async def members(
        self, conversation_id: str, user_id: str, after: str | None, limit: int
    ) -> list[MemberCursor]:
        """Current members by user id, those after `after`; at most `limit`. Raises NotFoundError."""

    async def bans(
        self, conversation_id: str, user_id: str | None, policy: Policy, after: str | None, limit: int
    ) -> list[Ban]:
        """Who is banned from a conversation by user id, those after `after`; at most `limit`.

        Args:
            conversation_id: The conversation.
            user_id: Who asks, a member whose role may ban; None is the host.
            policy: What roles may do.
            after: Where the last page ended; None: from the first.
            limit: Most rows.

        Raises:
            NotFoundError: There is no such conversation, or no member of it asks.
            ForbiddenError: The role of who asks does not allow it.
        """

    async def blocks(self, user_id: str, after: str | None, limit: int) -> list[Block]:
        """Whom a user blocked, by id, those after `after`; at most `limit`."""

    async def membership_changes(self, after: int | None, limit: int) -> MembershipChanges:
        """Who joined any conversation, after a position: for nodes, which others' commits do not pass through.

        Nothing committed later ever comes at or below a position that was returned.

        Args:
            after: Where the last read ended; None: at the newest commit, so that nothing is returned but that position.
            limit: Most changes returned; fewer means that these are all.
        """

    async def resume_hashes(self, devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Digest of the resume token that each (user, device) opened its newest session with, where there is one."""


class CursorReader(Protocol):
    """Reads of how far everybody has got."""

    async def status(
        self, message_id: str, user_id: str, after: tuple[str, str] | None, limit: int
    ) -> Status:
        """State of a message per user and device, for its author only. Raises NotFoundError (no such id, not
        the author, or no member now)."""

    async def read_counts(
        self, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
    ) -> list[ReadCounts]:
        """For each of `authors` with user messages in (after_seq, up_to_seq]: counts for their newest one there.

        Returns:
            Ascending by user id; none for no authors and for a conversation that does not exist. Only the newest
            1,000 entries of the range are searched.
        """


class AccessReader(Protocol):
    """Reads of who may not be here."""

    async def revocations(self, after: int, limit: int) -> list[Revocation]:
        """Those at positions above `after`, ascending; at most `limit`. What has ended may be missing.

        Nothing committed later ever comes at or below a position that was returned.
        """

    async def kept_login(self, token_hash: bytes) -> KeptLogin | None:
        """The login of the resume token with this digest; None if there is none."""


class OutboxReader(Protocol):
    """Reads for workers and operators."""

    async def outbox(self, limit: int) -> list[OutboxEntry]:
        """Open entries, those of the oldest conversations first; at most `limit`."""


class ContactReader(Protocol):
    """Reads of who may know that a user is online. An ability beside `Store`, asked for where presence is on."""

    async def contacts(self, user_ids: Sequence[str], members_max: int, limit: int) -> dict[str, list[str]]:
        """For each of these users, who may know of them: who shares a conversation of at most `members_max` members
        with them now, and was not blocked by them.

        Returns:
            Ascending, the first `limit` of each; a user without any is left out.
        """

    async def known_to(self, user_id: str, others: Sequence[str], members_max: int) -> dict[str, int | None]:
        """Those of the others whom a user may know of, by the same rule, and when a device of theirs was last noted as
        seen (when it logged in, and every few minutes while it is online); None if they have no device."""


@runtime_checkable
class ModerationReader(Protocol):
    """Reads for a moderator, and for who reviews. An ability beside `Store`, needed where a moderator is set."""

    async def to_moderate(self, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
        """For each (conversation, sender, clientMsgId): whether nothing is known of it yet, and its sender is a member.

        The others have their answer without a moderator.
        """

    async def held_messages(self, after: int, limit: int) -> list[HeldRecord]:
        """What is to be reviewed, by number, those above `after`; at most `limit`. What waits behind it is left out."""

    async def held_message(self, held_id: int) -> HeldRecord | None:
        """One message that is to be reviewed; None if there is none of this number, or it was decided."""

    async def reports(self, after: int, limit: int) -> list[ReportRecord]:
        """Open reports, by number, those above `after`; at most `limit`."""


POSITION_STRETCH: Final = 1 << 40
"""Positions from one renewal of a log to the next: more than it will ever have entries and audit rows."""


def next_floor(position: int) -> int:
    """Where positions go on after a renewal: beyond all that a log can get to which has got to this one."""
    return (position // POSITION_STRETCH + 1) * POSITION_STRETCH


@runtime_checkable
class OpensToRead(Protocol):
    """An ability beside `Store`: a log that others serve is read by an operator's command."""

    async def open_to_read(self) -> None:
        """Open the log for reads alone, instead of `migrate`: nothing is written, and no server is disturbed.

        Raises:
            ConfigurationError: There is no log, or it was made by a newer or an older version.
            UnavailableError: Storage does not answer; a retry is safe.
        """


@runtime_checkable
class TrailReader(Protocol):
    """Reads of what became of one message. An ability beside `Store`, asked for by operators."""

    async def trail(self, message_id: str, user_id: str | None, limit: int) -> MessageTrail:
        """An entry of any kind and what is stored around it, in one snapshot. Never its body.

        Args:
            message_id: Its id.
            user_id: Of its readers only this one; None: all of them.
            limit: Most readers, the first by id; at most `READERS_MAX`.

        Raises:
            NotFoundError: There is no such entry; says why, for operators.
            UnavailableError: Storage refused; a retry is safe.
        """


class RestoreReader(Protocol):
    """How a server notices that its log was put back from a backup, or is another one."""

    @property
    def restored(self) -> bool:
        """Whether the log that was opened is, or may be, an older state than the last one served from its place."""

    async def confirm_restored(self, proved: int = 0) -> None:
        """Take the log as the one of its place: every conversation has a new epoch now.

        `restored` is false then, and `position` lies beyond `next_floor` of `proved` and of every position known of the
        former log, so that nothing proved of that one is ahead of this one.

        Args:
            proved: How far the former log had got for certain.

        Raises:
            UnavailableError: Storage refused; nothing may have changed. A retry is safe.
        """

    async def position(self) -> int:
        """How far the log has got: a number that rises with every entry and audit row, and never falls by itself."""

    async def conversation_ids(self, after: str, limit: int) -> list[str]:
        """The ids of all conversations, ascending, those after `after` ("" for the first): at most `limit`."""


class Store(
    CommandStore,
    LogReader,
    PinReader,
    MemberReader,
    CursorReader,
    AccessReader,
    AuditReader,
    OutboxReader,
    RestoreReader,
    Protocol,
):
    """Everything the engine needs of storage."""

    async def migrate(self) -> bytes:
        """Bring the schema up to date. Must be awaited once before anything else.

        Returns:
            The log's own secret, 32 bytes, made at the first migration and kept with the log: the key of
            `Append.payload_mac`. Asked again while it is open, the same; or it raises ConfigurationError.

        Raises:
            ConfigurationError: The file is not a chatkit log, was made by a newer version, does not keep the
                pragmas it was given, is damaged, or is in use by another server.
        """

    @property
    def deliveries(self) -> DeliveryStore:
        """What delivery workers go by."""

    @property
    def healthy(self) -> bool:
        """Whether the last commit reached the disk; false after one of which no transaction did."""

    async def aclose(self) -> None:
        """Close files and connections; what was committed stays. A second call does nothing.

        A commit after it raises UnavailableError.
        """


@runtime_checkable
class AppendsWithin(Protocol):
    """An ability beside the port: a message in a transaction that a host began on a connection of its own."""

    async def append_within(self, connection: object, command: Append) -> tuple[Appended, str]:
        """Append a message that is there exactly if the host's transaction is committed.

        The conversation is locked until that transaction ends. What `commit` would answer as `Refused` is raised.

        Args:
            connection: What the host began its transaction on.
            command: The message.

        Returns:
            The outcome, final if the transaction is committed; and a name of the transaction for `ended`.

        Raises:
            ConfigurationError: No message can be sent on this connection as it is; it says why.
            RefusedError: The message is not in the transaction, which goes on as if nothing had been tried.
            UnavailableError: Another transaction came first or keeps the conversation locked, or storage failed. The
                host rolls back, and may repeat all of its transaction.
        """

    async def ended(self, transactions: Collection[str]) -> dict[str, bool]:
        """Which of these transactions have ended, and whether they were committed. Raises UnavailableError."""
