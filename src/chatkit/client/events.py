"""What an app sees of the client: one frozen struct per event, made for `match`.

Yielded by `ChatClient.events`; `ChatClient.consume` hands each out in a `Delivery`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..errors import ChatkitError
from ..types import ConversationType, Edit, Message, PresenceState, Receipt, Sent


class Connecting(msgspec.Struct, frozen=True):
    """A connection is being opened; `attempt` counts from 1 since the last stable one."""

    attempt: int


class Connected(msgspec.Struct, frozen=True):
    """The login holds; `resumed` says that a resume token was used instead of a token."""

    session_id: str
    resumed: bool


class Reconnecting(msgspec.Struct, frozen=True):
    """After `delay_s` seconds try number `attempt` follows; `cause` is what went wrong."""

    attempt: int
    delay_s: float
    cause: Exception


class Disconnected(msgspec.Struct, frozen=True):
    """An open connection ended, or (`will_retry` false) the client has stopped for good.

    `code` is the WebSocket close code; 1006 if there was none.
    """

    code: int
    reason: str
    will_retry: bool


class CaughtUp(msgspec.Struct, frozen=True):
    """Everything that was missed before this connection has been placed. Once per connection."""


class MessageReceived(msgspec.Struct, frozen=True):
    """An entry of a log, in order: others' messages, one's own from other devices, and what is no message: MEMBER,
    PINNED and TITLE entries. A streamed message comes as it begins.

    At most once by `events()`, at least once by `consume`, which repeats what a handler did not take.

    RECALL, EDIT and REACTION entries come as `MessageRecalled`, `MessageEdited` and `ReactionChanged` instead, and this
    device's own sends as `MessageSent`. One that a moderator had something else stored of comes as this event, with its
    `client_msg_id`, if the log shows it before its answer: then no `MessageSent` follows.
    """

    message: Message


class MessageRecalled(msgspec.Struct, frozen=True):
    """The message at `seq` was withdrawn by `by`; show a tombstone. Its body is gone from the local store."""

    conversation_id: str
    message_id: str
    seq: int
    by: str


class MessageEdited(msgspec.Struct, frozen=True):
    """The author of the message at `seq` says it in other words: show `edit.payload` in its place.

    The message itself stays as it was sent, and so do earlier edits; `history` shows the latest. It may be of a message
    that this user does not see. Where `edit.ends` is set, a streamed message ended with it: that is no correction.
    """

    conversation_id: str
    message_id: str
    seq: int
    by: str
    edit: Edit


class ReactionChanged(msgspec.Struct, frozen=True):
    """A user reacts to the message at `seq`, or (`removed`) does so no more.

    `reaction_seq` is the place of the entry that says so. It may change nothing, where a user said it twice.
    """

    conversation_id: str
    message_id: str
    seq: int
    user_id: str
    reaction: str
    removed: bool
    reaction_seq: int


class StreamGrew(msgspec.Struct, frozen=True):
    """A streamed message grew: `text` is all of it so far. Its end comes as `MessageEdited` with `edit.ends`.

    Several parts may be one event: while one waits for the app, a newer one takes its place. Ephemeral: dropped when
    the buffer is full; a later one says more.
    """

    conversation_id: str
    message_id: str
    seq: int
    parts: int
    text: str


class MessageSent(msgspec.Struct, frozen=True):
    """A message of this device is durable.

    It comes with the answer, so it may come before entries with a lower seq; where the log was replaced meanwhile it
    waits for the `EpochChanged`. A key that was answered before and is sent again gives this event again, with the same
    answer. With `sent.payload` a moderator had that stored: show it.
    Left out when the buffer is full and `send` itself returned it, and where the message came as `MessageReceived`
    before its answer. After a restart the same message can come as
    `MessageReceived` too, where it had no place on this device yet: its log was being renewed, its conversation was not
    known here, or a moderator had something else stored.
    """

    sent: Sent


class MessageHeld(msgspec.Struct, frozen=True):
    """A moderator keeps a message of this device for review. It stays queued; `MessageSent` or `SendFailed` follows.

    Once per connection: after each connect the server is asked what became of it.
    """

    conversation_id: str
    client_msg_id: str


class SendFailed(msgspec.Struct, frozen=True):
    """A message of this device is no longer queued: refused for good, or (DamagedError) damaged in the local store."""

    conversation_id: str
    client_msg_id: str
    error: ChatkitError


class ReceiptChanged(msgspec.Struct, frozen=True):
    """A user has got further. Ephemeral: dropped when the buffer is full.

    A `receipt.user_id` of "" stands for the least of all other members: what a reconnect learns from the heads,
    which is the other member in a SINGLE conversation.
    """

    receipt: Receipt


class ReceiptCounts(msgspec.Struct, frozen=True):
    """In a group over 100: how many members have got to `seq`. Ephemeral: dropped when the buffer is full."""

    conversation_id: str
    seq: int
    delivered_count: int
    read_count: int
    member_count: int


class Typing(msgspec.Struct, frozen=True):
    """Somebody is writing. Ephemeral: dropped when the buffer is full."""

    conversation_id: str
    user_id: str


class PresenceChanged(msgspec.Struct, frozen=True):
    """A contact came online, went away or offline. Ephemeral: dropped when the buffer is full, and what changes while
    there is no connection is not told: `ChatClient.presence` asks.

    Attributes:
        user_id: Who.
        state: ONLINE, AWAY or OFFLINE.
        last_seen_ts: With OFFLINE, Unix milliseconds when they went; else None.
    """

    user_id: str
    state: PresenceState
    last_seen_ts: int | None = None


class ConversationChanged(msgspec.Struct, frozen=True):
    """The set of one's conversations changed while online, or one was left, or joined again, while away.

    A conversation that is new since the last connection has no such event: it shows in `ChatClient.heads`
    and by its messages.
    """

    conversation_id: str
    type: ConversationType
    change: Literal["CREATED", "JOINED", "LEFT", "UPDATED"]


class ConversationListChanged(msgspec.Struct, frozen=True):
    """`ChatClient.conversations` reads differently now: an entry came, something was read, or a title changed.

    Comes once the app has asked for the list. One waits at most, so a hundred messages that come at once are one reason
    to ask again; the list is then ahead of those of them that are taken later.
    """


class EpochChanged(msgspec.Struct, frozen=True):
    """The log was put back from a backup, or replaced: forget what was shown of it above `kept_seq`.

    What the new log has above it comes next, as new, with what this device sent into it (`MessageSent`). An own message
    that was SENT before and stood above it is lost, unless it comes again.

    Attributes:
        conversation_id: Which log.
        epoch: Its identity now; the former one if the server has not noticed (yet) that it serves an older state.
        kept_seq: Up to here both logs are the same; 0 if they have nothing in common.
    """

    conversation_id: str
    epoch: str
    kept_seq: int


ConnectionEvent = Connecting | Connected | Reconnecting | Disconnected
EphemeralEvent = ReceiptChanged | ReceiptCounts | Typing | PresenceChanged | StreamGrew
ChatEvent = (
    Connecting
    | Connected
    | Reconnecting
    | Disconnected
    | CaughtUp
    | MessageReceived
    | MessageRecalled
    | MessageSent
    | MessageEdited
    | MessageHeld
    | SendFailed
    | ReactionChanged
    | StreamGrew
    | ReceiptChanged
    | ReceiptCounts
    | Typing
    | PresenceChanged
    | ConversationChanged
    | ConversationListChanged
    | EpochChanged
)


class Taken(msgspec.Struct, frozen=True):
    """What a handler of `ChatClient.consume` may return, to keep something of the event's conversation.

    It is stored in the transaction that takes the event: either both are, or neither, also if the process is killed.
    Only for what repeats (`Delivery.repeats`).

    Attributes:
        state: At most 16 KiB, read again with `ChatClient.app_state`; b"" forgets it, None leaves it.
    """

    state: bytes | None = None


class Delivery(msgspec.Struct, frozen=True):
    """One event on its way to the app, for `ChatClient.consume`.

    Attributes:
        event: What happened.
        attempt: Which try of this event it is, from 1; counted in the local store, so also across restarts. It starts
            again at 1 where the log is replaced meanwhile. An event that does not repeat always has 1.
        conversation_id: Whose log the event is of; "" for events of the connection, and for what is not repeated.
        epoch: Which log that is.
        seq: The place of its entry (of the RECALL entry for a `MessageRecalled`); 0 for what has none.
    """

    event: ChatEvent
    attempt: int = 1
    conversation_id: str = ""
    epoch: str = ""
    seq: int = 0

    @property
    def repeats(self) -> bool:
        """Whether it comes again until it is taken: entries of a log, and that a log was replaced."""
        return self.epoch != ""
