"""Bodies of the HTTP requests and their answers, and the problem document. Field names are camelCase on the wire.

Read by `gateway.http_api` and by the client's `api`. Pages carry entries as `events.LogEntry`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..types import (
    AuditRow,
    ConversationType,
    DeliveryState,
    GrantedRole,
    HeldMessage,
    History,
    Payload,
    PresenceState,
    Report,
)
from .events import SEQ_MAX, ClientMsgId, Description, Id, LogEntry, Title

PayloadType = Annotated[str, Meta(min_length=1, max_length=32)]
UserIds = Annotated[list[Id], Meta(max_length=5_000)]
PresenceUsers = Annotated[list[Id], Meta(min_length=1, max_length=100)]
SomeUserIds = Annotated[list[Id], Meta(min_length=1, max_length=5_000)]
PushProviderName = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}\Z")]
PushToken = Annotated[str, Meta(pattern=r"^[^\x00]{1,4096}\Z")]
UnixMs = Annotated[int, Meta(ge=1, le=SEQ_MAX)]

ReportReason = Annotated[str, Meta(pattern=r"^[^\x00]{1,64}\Z")]
ReportNote = Annotated[str, Meta(pattern=r"^[^\x00]{0,1000}\Z")]
ReviewReason = Annotated[str, Meta(pattern=r"^[^\x00]{0,256}\Z")]

UploadKey = Annotated[str, Meta(pattern=r"^[^\x00]{1,128}\Z")]
BlobId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}\Z")]
BlobSize = Annotated[int, Meta(ge=1, le=SEQ_MAX)]
Mime = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63} *(;[^\x00]{0,100})?\Z")
]

PAGE_LIMIT = 50
"""Rows of a list where nobody says how many."""

FOR_EVER_MS = SEQ_MAX
"""The end of a mute that has none."""


class Body(msgspec.Struct, frozen=True, rename="camel"):
    """Base of everything that travels as an HTTP body."""


class SendBody(Body, frozen=True):
    """`POST /v1/messages/send`; `content` is the text for TEXT, else the payload without `type`."""

    conversation_id: Id
    client_msg_id: ClientMsgId
    type: PayloadType
    content: str | dict[str, Any]
    sender_id: Id | UnsetType = UNSET


class SendResult(Body, frozen=True):
    """A durable entry. `payload` comes only where a moderator had another one stored."""

    message_id: str
    seq: int
    server_ts: int
    status: Literal["SENT"] = "SENT"
    payload: Payload | UnsetType = UNSET


class SearchRow(Body, frozen=True):
    """A message that was found. Ranges are [start, end) in code points of the payload's `field`."""

    message: LogEntry
    field: str
    highlights: tuple[tuple[int, int], ...]
    snippet: tuple[int, int]


class SearchResult(Body, frozen=True):
    """A page of what was found, the newest first; it may be empty although it is not the last one."""

    results: list[SearchRow]
    next_cursor: str | None
    up_to_date: bool


class ReportBody(Body, frozen=True):
    """`POST /v1/messages/{id}/report`."""

    reason: ReportReason
    note: ReportNote = ""


class AuditResult(Body, frozen=True):
    """A page of the audit: the newest acts first, or with `after` in their order."""

    acts: list[AuditRow]
    next_cursor: int | None


class EraseBody(Body, frozen=True):
    """`POST /v1/admin/users/{id}/erase`."""

    bodies: Literal["keep", "erase"]


class EraseResult(Body, frozen=True):
    """A user is erased."""

    conversations: int
    messages: int


class HeldMessagesResult(Body, frozen=True):
    """A page of messages that wait for a decision."""

    messages: list[HeldMessage]
    next_cursor: int | None


class ReleaseBody(Body, frozen=True):
    """`POST /v1/admin/moderation/held/{id}/release`; with a payload, that is stored instead."""

    payload: Payload | UnsetType = UNSET


class RefuseBody(Body, frozen=True):
    """`POST /v1/admin/moderation/held/{id}/refuse`."""

    reason: ReviewReason


class ReviewedMessage(Body, frozen=True):
    """A message that a decision had stored."""

    client_msg_id: str
    message_id: str
    seq: int
    server_ts: int


class ReviewResult(Body, frozen=True):
    """What followed from a decision."""

    stored: list[ReviewedMessage]
    refused: list[str]


class ReportsResult(Body, frozen=True):
    """A page of open reports."""

    reports: list[Report]
    next_cursor: int | None


