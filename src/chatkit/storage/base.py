"""The storage port: commands in, outcomes out, and the reads.

A `Store` takes a whole batch of commands in one transaction, each with its own outcome; a refusal never fails
its neighbours, and when `commit` returns, everything it reports is durable. Reads see only what is committed.
Membership is judged here, inside the same snapshot or transaction, never by a cache above.

Every implementation passes the contract suite in `tests/storage/contract.py`. What the tables behind it look
like is in `docs/design/0002-data-model.md`.

All seqs are from 1; a cursor of 0 means "nothing yet". All times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from ..errors import RefusedError
from ..types import ConversationType, DeliveryState, Member
from ..wire.events import Head

DEVICES_MAX: Final = 50
"""Devices that are kept per user.

One more, whoever registers it (a login, a resume, the first confirmation from an unknown device), and the user's
longest unseen other one is forgotten: its cursors, single confirmations and resume token. What only that one
still missed is confirmed by it, so the outbox may close. A forgotten device that comes back is a new one.
"""

# --- commands -----------------------------------------------------------------------------------------


class Append(msgspec.Struct, frozen=True):
    """Append a user's message.

    In this order: the sender's own key known? then the stored answer (before any membership check), or
    ConflictError if `payload_mac` differs; not a member? NotFoundError; else the next seq.

    Attributes:
        payload: Canonical JSON.
        payload_mac: Keyed digest of `payload`; the only thing compared for "same payload".
    """

    conversation_id: str
    sender_id: str
    client_msg_id: str
    payload: bytes
    payload_mac: bytes
    at_ms: int


class Recall(msgspec.Struct, frozen=True):
    """Withdraw a message: its slot becomes the RECALLED tombstone, a RECALL entry is appended, audit is written.

    Refusals: NotFoundError (no such id, caller is no member, or the entry is not visible to him),
    ForbiddenError (not the author, or not a user's message), RecallWindowPassedError. A second recall of the
    same message gets the first one's entry.
    """

    message_id: str
    user_id: str
    window_ms: int
    at_ms: int


class AdvanceDelivered(msgspec.Struct, frozen=True):
    """Move one device's delivered cursor to `up_to_seq` (cumulative). Lower or equal changes nothing.

    Refusals: NotFoundError (not a member), BadRequestError (above the head).
    """

    conversation_id: str
    user_id: str
    device_id: str
    up_to_seq: int
    at_ms: int


class ConfirmMessage(msgspec.Struct, frozen=True):
    """One device holds exactly this entry; kept even out of order, and the cursor moves over it once it can.

    Refusals: NotFoundError (no such id, not a member, not visible), BadRequestError (`conversation_id` given
    and it is another one).
    """

    message_id: str
    user_id: str
    device_id: str
    at_ms: int
    conversation_id: str | None = None


class AdvanceRead(msgspec.Struct, frozen=True):
    """Move the user's read cursor to `up_to_seq`. Lower or equal changes nothing.

    Refusals: NotFoundError (not a member), BadRequestError (above the head).
    """

    conversation_id: str
    user_id: str
    up_to_seq: int
    at_ms: int


class CreateConversation(msgspec.Struct, frozen=True):
    """Create a conversation with its MEMBER CREATED entry at seq 1.

    `member_ids` holds the creator. A SINGLE has exactly two members, and one exists per pair: a second one
    answers with the existing, whatever id is asked for. For a GROUP with a taken id: the existing one if type
    and current members are the same, else ConflictError. ConflictError too for a SINGLE with an id that
    belongs to another conversation.
    """

    conversation_id: str
    type: ConversationType
    creator_id: str
    member_ids: tuple[str, ...]
    title: str
    epoch: str
    at_ms: int


class AddMembers(msgspec.Struct, frozen=True):
    """Add users to a GROUP: one MEMBER ADDED entry naming those who were not members; none if there are none.

    Refusals: NotFoundError (the caller is no member), ForbiddenError (SINGLE, or the caller is not the
    creator), BadRequestError (more than `members_max` members).
    """

    conversation_id: str
    by: str
    user_ids: tuple[str, ...]
    members_max: int
    at_ms: int


class RemoveMember(msgspec.Struct, frozen=True):
    """End a membership: MEMBER REMOVED, or LEFT if it is the caller's own. The entry is not visible to the one
    who goes.

    Refusals: NotFoundError (the caller is no member, or `user_id` is none), ForbiddenError (SINGLE, or the
    caller removes another and is not the creator).
    """

    conversation_id: str
    by: str
    user_id: str
    at_ms: int


class OpenSession(msgspec.Struct, frozen=True):
    """Register a device, spend and issue resume tokens, and read the user's conversations, at one point.

    A device seen for the first time starts its delivered cursors at the greatest of the user's other devices. Each
    opening counts as seeing the device; of more than `DEVICES_MAX` the longest unseen one is forgotten.

    Attributes:
        identity_expires_ms: End of the login, kept with the new resume token.
        scope: Scope of the login, kept with the new resume token.
        resume_hash: Digest of the new resume token; it replaces the device's former one.
        resume_expires_ms: After this the new resume token is refused.
    """

    user_id: str
    device_id: str
    resume_hash: bytes
    resume_expires_ms: int
    identity_expires_ms: int | None
    scope: str
    at_ms: int


class ResumeSession(msgspec.Struct, frozen=True):
    """As OpenSession, for a resume token: single use, bound to `device_id`, not after its end.

    The user is the token's. Refusals: TokenRevokedError (unknown, used, foreign, too old), TokenExpiredError (the
    login that the token stands for has ended). Nothing is changed by a refusal: the token is not spent.

    Attributes:
        leeway_ms: How long after its end a login is still taken.
    """

    used_hash: bytes
    device_id: str
    resume_hash: bytes
    resume_expires_ms: int
    leeway_ms: int
    at_ms: int


class RenewLogin(msgspec.Struct, frozen=True):
    """A device proved its login anew: its resume token, if it has one, stands for that login from now on.

    Counts as seeing the device. A device that is not known stays unknown.

    Attributes:
        identity_expires_ms: End of the login.
        scope: Scope of the login.
    """

    user_id: str
    device_id: str
    identity_expires_ms: int | None
    scope: str
    at_ms: int


class RenewEpoch(msgspec.Struct, frozen=True):
    """Give a conversation's log a new identity, after a restore. Clients drop their cursors and sync afresh.

    Refusal: NotFoundError.
    """

    conversation_id: str
    epoch: str
    at_ms: int


class CloseOutbox(msgspec.Struct, frozen=True):
    """A worker is done with a conversation's entries up to `up_to_seq`. Closing twice changes nothing."""

    conversation_id: str
    up_to_seq: int


