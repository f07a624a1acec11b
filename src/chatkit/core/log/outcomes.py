"""What became of each command: one struct per outcome, and the ids of log entries.

Made by `core.log.decide`; a store returns them from `commit`, and its reads use `Entry` and `Conversation` too.
"""

from __future__ import annotations

import msgspec

from ...errors import RefusedError
from ...types import ConversationType, History
from .blob_rows import BlobRow, DueBlob
from .commands import RevocationKind


class StoredEdit(msgspec.Struct, frozen=True, gc=False):
    """What a message says by its latest edit.

    Attributes:
        seq: Of the EDIT entry.
        server_ts: When that was stored.
        payload: Canonical JSON of what takes the place of the message's payload; empty where the EDIT entry is in the
            archive.
        ends: WHOLE or CUT_OFF, of the end of a stream; else empty.
    """

    seq: int
    server_ts: int
    payload: bytes
    ends: str = ""


class Reactions(msgspec.Struct, frozen=True, gc=False):
    """Who reacts to a message in one way; of many the first are named."""

    reaction: str
    count: int
    user_ids: tuple[str, ...]


class Streamed(msgspec.Struct, frozen=True, gc=False):
    """An open stream as far as it has come: its first text, and so many parts after it."""

    parts: int
    text: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One stored log entry.

    Attributes:
        epoch: In an outcome (`Appended`, `Recalled`, `Created`, `MembersChanged`) the epoch that the entry was written
            under, also in the answer to a repeat. In a read (`Page.entries`, `LogReader.entries`) the log's present
            one, whatever the entry was written under. The two differ only for what is older than a `RenewEpoch`.
        message_id: Always made with the epoch that the entry was written under; it never changes.
        payload: Canonical JSON.
        client_msg_id: None for server-made entries, and in a page for entries of others.
        edit: In a page: the latest edit that the reader sees; None if there is none.
        reactions: In a page: those of the time of the page, the oldest first.
        stream: In a page: of an open stream, how far it has come.
    """

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    sender_id: str
    server_ts: int
    payload: bytes
    client_msg_id: str | None
    edit: StoredEdit | None = None
    reactions: tuple[Reactions, ...] = ()
    stream: Streamed | None = None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The message is durable. `repeat`: it already was, and this is its old answer; push nothing."""

    entry: Entry
    repeat: bool


class PartAppended(msgspec.Struct, frozen=True, gc=False):
    """Parts of a stream are durable.

    Attributes:
        epoch: Of the log now.
        seq: Of the message.
        parts: So many, all from the first one on.
        head_seq: Of the log at that moment.
        repeat: The one that was given was among them already; push nothing.
    """

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    parts: int
    head_seq: int
    repeat: bool


class Held(msgspec.Struct, frozen=True, gc=False):
    """The message is kept for review and in no log.

    Attributes:
        repeat: It already was.
        retry_ms: After what time it is worth asking again.
    """

    repeat: bool
    retry_ms: int = 60_000


class Reviewed(msgspec.Struct, frozen=True, gc=False):
    """A held message is decided, and those behind it as far as they could be.

    Attributes:
        entries: What was stored by that, in order.
        refused: (clientMsgId, why) of what never will be.
    """

    entries: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...]


class Recalled(msgspec.Struct, frozen=True, gc=False):
    """The recall is durable. `entry` is the RECALL entry; its payload names the target."""

    entry: Entry
    repeat: bool