class ResolveBody(Body, frozen=True):
    """`POST /v1/admin/moderation/reports/{messageId}/resolve`."""

    resolution: ReportReason


class PageResult(Body, frozen=True):
    """Entries of (start, upToSeq] that are visible to the caller, ascending. `floorSeq` as in SYNC_PAGE."""

    conversation_id: str
    epoch: str
    head_seq: int
    messages: list[LogEntry]
    up_to_seq: int
    more: bool
    floor_seq: int | UnsetType = UNSET


class ReadResult(Body, frozen=True):
    """The user's read cursor."""

    read_seq: int


class DeliveryRow(Body, frozen=True):
    """State of a message on one device."""

    user_id: str
    device_id: str
    state: DeliveryState
    updated_ts: int


class StatusResult(Body, frozen=True):
    """State of a message, counted over the other members; `deliveries` is one page of it per device."""

    status: Literal["SENT", "DELIVERED", "READ"]
    member_count: int
    delivered_count: int
    read_count: int
    deliveries: list[DeliveryRow]
    next_cursor: str | None


class CreateBody(Body, frozen=True, omit_defaults=True):
    """`POST /v1/conversations`."""

    type: ConversationType
    member_ids: UserIds
    conversation_id: Id | UnsetType = UNSET
    title: Title = ""
    history: History = "FROM_JOIN"


class ConversationResult(Body, frozen=True, omit_defaults=True):
    """A conversation; `memberIds` are the first 200 members by id, `history` what those may read who join: not on
    the wire where it is FROM_JOIN; `description` is not where it is empty."""

    conversation_id: str
    type: ConversationType
    title: str
    epoch: str
    head_seq: int
    member_ids: list[str]
    member_count: int
    history: str = "FROM_JOIN"
    description: str = ""


class UpdateBody(Body, frozen=True):
    """`PATCH /v1/conversations/{id}`; what is left out stays as it is."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    owner_id: Id | UnsetType = UNSET
    history: History | UnsetType = UNSET


class BlockRow(Body, frozen=True):
    """Somebody whom the caller blocked, and since when (Unix milliseconds)."""

    user_id: str
    since_ts: int


class BlocksResult(Body, frozen=True):
    """A page of whom the caller blocked."""

    blocks: list[BlockRow]
    next_cursor: str | None


class MembersBody(Body, frozen=True, omit_defaults=True):
    """`POST /v1/conversations/{id}/members`; `role` is what those are who were not members."""

    user_ids: SomeUserIds
    role: GrantedRole = "MEMBER"


class RoleBody(Body, frozen=True):
    """`PUT /v1/conversations/{id}/members/{userId}/role`."""

    role: GrantedRole


class SilenceBody(Body, frozen=True):
    """`PUT /v1/conversations/{id}/members/{userId}/silence`; null for ever."""

    until: UnixMs | None


class BanRow(Body, frozen=True):
    """Somebody who is banned from a conversation: by whom (empty: the host), and since when (Unix milliseconds)."""

    user_id: str
    by_id: str
    since_ts: int


class BansResult(Body, frozen=True):
    """A page of who is banned."""

    bans: list[BanRow]
    next_cursor: str | None


class MembersChangedResult(Body, frozen=True):
    """What a change of members did; both empty when nothing changed."""

    conversation_id: str
    added: list[str]
    removed: list[str]
    member_count: int


class MemberRow(Body, frozen=True, omit_defaults=True):
    """One current member.

    Attributes:
        role: `CREATOR` for the owner, `MEMBER` for everybody else: all that clients from before roles know.
        member_role: The member's role; a word that is not known counts as MEMBER. Not on the wire where it is MEMBER.
        silenced_until: Unix milliseconds until which the member may not write, 2^53 - 1 for ever. Not on the wire where
            they may.
    """

    user_id: str
    role: Literal["CREATOR", "MEMBER"]
    joined_seq: int
    member_role: str = "MEMBER"
    silenced_until: int = 0


class MembersResult(Body, frozen=True):
    """A page of members."""

    members: list[MemberRow]
    next_cursor: str | None


class ReceiptRow(Body, frozen=True):
    """How far one member has got."""

    user_id: str
    delivered_seq: int
    read_seq: int


class ReceiptsResult(Body, frozen=True):
    """A page of members' cursors."""

    receipts: list[ReceiptRow]
    next_cursor: str | None


