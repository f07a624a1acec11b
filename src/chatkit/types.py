"""The values that users of chatkit hold in their hands: frozen, typed, without behaviour of their own.

What travels is in `chatkit.wire.events`; what a store is asked to do is in `chatkit.core.log.commands`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

ConversationType = Literal["SINGLE", "GROUP"]
JoinReason = Literal["CREATED", "JOINED"]
"""How a user came into a conversation, as CONVERSATION says it."""

GrantedRole = Literal["ADMIN", "MEMBER", "GUEST"]
"""What a member of a GROUP can be made. Everybody is a MEMBER at first."""

Role = Literal["OWNER"] | GrantedRole
"""What a member is. Of a SINGLE both are MEMBER; what each may do is in `chatkit.Policy`."""

Notify = Literal["ALL", "MENTIONS", "NONE"]
"""What of a conversation wakes a user: everything, what mentions them, or nothing."""

History = Literal["FROM_JOIN", "FROM_START"]
"""What whoever joins a GROUP may read of the time before: nothing, or all of it."""

DeliveryState = Literal["PENDING", "DELIVERED", "READ"]
MessageStatus = Literal["SENDING", "SENT", "DELIVERED", "READ"]
PresenceState = Literal["ONLINE", "AWAY", "OFFLINE"]
"""ONLINE: at one of their devices at least. AWAY: connected, and away from all of them."""

Payload = dict[str, Any]
"""A message's content: an I-JSON object with a `type`. See docs/protocol.md#payloads."""

NO_MESSAGES = frozenset({"MEMBER", "RECALL", "EDIT", "REACTION", "PINNED", "TITLE"})
"""Types of entries that are no message of anybody: never unread, and no preview in a list."""


class Identity(msgspec.Struct, frozen=True):
    """Who a token proves its bearer to be.

    Attributes:
        user_id: The user.
        device_id: The device, where the token is bound to one.
        expires_ms: Unix milliseconds when the login ends; None for never.
        scope: The token's scope, kept through resume; chatkit itself gives it no meaning. Any text without NUL.
        issued_at_ms: Unix milliseconds when the token was issued: `ChatServer.revoke` of a user or device refuses those
            issued up to then. None: the host itself refuses them, each time it is asked.
    """

    user_id: str
    device_id: str | None = None
    expires_ms: int | None = None
    scope: str = ""
    issued_at_ms: int | None = None


StreamEnd = Literal["WHOLE", "CUT_OFF"]
"""How a streamed message ended: finished, or before that."""


class Edit(msgspec.Struct, frozen=True):
    """What a message says by its latest edit.

    Attributes:
        seq: Of the EDIT entry.
        server_ts: Unix milliseconds when that was stored.
        payload: What takes the place of the message's payload; None where the EDIT entry is in the server's archive
            and has not been read.
        ends: It is the end of a streamed message: all of it, or as far as its author came. None: a correction.
    """

    seq: int
    server_ts: int
    payload: Payload | None
    ends: StreamEnd | None = None


class Reaction(msgspec.Struct, frozen=True):
    """How many react to a message in one way.

    Attributes:
        reaction: An emoji, or any other short text.
        count: How many; where there are more than are named, a little off until the message is fetched again.
        user_ids: Who, the first first; of many the first 50.
    """

    reaction: str
    count: int
    user_ids: tuple[str, ...]


class StreamProgress(msgspec.Struct, frozen=True):
    """How far an open streamed message has come: all of its text so far, in so many parts."""

    parts: int
    text: str


class Marks(msgspec.Struct, frozen=True):
    """What was said of a message up to the entry `as_of_seq`: its latest edit, and its reactions, the oldest first.

    `stream` is of a streamed message that is open.
    """

    as_of_seq: int
    edit: Edit | None = None
    reactions: tuple[Reaction, ...] = ()
    stream: StreamProgress | None = None


class MessageRef(msgspec.Struct, frozen=True):
    """Which message another one names: its id, and its place in the same log."""

    message_id: str
    seq: int


