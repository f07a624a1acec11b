"""The language: one struct per event of the wire contract, tagged by the field `event`.

Field names are snake_case here and camelCase on the wire. `docs/protocol.md` has one heading per event.
Read by `codec` (bytes to events), by the server's session and by the client's. Optional fields are `UNSET`
when absent, so that absent and null differ and absent ones cost no bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..types import ConversationType, PresenceState

SEQ_MAX = 2**53 - 1
LOG_TOKEN_MAX = 64
FRAME_BYTES_MAX = 1_000_000
PAYLOAD_BYTES_MAX = 64 * 1024
STREAM_PART_BYTES_MAX = 8 * 1024
"""One part of a streamed message, as JSON in UTF-8."""

STREAM_BYTES_MAX = 60 * 1024
"""All parts of one, likewise: with what an EDIT has around it, its end is a payload that is taken."""

STREAM_PARTS_MAX = 4_096
STREAM_AGE_MAX_S = 3_600
"""So long a stream takes parts."""

BATCH_MAX = 256
PAGE_MAX = 200
PROTOCOL_VERSION = "1.0"

Id = Annotated[str, Meta(pattern=r"^(?!\.{1,2}\Z)[A-Za-z0-9._:@-]{1,128}\Z")]
ClientMsgId = Annotated[str, Meta(pattern=r"^[^\x00]{1,128}\Z")]
Ref = Annotated[str, Meta(pattern=r"^[^\x00]{0,64}\Z")]
MessageId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]
Title = Annotated[str, Meta(pattern=r"^[^\x00\r\n]{0,256}\Z")]
"""One line."""

Description = Annotated[str, Meta(pattern=r"^[^\x00]{0,1024}\Z")]
Mentioned = Annotated[str, Meta(pattern=r"^([*]|(?!\.{1,2}\Z)[A-Za-z0-9._:@-]{1,128})\Z")]
"""A user, or everybody: `*`."""

Text128 = Annotated[str, Meta(min_length=1, max_length=128)]
"""An `Id` or a `ClientMsgId` in an event that comes often: `codec` looks at its characters, for less than a pattern."""

Text64 = Annotated[str, Meta(max_length=64)]
"""A `Ref`, likewise."""

LogToken = Annotated[str, Meta(max_length=LOG_TOKEN_MAX)]
Token = Annotated[str, Meta(min_length=1, max_length=16_384)]
Epoch = Annotated[str, Meta(min_length=1, max_length=64)]
Seq = Annotated[int, Meta(ge=0, le=SEQ_MAX)]

HELLO_BYTES_MAX = 20 * 1024
"""A frame before WELCOME: room for the longest token and little else."""

_CHECKED_DEPTH = 6


def _value_of_depth(depth: int) -> Any:
    """The type of a JSON value with at most so many arrays and objects inside each other."""
    kind: Any = None | bool | int | float | str
    scalar = kind
    for _ in range(depth):
        kind = scalar | list[kind] | dict[str, kind]
    return kind


if TYPE_CHECKING:
    PayloadValue = Any
else:
    PayloadValue = _value_of_depth(_CHECKED_DEPTH)
    """Any JSON value. The decoder checks keys while it builds; what is nested deeper is looked at by `codec` first."""


class Event(msgspec.Struct, frozen=True, tag_field="event", rename="camel", gc=False):
    """Base of everything that travels on the WebSocket. It holds no cycles, so the collector need not look at it."""


# --- client to server ---------------------------------------------------------------------------------


class ClientInfo(msgspec.Struct, frozen=True):
    """Name and version of the program that connects, for the server's logs."""

    name: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""


class Hello(Event, frozen=True, tag="HELLO"):
    """First event of a connection: proves the user and names the device."""

    device_id: Id
    token: Token | UnsetType = UNSET
    resume_token: Token | UnsetType = UNSET
    client: ClientInfo | UnsetType = UNSET
    log_token: LogToken | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET


class SendMsg(Event, frozen=True, tag="SEND_MSG"):
    """Append a message; answered by MSG_ACK once it is durable."""

    conversation_id: Text128
    client_msg_id: Text128
    payload: dict[str, PayloadValue]
    ref: Text64 | UnsetType = UNSET


class DeliveredAck(Event, frozen=True, tag="DELIVERED_ACK"):
    """This device holds everything visible up to `up_to_seq`, or exactly the entry `message_id`."""

    conversation_id: Text128
    up_to_seq: Seq | UnsetType = UNSET
    message_id: MessageId | UnsetType = UNSET
    ref: Text64 | UnsetType = UNSET


class Read(Event, frozen=True, tag="READ"):
    """This user has read everything visible up to `up_to_seq`."""

    conversation_id: Text128
    up_to_seq: Seq
    ref: Text64 | UnsetType = UNSET


