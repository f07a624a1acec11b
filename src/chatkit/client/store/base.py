"""The local store port: what a client must find again after its process died.

Synchronous on purpose: calls are short, and one call per received frame is all there is; the event loop stands still
for as long as one takes. Every implementation passes the contract suite `chatkit.testing.contracts.local_store`.

An `UnavailableError` means "refused for now, nothing was changed" (disk full, busy): the client ends the connection,
takes its state from the store again and comes back after a wait. Any other error of `save`, also one derived from it,
stops the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ...core.resend import Key, PendingSend
from ...errors import UnavailableError
from ...types import ConversationType, Message, Notify
from ...wire.payload import encode


def refused_for_now(error: Exception) -> bool:
    """Whether a store only said "not now"; the errors derived from this one say that the disk itself is broken."""
    return type(error) is UnavailableError


class EncodedMessage(Message, frozen=True, kw_only=True):
    """A message of this device on its way into the store, with the bytes that it was sent as.

    Attributes:
        encoded: The payload as canonical JSON; a store may keep it instead of encoding `payload`.
    """

    encoded: bytes


def payload_bytes(message: Message) -> bytes:
    """The payload as JSON: the bytes that the message brings along, else encoded here."""
    return message.encoded if isinstance(message, EncodedMessage) else encode(message.payload)


class Record(msgspec.Struct, frozen=True):
    """What is stored of one conversation.

    Attributes:
        prefix: Everything visible in (floor, prefix] is stored.
        left: The user was no member when last seen.
        held: Stored entries above the prefix: own sends that were answered.
        recalled_seqs: Recalls of entries above the prefix that are not stored yet.
        taken_seq: The app has taken everything up to here.
        tries: How often what comes next was handed to the app: that the log is another one, else the next entry.
        renewed_above: The app has not taken yet that the log is another one above here; None: it has.
        title: What it was called when last heard of.
        activity_ms: When its newest message or change of members was stored, as far as this device has heard.
        muted_until_ms: Until when the user is not woken for it; 0: they are.
        read_seq: How far the server has said that the user has read.
        notify: What of it wakes them: ALL, or until `muted_until_ms` what mentions them (MENTIONS), or NONE.
    """

    conversation_id: str
    type: ConversationType
    epoch: str
    prefix: int
    left: bool
    held: tuple[Message, ...] = ()
    recalled_seqs: tuple[int, ...] = ()
    taken_seq: int = 0
    tries: int = 0
    renewed_above: int | None = None
    title: str = ""
    activity_ms: int = 0
    muted_until_ms: int = 0
    read_seq: int = 0
    notify: Notify = "ALL"


class Progress(msgspec.Struct, frozen=True):
    """How far the app has taken the entries of one log.

    Attributes:
        epoch: Of which log; a store that holds another one by now passes it over.
        taken_seq: Everything up to here is taken; a lower value than before changes nothing.
        tries: As in `Record`.
        renewed_above: As in `Record`.
        state: What the app keeps of the conversation from now on (`LocalStore.app_state`); b"" forgets it, None leaves
            it.
    """

    conversation_id: str
    epoch: str
    taken_seq: int
    tries: int = 0
    renewed_above: int | None = None
    state: bytes | None = None


class Change(msgspec.Struct):
    """What a received frame changes in one conversation.

    Attributes:
        floor: Set the start of what is stored completely; None leaves it. A new conversation starts at its prefix.
            Where a new one starts, everything before counts as taken.
        forget_up_to: Drop the stored entries up to here first; 0 drops none.
        expired_up_to: Drop the stored entries up to here that the app has taken, for the log has them no more; 0
            drops none.
        forget_above: Drop the stored entries and recalls above here first, of another log; the app has taken nothing
            above either, nor that the log is another one. None drops none.
        messages: Entries to store. A stored tombstone is never replaced by a body.
        recalled_seqs: Slots to blank; remembered if there is nothing to blank yet and the slot is above the prefix
            (below it nothing comes any more but history, which the server has blanked).
        own_seqs: Those of `messages` that are answered sends of this device: they are never `untaken`.
        title: As in `Record`, like the four that follow.
    """

    conversation_id: str
    type: ConversationType
    epoch: str
    prefix: int
    left: bool = False
    floor: int | None = None
    forget_up_to: int = 0
    expired_up_to: int = 0
    forget_above: int | None = None
    messages: list[Message] = msgspec.field(default_factory=list)
    recalled_seqs: list[int] = msgspec.field(default_factory=list)
    own_seqs: set[int] = msgspec.field(default_factory=set)
    title: str = ""
    activity_ms: int = 0
    muted_until_ms: int = 0
    read_seq: int = 0
    notify: Notify = "ALL"

    def add_own(self, message: Message) -> None:
        """Store an answered send of this device."""
        self.messages.append(message)
        self.own_seqs.add(message.seq)


class LocalStore(Protocol):
    """Pending sends, logs, cursors, recalls of entries not held yet, and how far the app has taken them."""

    def owner(self) -> str:
        """The user's id; "" before the first login."""

    def bind(self, user_id: str, device_id: str) -> None:
        """Tie the store to its owner at the first login.

        Raises:
            ConfigurationError: It belongs to another user or device.
        """

    def pending(self) -> list[PendingSend]:
        """Unacknowledged messages, by order."""

    def add_pending(self, send: PendingSend) -> None:
        """Keep a message until it is resolved. When this returns it outlives the process."""

    def records(self) -> list[Record]:
        """Every conversation that is stored."""

    def save(self, changes: Sequence[Change], resolved: Sequence[Key] = ()) -> None:
        """Store all that one frame changed, and forget the resolved sends, in one transaction.

        Raises:
            UnavailableError: Refused for now; nothing was changed.
        """

    def messages(self, conversation_id: str, before_seq: int, limit: int) -> list[Message]:
        """The newest stored entries below `before_seq`: at most `limit`, ascending, possibly none."""

    def message_ids(self, conversation_id: str, after_seq: int, up_to_seq: int) -> dict[int, str]:
        """The ids of the stored entries in (after_seq, up_to_seq], by seq."""

    def untaken(self, conversation_id: str, after_seq: int, up_to_seq: int, limit: int) -> list[Message]:
        """The oldest stored entries of (after_seq, up_to_seq], without this device's own sends.

        At most `limit`, ascending, possibly none. Entries below the floor may be missing; the client fetches those. A
        store that outlives its process lets none go by itself that the app has not taken.
        """

    def naming(self, conversation_id: str, first_seq: int, last_seq: int) -> list[Message]:
        """The stored EDIT and REACTION entries that name an entry from `first_seq` to `last_seq`, ascending by seq."""

    def advance(self, progress: Sequence[Progress]) -> None:
        """Keep how far the app has taken each log, in one transaction. When this returns it outlives the process.

        Raises:
            UnavailableError: Refused for now; nothing was changed.
        """

    def app_state(self, conversation_id: str) -> bytes:
        """What the app keeps of a conversation, as `advance` stored it last; b"" if nothing."""

    def unread(self, conversation_id: str, after_seq: int, user_id: str) -> int:
        """How many stored messages above a seq are of others and not recalled; at most `UNREAD_MAX`.

        Entries that are no message (`types.NO_MESSAGES`) do not count.
        """

    def unread_mentions(self, conversation_id: str, after_seq: int) -> int:
        """How often stored entries of others above a seq mention the owner (`core.marks.mentioned_as`); at most
        `UNREAD_MAX`.

        An EDIT counts if what it names, and its edits before, did not mention the owner so. What was stored before the
        first login counts for nobody.
        """

    def floor(self, conversation_id: str) -> int:
        """Where the completely stored part starts (not included); 0 means at the log's start."""

    def reads(self) -> dict[str, int]:
        """How far the user wants each conversation to count as read, by conversation."""

    def want_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Keep how far the user has read; 0 forgets it."""

    def close(self) -> None:
        """Release what is held open. What was saved stays, where the store outlives the process."""