class Message(msgspec.Struct, frozen=True):
    """One entry of a conversation's log, as one of its members sees it.

    Attributes:
        conversation_id: The conversation.
        seq: Place in its log, from 1, without holes.
        message_id: Opaque global id of the entry.
        sender_id: Author; of entries made by the server, whoever caused them.
        server_ts: Unix milliseconds when the entry was stored.
        payload: What was sent, for ever; `{"type": "RECALLED"}` once recalled. How it reads now is `content`.
        client_msg_id: The author's own key; known only to the author's devices.
        marks: What was said of it later, as far as this device knows; None: nothing.
    """

    conversation_id: str
    seq: int
    message_id: str
    sender_id: str
    server_ts: int
    payload: Payload
    client_msg_id: str | None = None
    marks: Marks | None = None

    @property
    def type(self) -> str:
        """The payload's type: TEXT, STREAM, IMAGE, VOICE, FILE, CUSTOM, EDIT, REACTION, PINNED, TITLE, MEMBER, RECALL,
        RECALLED, or one of a newer server."""
        kind = self.payload.get("type")
        return kind if isinstance(kind, str) else ""

    @property
    def is_user_message(self) -> bool:
        """Whether it is a message of a user, or the place of one that was recalled; else it notes something: who came,
        an edit, a reaction, a pin, a title, a recall. Of a type that this version does not know: True."""
        return self.type not in NO_MESSAGES

    @property
    def edit(self) -> Edit | None:
        """The latest edit; None if it was not edited."""
        return None if self.marks is None else self.marks.edit

    @property
    def reactions(self) -> tuple[Reaction, ...]:
        """Who reacts to it, the oldest first."""
        return () if self.marks is None else self.marks.reactions

    @property
    def content(self) -> Payload:
        """How it reads now: the payload of the latest edit, if there is one, else its own; of an open stream with its
        text so far."""
        if self.edit is not None and self.edit.payload is not None:
            return self.edit.payload
        stream = None if self.marks is None else self.marks.stream
        return self.payload if stream is None else {**self.payload, "text": stream.text}

    @property
    def is_open(self) -> bool:
        """Whether it is a streamed message that grows still, as far as this device knows."""
        if self.type != "STREAM" or self.edit is not None:
            return False
        return self.marks is None or self.marks.stream is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether it is a streamed message that ended before it was finished."""
        return self.edit is not None and self.edit.ends == "CUT_OFF"

    @property
    def reply_to(self) -> MessageRef | None:
        """The earlier message that it answers; None if it answers none."""
        named = self.payload.get("replyTo")
        if not isinstance(named, dict):
            return None
        message_id, seq = named.get("messageId"), named.get("seq")
        return MessageRef(message_id, seq) if isinstance(message_id, str) and type(seq) is int else None

    @property
    def mentions(self) -> tuple[str, ...]:
        """Whom it mentions as it reads now: user ids, and `*` for everybody."""
        named = self.content.get("mentions")
        return tuple(it for it in named if isinstance(it, str)) if isinstance(named, list) else ()

    @property
    def text(self) -> str:
        """The text of a TEXT or STREAM as it reads now; the fallback text of any other type; empty if there is none."""
        content = self.content
        value = content.get("text" if content.get("type") in ("TEXT", "STREAM") else "fallbackText")
        return value if isinstance(value, str) else ""


class SearchHit(msgspec.Struct, frozen=True):
    """A message that was found. Ranges are (start, end) in code points, as Python counts them; end is not included.

    Attributes:
        message: All of it.
        field: Of what it says now (`Message.content`), where the words are: `text`, `name` of a file, or
            `fallbackText`.
        highlights: Where the words are, ascending; at most 32.
        snippet: The part of the field to show, with the first of them in it; at most 160 long.
    """

    message: Message
    field: str
    highlights: tuple[tuple[int, int], ...]
    snippet: tuple[int, int]

    @property
    def text(self) -> str:
        """What the field says; highlights and snippet count in it."""
        value = self.message.content.get(self.field)
        return value if isinstance(value, str) else ""


class SearchPage(msgspec.Struct, frozen=True):
    """What was found, the newest first.

    Attributes:
        hits: Few or none of them does not mean that this is the end.
        next_cursor: Leads to the next page; None on the last one.
        up_to_date: Whether all that was stored in the user's conversations when the search began had been taken up by
            the index; if not, the newest messages may be missing.
    """

    hits: tuple[SearchHit, ...]
    next_cursor: str | None
    up_to_date: bool


class Sent(msgspec.Struct, frozen=True):
    """What the server said of a send: durable, numbered, for ever the same.

    Attributes:
        conversation_id: The conversation.
        client_msg_id: The sender's key; empty for a recall.
        message_id: Id of the stored entry.
        seq: Its place in the log.
        server_ts: Unix milliseconds when it was stored.
        epoch: The identity of the log it is in.
        payload: What a moderator had stored in place of what was sent; None: what was sent is stored.
    """

    conversation_id: str
    client_msg_id: str
    message_id: str
    seq: int
    server_ts: int
    epoch: str = ""
    payload: Payload | None = None


class Receipt(msgspec.Struct, frozen=True):
    """How far one user has got in a conversation.

    Attributes:
        conversation_id: The conversation.
        user_id: The user.
        delivered_seq: Everything visible up to here is on one of the user's devices.
        read_seq: Everything visible up to here was read.
    """

    conversation_id: str
    user_id: str
    delivered_seq: int
    read_seq: int


class ConversationSummary(msgspec.Struct, frozen=True):
    """One of a user's conversations, with what a list shows.

    Attributes:
        conversation_id: The conversation.
        type: SINGLE or GROUP.
        title: Its title; "" if it has none.
        head_seq: The highest seq of its log.
        read_seq: How far the user has read.
        last_activity_ts: Unix milliseconds of its newest message or change of members; never falls.
        last_message: The newest message that the user may read, with the type RECALLED if it was recalled; None if
            there is none.
        unread: Messages of others that the user has not read, at most 999; those of every type count, CUSTOM too.
        muted_until: Unix milliseconds until which the user is not woken for it, 2^53 - 1 for ever; 0: they are.
        unread_mentions: How many of the unread messages, and of edits since then, mention the user; at most 999.
        notify: What wakes the user: ALL, or while it is muted what mentions them (MENTIONS) or NONE.
    """

    conversation_id: str
    type: ConversationType
    title: str
    head_seq: int
    read_seq: int
    last_activity_ts: int
    last_message: Message | None
    unread: int
    muted_until: int
    unread_mentions: int = 0
    notify: Notify = "ALL"


class Pin(msgspec.Struct, frozen=True):
    """A pinned message.

    Attributes:
        seq: Its place.
        by: Who pinned it.
        pinned_ts: Unix milliseconds when.
        message: The message as it reads now; None where the answer had no room for it.
    """

    seq: int
    by: str
    pinned_ts: int
    message: Message | None


class UserPresence(msgspec.Struct, frozen=True):
    """Whether a user is online.

    Attributes:
        user_id: The user.
        state: ONLINE, AWAY or OFFLINE.
        last_seen_ts: Unix milliseconds when they went OFFLINE, at most some minutes too early; None while they have
            not, and where nobody knows it.
    """

    user_id: str
    state: PresenceState
    last_seen_ts: int | None


class HeldMessage(msgspec.Struct, frozen=True, rename="camel"):
    """A message that is held until somebody decides about it.

    Attributes:
        held_id: Its number.
        held_ts: Unix milliseconds since when.
        reason: Why the moderator holds it.
        payload: What is stored if it is released as it is.
    """

    held_id: int
    conversation_id: str
    sender_id: str
    client_msg_id: str
    held_ts: int
    reason: str
    payload: Payload


class ReviewOutcome(msgspec.Struct, frozen=True):
    """What followed from a decision about a held message.

    Attributes:
        stored: What is in the log now, in order: the message itself, and what waited behind it.
        refused: clientMsgIds of what never will be.
    """

    stored: tuple[Sent, ...]
    refused: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """A message that a user reported.

    Attributes:
        sender_id: Who wrote it.
        reporter_id: Who reported it.
        reported_ts: Unix milliseconds when.
        payload: The copy that was kept with the report, else what the log has; None once that was recalled.
    """

    report_id: int
    message_id: str
    conversation_id: str
    sender_id: str
    reporter_id: str
    reason: str
    note: str
    reported_ts: int
    payload: Payload | None


class Member(msgspec.Struct, frozen=True, rename="camel"):
    """One current member of a conversation.

    Attributes:
        user_id: The user.
        role: Their role.
        joined_seq: Seq of the entry that added the user.
        silenced_until_ms: Unix milliseconds until which they may not write, 2^53 - 1 for ever; 0: they may.
    """

    user_id: str
    role: Role
    joined_seq: int
    silenced_until_ms: int = 0


FactEvent = Literal[
    "STORED",
    "RECALLED",
    "ARCHIVED",
    "LOG_RENEWED",
    "WAITING",
    "HANDLED",
    "DELIVERED",
    "PUSHED",
    "PUSH_FAILED",
    "PUSH_WAITS",
    "PUSH_GIVEN_UP",
    "CONFIRMED",
    "READ",
    "PENDING",
    "MUTED",
    "LEFT",
    "ONLINE",
]
"""What a `Fact` is about."""

FactTime = Literal["EXACT", "AT_LATEST", "NOW", "NOT_KNOWN"]
"""EXACT: noted as it happened. AT_LATEST: it happened then or before. NOW: it is so at this moment."""


class Fact(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that is known of a message.

    Attributes:
        event: What happened, or is so.
        at_ms: Unix milliseconds, by the clock of the server or worker that noted it; None where nobody did.
        time: What that time means.
        source: The table that says so, or `this node`.
        words: The same for people. Never the message's words, nor a token.
        user_id: Whom it is about; None where it is about nobody in particular.
        device_id: On which of their devices.
    """

    event: FactEvent
    at_ms: int | None
    time: FactTime
    source: str
    words: str
    user_id: str | None = None
    device_id: str | None = None