Command = (
    Append
    | Recall
    | AdvanceDelivered
    | ConfirmMessage
    | AdvanceRead
    | CreateConversation
    | AddMembers
    | RemoveMember
    | OpenSession
    | ResumeSession
    | RenewLogin
    | RenewEpoch
    | CloseOutbox
)

# --- outcomes -----------------------------------------------------------------------------------------


class Entry(msgspec.Struct, frozen=True):
    """One stored log entry. `payload` is canonical JSON; `client_msg_id` is None for server-made entries."""

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    sender_id: str
    server_ts: int
    payload: bytes
    client_msg_id: str | None


class Appended(msgspec.Struct, frozen=True):
    """The message is durable. `repeat`: it already was, and this is its old answer; push nothing."""

    entry: Entry
    repeat: bool


class Recalled(msgspec.Struct, frozen=True):
    """The recall is durable. `entry` is the RECALL entry; its payload names the target."""

    entry: Entry
    repeat: bool


class Advanced(msgspec.Struct, frozen=True):
    """Where a user's cursors stand now, and before.

    Attributes:
        delivered_seq: Most of the user's devices, never below `read_seq`.
        read_seq: The user's read cursor.
        moved: Whether either of the two changed.
        authors: Senders of the entries newly covered, without the user; of at most the newest 1,000 of them;
            empty in groups over 100, where only counts are told.
        member_count: Current members.
    """

    conversation_id: str
    user_id: str
    device_id: str | None
    delivered_seq: int
    read_seq: int
    moved: bool
    authors: tuple[str, ...]
    member_count: int


class Created(msgspec.Struct, frozen=True):
    """The conversation exists; `created` says whether it was made just now (then `entry` is its seq 1).

    Attributes:
        member_ids: All members that it was made with, ascending; empty if it existed already.
    """

    conversation: Conversation
    created: bool
    entry: Entry | None
    member_ids: tuple[str, ...]


class MembersChanged(msgspec.Struct, frozen=True):
    """Memberships as they are now. `entry` is None when nothing changed."""

    conversation: Conversation
    added: tuple[str, ...]
    removed: tuple[str, ...]
    entry: Entry | None


class Joined(msgspec.Struct, frozen=True):
    """A conversation that a session starts with."""

    conversation_id: str
    type: ConversationType
    epoch: str
    head_seq: int
    member_count: int


class SessionOpened(msgspec.Struct, frozen=True):
    """The device is registered; these are the user's conversations at this point of the commit order."""

    user_id: str
    device_id: str
    identity_expires_ms: int | None
    scope: str
    conversations: tuple[Joined, ...]


class Done(msgspec.Struct, frozen=True):
    """A command without a result of its own took effect."""


class Refused(msgspec.Struct, frozen=True):
    """The command changed nothing; `error` says why."""

    error: RefusedError


Outcome = Appended | Recalled | Advanced | Created | MembersChanged | SessionOpened | Done | Refused

# --- reads --------------------------------------------------------------------------------------------