class Sync(Event, frozen=True, tag="SYNC"):
    """Ask for the entries after `last_seq`; answered by SYNC_PAGE.

    With `history` the page shows, too, what may be read of the time before the user joined.
    """

    conversation_id: Id
    last_seq: Seq
    limit: Seq | UnsetType = UNSET
    epoch: Epoch | UnsetType = UNSET
    history: bool | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET


class Recall(Event, frozen=True, tag="RECALL"):
    """Withdraw one's own message; answered by MSG_ACK of the recall's own entry."""

    message_id: MessageId
    ref: Ref | UnsetType = UNSET


class TypingCommand(Event, frozen=True, tag="TYPING"):
    """The user is writing."""

    conversation_id: Id
    ref: Ref | UnsetType = UNSET


class StreamPartCommand(Event, frozen=True, tag="STREAM_PART"):
    """The next part of one's own open stream; answered by STREAM_ACK once it is durable.

    Part 0, with an empty text, says that the author is still there, and asks how many parts there are.
    """

    conversation_id: Id
    message_id: MessageId
    part: Seq
    text: str
    ref: Ref | UnsetType = UNSET


class PresenceCommand(Event, frozen=True, tag="PRESENCE"):
    """The user is at this device, or away from it, from here on until the connection ends. Opt-in."""

    state: Literal["ONLINE", "AWAY"]
    ref: Ref | UnsetType = UNSET


class AuthRefresh(Event, frozen=True, tag="AUTH_REFRESH"):
    """A new token for the open connection; answered by AUTH_OK."""

    token: Token
    ref: Ref | UnsetType = UNSET


class Ping(Event, frozen=True, tag="PING"):
    """Sign of life; answered by PONG."""

    ref: Ref | UnsetType = UNSET


ClientEvent = (
    Hello
    | SendMsg
    | DeliveredAck
    | Read
    | Sync
    | Recall
    | TypingCommand
    | StreamPartCommand
    | PresenceCommand
    | AuthRefresh
    | Ping
)


# --- server to client ---------------------------------------------------------------------------------


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """The bounds a client must keep to."""

    frame_bytes: int = FRAME_BYTES_MAX
    payload_bytes: int = PAYLOAD_BYTES_MAX
    batch: int = BATCH_MAX
    sync_page: int = PAGE_MAX


class Welcome(Event, frozen=True, tag="WELCOME"):
    """The login holds; the session is joined to the live pushes."""

    user_id: str
    device_id: str
    session_id: str
    resume_token: str
    resumed: bool
    expires_ts: int | None
    heartbeat_ms: int
    server_ts: int
    protocol: str = PROTOCOL_VERSION
    limits: Limits = Limits()
    ref: str | UnsetType = UNSET