class Explanation(msgspec.Struct, frozen=True, rename="camel"):
    """What became of one entry of a log. Never its body.

    Attributes:
        epoch: That it was written under.
        kind: USER, MEMBER or RECALL.
        client_msg_id: The sender's key; None for what the server made.
        facts: By time; those without one at the end.
        not_kept: What nobody can say, for people.
        reader_count: Readers that are told of.
        has_more: Whether there are more of them; name one.
    """

    message_id: str
    conversation_id: str
    conversation_type: ConversationType
    seq: int
    epoch: str
    kind: str
    sender_id: str
    client_msg_id: str | None
    facts: tuple[Fact, ...]
    not_kept: tuple[str, ...]
    reader_count: int
    has_more: bool


class AuditRow(msgspec.Struct, frozen=True, rename="camel"):
    """A privileged act, written in the transaction of its effect. Never holds a message body or a token.

    Attributes:
        audit_id: Rises from row to row.
        at_ms: When, by the clock of the server that did it.
        conversation_id: Where; empty if it concerns none.
        actor_id: Who did it; empty for the host.
        action: What was done; a later version may write words that this one does not know.
        seq: Of the conversation's newest entry at that time; 0 without one.
        subject: Whom or what it changed: a user, a message, a title, an epoch.
        detail: What else there is to know, by name: `device`, or `token` for the digest of one.
        conversation_key: The store's internal number of the conversation; 0 without one.
        number: Its place in its chain, from 1; 0 of a row from before there were chains.
        digest: In hex: over this row and the one before it in its chain; empty of a row from before there were chains.
    """

    audit_id: int
    at_ms: int
    conversation_id: str
    actor_id: str
    action: str
    seq: int
    subject: str
    detail: dict[str, str] = {}
    conversation_key: int = 0
    number: int = 0
    digest: str = ""