class Conversation(msgspec.Struct, frozen=True):
    """A conversation with its current members; `member_ids` are the first 200 by id."""

    conversation_id: str
    type: ConversationType
    title: str
    epoch: str
    head_seq: int
    member_count: int
    member_ids: tuple[str, ...]


class Page(msgspec.Struct, frozen=True):
    """Entries of (after_seq, up_to_seq] that are visible to the reader, ascending.

    A seq in the range that is not listed is not visible and never will be by this page. `more` says whether
    `up_to_seq` is below the head. `client_msg_id` is set only on the reader's own entries.
    """

    conversation_id: str
    epoch: str
    head_seq: int
    entries: tuple[Entry, ...]
    up_to_seq: int
    more: bool


class ConversationRow(msgspec.Struct, frozen=True):
    """One of a user's conversations in a list, with what a list shows."""

    head: Head
    title: str
    unread: int
    last_activity_ms: int


class MemberCursor(msgspec.Struct, frozen=True):
    """A current member and how far he has got (`delivered_seq` never below `read_seq`)."""

    member: Member
    delivered_seq: int
    read_seq: int


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


class ReadCounts(msgspec.Struct, frozen=True):
    """For one author in a large group: how many of the others have got to his newest entry in a range."""

    user_id: str
    seq: int
    delivered_count: int
    read_count: int
    member_count: int


class OutboxEntry(msgspec.Struct, frozen=True):
    """Entries of one conversation, first_seq..last_seq, that not every device has confirmed."""

    conversation_id: str
    first_seq: int
    last_seq: int
    since_ms: int


class AuditRow(msgspec.Struct, frozen=True):
    """A privileged change, written in its own transaction. Never holds a message body."""

    audit_id: int
    at_ms: int
    conversation_id: str
    actor_id: str
    action: Literal["CREATED", "ADDED", "REMOVED", "LEFT", "RECALLED", "EPOCH_RENEWED"]
    seq: int
    subject: str


class Committing(Protocol):
    """The write half of a store."""

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
        self, conversation_id: str, user_id: str, after_seq: int, limit: int, bytes_max: int
    ) -> Page:
        """Visible entries after `after_seq`: at most `limit`, and about `bytes_max` of payload, at least one.

        `after_seq` at or above the head: an empty page with `up_to_seq` = the head and `more` false.

        Raises:
            NotFoundError: No such conversation, or `user_id` is no member now.
        """

    async def heads(self, user_id: str, device_id: str) -> list[Head]:
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
    ) -> list[ConversationRow]:
        """The user's conversations by id, those after `after`; at most `limit`. Without a device the delivered
        cursor is the user's."""

    async def members(
        self, conversation_id: str, user_id: str, after: str | None, limit: int
    ) -> list[MemberCursor]:
        """Current members by user id, those after `after`; at most `limit`. Raises NotFoundError."""


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
        """For each of `authors` with user messages in (after_seq, up_to_seq]: counts for his newest one there.

        Returns:
            Ascending by user id; none for no authors and for a conversation that does not exist. Only the newest
            1,000 entries of the range are searched.
        """


class OutboxReader(Protocol):
    """Reads for workers and operators."""

    async def outbox(self, limit: int) -> list[OutboxEntry]:
        """Open entries, oldest first; at most `limit`."""

    async def audit(self, conversation_id: str) -> list[AuditRow]:
        """The audit rows of a conversation, in order."""


class Store(Committing, LogReader, MemberReader, CursorReader, OutboxReader, Protocol):
    """Everything the engine needs of storage."""

    async def migrate(self) -> bytes:
        """Bring the schema up to date. Must be awaited once before anything else.

        Returns:
            The log's own secret, 32 bytes, made at the first migration and kept with the log: the key of
            `Append.payload_mac`.

        Raises:
            ConfigurationError: The file is not a chatkit log, was made by a newer version, or does not keep
                the pragmas it was given.
        """

    @property
    def healthy(self) -> bool:
        """Whether the last commit reached the disk; false after one of which no transaction did."""

    async def aclose(self) -> None:
        """Close files and connections; what was committed stays."""


def message_id(conversation_key: int, epoch: str, seq: int) -> str:
    """The id of a log entry, made from its place; two logs never share one, since epochs differ.

    Args:
        conversation_key: The store's internal number of the conversation, from 1.
        epoch: Epoch of the log when the entry was written; no hyphens.
        seq: Place in the log.
    """
    return f"{conversation_key:x}-{epoch}-{seq:x}"


def message_place(message_id: str) -> tuple[int, str, int] | None:
    """The place (conversation key, epoch, seq) that an id names; None if it cannot be one."""
    parts = message_id.split("-")
    if len(parts) != 3:
        return None
    try:
        key, seq = int(parts[0], 16), int(parts[2], 16)
    except ValueError:
        return None
    if not (0 < key < 2**63 and 0 < seq < 2**53):
        return None
    return key, parts[1], seq