class Advanced(msgspec.Struct, frozen=True, gc=False):
    """A user's cursors after the command.

    Attributes:
        delivered_seq: Most of the user's devices, never below `read_seq`.
        read_seq: The user's read cursor.
        moved: Whether either of the two changed.
        authors: Senders of the entries newly covered, without the user; of at most the newest 1,000 of them;
            empty in groups over 100, where receipts are counts.
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


class Conversation(msgspec.Struct, frozen=True, gc=False):
    """A conversation with its current members; `member_ids` are the first 200 by id."""

    conversation_id: str
    type: ConversationType
    title: str
    epoch: str
    head_seq: int
    member_count: int
    member_ids: tuple[str, ...]
    history: History = "FROM_JOIN"
    description: str = ""


class Created(msgspec.Struct, frozen=True, gc=False):
    """The conversation exists; `created` says whether it was made just now (then `entry` is its seq 1).

    Attributes:
        member_ids: All members that it was made with, ascending; empty if it existed already.
    """

    conversation: Conversation
    created: bool
    entry: Entry | None
    member_ids: tuple[str, ...]


class MembersChanged(msgspec.Struct, frozen=True, gc=False):
    """Memberships as they are now. `entry` is None when nothing changed.

    Attributes:
        new_owner_id: Who is the owner from now on; None if that did not change.
    """

    conversation: Conversation
    added: tuple[str, ...]
    removed: tuple[str, ...]
    entry: Entry | None
    new_owner_id: str | None = None


class Updated(msgspec.Struct, frozen=True, gc=False):
    """The conversation as it is now; `changed` says whether anything did.

    Attributes:
        entry: The TITLE entry, where title or description changed.
    """

    conversation: Conversation
    changed: bool
    entry: Entry | None = None


class MembershipSnapshot(msgspec.Struct, frozen=True, gc=False):
    """A conversation that a session starts with."""

    conversation_id: str
    type: ConversationType
    epoch: str
    head_seq: int
    member_count: int


class SessionOpened(msgspec.Struct, frozen=True, gc=False):
    """The device is registered; these are the user's conversations at this point of the commit order."""

    user_id: str
    device_id: str
    identity_expires_ms: int | None
    scope: str
    conversations: tuple[MembershipSnapshot, ...]
    token_hash: bytes = b""


class Revocation(msgspec.Struct, frozen=True, gc=False):
    """A revocation as it is stored; see the command `Revoke`.

    Attributes:
        position: Its place among all of them, growing in the order of their commits.
    """

    position: int
    kind: RevocationKind
    user_id: str
    device_id: str
    token_hash: bytes
    at_ms: int
    ends_ms: int | None

    @property
    def holds(self) -> bool:
        """Whether it refuses anybody: it is not lifted, and more than the end of sessions."""
        return self.kind != "DISCONNECTED" and self.ends_ms != 0


class Revoked(msgspec.Struct, frozen=True, gc=False):
    """The revocation is durable; no session that it reaches is opened from here on."""

    revocation: Revocation


class BlobReserved(msgspec.Struct, frozen=True, gc=False):
    """The row of a file as it is now."""

    row: BlobRow


class BlobsCollected(msgspec.Struct, frozen=True, gc=False):
    """What the collector is to remove now.

    Attributes:
        going: Blobs that nothing names from here on; whoever sends one is refused.
        gone: Those that have been going for long enough; they may be forgotten once nothing is left of them.
    """

    going: tuple[str, ...]
    gone: tuple[DueBlob, ...]


class Done(msgspec.Struct, frozen=True, gc=False):
    """A command without a result of its own took effect."""


class Refused(msgspec.Struct, frozen=True):
    """The command changed nothing; `error` says why."""

    error: RefusedError


class Imported(msgspec.Struct, frozen=True, gc=False):
    """Entries of another log are in this one.

    Attributes:
        head_seq: The head now.
        added: How many entries were appended.
        known: How many messages were there already.
        changed: How many of these have another payload there, which stays.
    """

    conversation_id: str
    head_seq: int
    added: int
    known: int
    changed: int


Outcome = (
    Appended
    | PartAppended
    | Imported
    | Held
    | Reviewed
    | Recalled
    | Advanced
    | Created
    | MembersChanged
    | Updated
    | SessionOpened
    | Revoked
    | BlobReserved
    | BlobsCollected
    | Done
    | Refused
)


def message_id(conversation_key: int, epoch: str, seq: int) -> str:
    """The id of a log entry, made from its place; two logs never share one, since epochs differ.

    Args:
        conversation_key: The store's internal number of the conversation, from 1.
        epoch: Epoch of the log when the entry was written; no hyphens.
        seq: Place in the log.
    """
    return "%x-%s-%x" % (conversation_key, epoch, seq)  # noqa: UP031 -- a third faster than an f-string


def message_place(name: str) -> tuple[int, str, int] | None:
    """The place (conversation key, epoch, seq) that an id names; None if `message_id` makes no such text.

    A place has one name only: other spellings of the same numbers are no ids.
    """
    parts = name.split("-")
    if len(parts) != 3:
        return None
    try:
        key, seq = int(parts[0], 16), int(parts[2], 16)
    except ValueError:
        return None
    if not (0 < key < 2**63 and 0 < seq < 2**53):
        return None
    return (key, parts[1], seq) if message_id(key, parts[1], seq) == name else None