class ConversationRow(Body, frozen=True, omit_defaults=True):
    """One of the caller's conversations: the fields of a HEADS row, and what a list shows.

    Attributes:
        muted_until: Unix milliseconds until which the caller is not woken for it, 2^53 - 1 for ever. 0, and not on the
            wire: they are.
        notify: What wakes them until then: MENTIONS or NONE; ALL, and not on the wire, where nothing is muted.
        unread_mentions: How many of the unread messages, and of their edits, mention the caller; not on the wire where
            none does.
        description: What a group is for; not on the wire where it is empty.
        member_role: The caller's role, as in a `MemberRow`; not on the wire where it is MEMBER.
        silenced_until: Unix milliseconds until which the caller may not write. 0, and not on the wire: they may.
        history: What those may read of the time before who join; not on the wire where it is FROM_JOIN.
        last_message: In a list by activity, the newest message that the caller may read; not on the wire where there is
            none, or its body is in an archive.
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
    title: str
    unread: int
    last_activity_ts: int
    muted_until: int = 0
    notify: str = "ALL"
    unread_mentions: int = 0
    description: str = ""
    member_role: str = "MEMBER"
    silenced_until: int = 0
    history: str = "FROM_JOIN"
    last_message: LogEntry | UnsetType = UNSET


class ConversationsResult(Body, frozen=True):
    """A page of the caller's conversations."""

    conversations: list[ConversationRow]
    next_cursor: str | None


class MuteBody(Body, frozen=True, omit_defaults=True):
    """`PUT /v1/conversations/{id}/mute`; null for ever. `level` is what wakes the caller still."""

    until: UnixMs | None
    level: Literal["MENTIONS", "NONE"] = "NONE"


class PinRow(Body, frozen=True, omit_defaults=True):
    """A pinned message: which, who pinned it and when (Unix milliseconds), and the message itself, unless the page has
    no room for it."""

    seq: int
    pinned_by: str
    pinned_ts: int
    pinned_by_seq: int
    message: LogEntry | UnsetType = UNSET


class PinsResult(Body, frozen=True):
    """What is pinned of what the caller may read, pinned last first."""

    pins: list[PinRow]


class RegisterPushBody(Body, frozen=True):
    """`POST /v1/devices`: how the caller's device is reached when it sleeps."""

    provider: PushProviderName
    token: PushToken
    hide_body: bool = False
    device_id: Id | UnsetType = UNSET


class PushResult(Body, frozen=True):
    """What devices may register with; for browsers also the name of their provider, and the key they subscribe with."""

    providers: list[str]
    web_push_provider: str | UnsetType = UNSET
    vapid_public_key: str | UnsetType = UNSET


class BlobBody(Body, frozen=True):
    """`POST /v1/blobs`: a file that is to be uploaded; the same key finds it again."""

    key: UploadKey
    bytes: BlobSize
    mime: Mime


class UploadResult(Body, frozen=True):
    """A file of the caller, as messages name it.

    While it is PENDING the bytes from `receivedBytes` on are to be put to `url`, until `expiresTs`, with that number in
    the header `Upload-Offset`; once it is READY a message may name it.
    """

    blob_id: str
    mime: str
    bytes: int
    state: Literal["PENDING", "READY"]
    received_bytes: int
    url: str | UnsetType = UNSET
    expires_ts: int | UnsetType = UNSET


class BlobResult(Body, frozen=True):
    """A file that the caller sees in a message, with a link to get it by until `expiresTs`.

    `digest` is the SHA-256, in hex, of the SHA-256s of its parts of 1 MiB, one behind the other; servers of before
    leave it out.
    """

    blob_id: str
    mime: str
    bytes: int
    url: str
    expires_ts: int
    digest: str | UnsetType = UNSET


class PresenceRow(Body, frozen=True):
    """Whether one user is online; `lastSeenTs` is null while they are, and where nobody knows it."""

    user_id: str
    state: PresenceState
    last_seen_ts: int | None


class PresenceResult(Body, frozen=True):
    """Those of the users asked for whom the caller may know of, in the order asked."""

    presence: list[PresenceRow]


class Health(Body, frozen=True):
    """Liveness or readiness."""

    status: Literal["ok", "unavailable"]


class Problem(Body, frozen=True):
    """A refusal, as an RFC 9457 problem document."""

    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    type: str = "about:blank"
    retry_after_ms: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