class Head(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """The head and the cursors of one conversation, for one device of one user, and what a list shows beside it.

    Attributes:
        title: Its title; not on the wire if it has none.
        last_activity_ts: Unix milliseconds of its newest message or change of members; 0 where the server does not say.
        muted_until: Unix milliseconds until which the user is not woken for it. 0, and not on the wire: they are.
        notify: What wakes them until then: MENTIONS or NONE; ALL, and not on the wire, where nothing is muted.
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
    title: str = ""
    last_activity_ts: int = 0
    muted_until: int = 0
    notify: str = "ALL"


class Heads(Event, frozen=True, tag="HEADS"):
    """A page of the user's conversations; the last one has `more` false."""

    conversations: list[Head]
    more: bool


class MsgAck(Event, frozen=True, tag="MSG_ACK"):
    """The message is durable and has its place. `payload` comes only where a moderator had another one stored."""

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    server_ts: int
    client_msg_id: str | UnsetType = UNSET
    status: Literal["SENT"] = "SENT"
    ref: str | UnsetType = UNSET
    payload: msgspec.Raw | UnsetType = UNSET


class EntryEdit(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What a message says since its latest edit: `payload` takes the place of the entry's.

    It is left out where the EDIT entry, which is at `seq`, is in the archive. `ends` says that a stream ended with it.
    """

    seq: int
    server_ts: int
    payload: msgspec.Raw | UnsetType = UNSET
    ends: str | UnsetType = UNSET


class EntryReactions(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """How many react to a message in one way; of many the first 50 are named."""

    reaction: str
    count: int
    user_ids: list[str]


class EntryStream(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """An open stream as far as it has come: `text` is the first text with `parts` parts."""

    parts: int
    text: str


class LogEntry(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One entry in a SYNC_PAGE or an HTTP page: the fields of NEW_MSG without the tag.

    `edit`, `reactions` and `stream` say how it stands at the head of the page; they are left out where there is
    nothing.
    """

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    sender_id: str
    server_ts: int
    payload: msgspec.Raw
    client_msg_id: str | UnsetType = UNSET
    edit: EntryEdit | UnsetType = UNSET
    reactions: list[EntryReactions] | UnsetType = UNSET
    stream: EntryStream | UnsetType = UNSET


class NewMsg(Event, frozen=True, tag="NEW_MSG"):
    """A new entry of the log; `payload` stays encoded so that it is encoded once for all."""

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    sender_id: str
    server_ts: int
    payload: msgspec.Raw
    client_msg_id: str | UnsetType = UNSET


class ReceiptPush(Event, frozen=True, tag="RECEIPT"):
    """How far a user has got; in groups over 100, how many members have got to `seq`."""

    conversation_id: str
    user_id: str | UnsetType = UNSET
    delivered_seq: int | UnsetType = UNSET
    read_seq: int | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    delivered_count: int | UnsetType = UNSET
    read_count: int | UnsetType = UNSET
    member_count: int | UnsetType = UNSET


class SyncPage(Event, frozen=True, tag="SYNC_PAGE"):
    """Covers (lastSeq, upToSeq]: what is not listed is not visible and never will be by this page.

    `floor_seq`: entries up to here were deleted for good; left out where none were.
    """

    conversation_id: str
    epoch: str
    head_seq: int
    messages: list[LogEntry]
    up_to_seq: int
    more: bool
    floor_seq: int | UnsetType = UNSET
    ref: str | UnsetType = UNSET


class Behind(Event, frozen=True, tag="BEHIND"):
    """Pushes of this conversation were dropped or missed; pull with SYNC."""

    conversation_id: str
    epoch: str
    head_seq: int


class ConversationPush(Event, frozen=True, tag="CONVERSATION"):
    """The user's set of conversations changed. `title` is not always said."""

    conversation_id: str
    type: ConversationType
    change: Literal["CREATED", "JOINED", "LEFT", "UPDATED"]
    title: str | UnsetType = UNSET


class TypingPush(Event, frozen=True, tag="TYPING"):
    """Somebody is writing."""

    conversation_id: str
    user_id: str


class StreamPartPush(Event, frozen=True, tag="STREAM_PART"):
    """An open stream grew. Parts may be lost, not reordered: a client with a hole asks for the entry."""

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    part: int
    text: str


class StreamAck(Event, frozen=True, tag="STREAM_ACK"):
    """All parts of the stream up to `part` are durable."""

    conversation_id: str
    message_id: str
    seq: int
    part: int
    ref: str | UnsetType = UNSET


class PresencePush(Event, frozen=True, tag="PRESENCE"):
    """Whether somebody is online changed; `last_seen_ts` comes with OFFLINE."""

    user_id: str
    state: PresenceState
    last_seen_ts: int | UnsetType = UNSET


class TokenExpiring(Event, frozen=True, tag="TOKEN_EXPIRING"):
    """The login ends at `expires_ts`; send AUTH_REFRESH."""

    expires_ts: int


class AuthOk(Event, frozen=True, tag="AUTH_OK"):
    """The login was renewed."""

    expires_ts: int | None
    ref: str | UnsetType = UNSET


class GoAway(Event, frozen=True, tag="GOAWAY"):
    """The node drains; come back after the given time."""

    reason: str
    reconnect_after_ms: int


class Pong(Event, frozen=True, tag="PONG"):
    """Answer to PING. `log_token` says how far the log has got; it is for the next HELLO."""

    server_ts: int
    ref: str | UnsetType = UNSET
    log_token: str | UnsetType = UNSET


REVIEWED = "REVIEWED"
"""`reason` of an ERROR that tells what became of a held message, and answers no SEND_MSG."""


class ErrorEvent(Event, frozen=True, tag="ERROR"):
    """One item was refused; the others of its frame were not touched by that.

    `server_ts` comes with the refusal of a login: a client whose clock says something else knows why. `reason` says
    more than the code where an app may care; there may be new ones. `expected_part` comes with PART_OUT_OF_ORDER.
    """

    code: str
    message: str
    retryable: bool
    retry_after_ms: int | UnsetType = UNSET
    ref: str | UnsetType = UNSET
    conversation_id: str | UnsetType = UNSET
    client_msg_id: str | UnsetType = UNSET
    server_ts: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    expected_part: int | UnsetType = UNSET


ServerEvent = (
    Welcome
    | Heads
    | MsgAck
    | NewMsg
    | ReceiptPush
    | SyncPage
    | Behind
    | ConversationPush
    | TypingPush
    | StreamPartPush
    | StreamAck
    | PresencePush
    | TokenExpiring
    | AuthOk
    | GoAway
    | Pong
    | ErrorEvent
)


class CloseCode:
    """Close codes of the contract; the range tells a client what to do next."""

    DRAIN = 1001
    PROTOCOL = 1002
    INVALID_DATA = 1007
    TOO_BIG = 1009
    SLOW_CONSUMER = 4000
    HEARTBEAT_LOST = 4001
    OVERLOADED = 4002
    DISCONNECTED = 4003
    TOKEN_EXPIRED = 4100
    TOKEN_REVOKED = 4101
    HELLO_MISSING = 4200
    REPLACED = 4201
    BANNED = 4202
    PROTOCOL_ERROR = 4203
    VERSION_NOT_SUPPORTED = 4204
