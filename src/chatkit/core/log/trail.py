"""What is stored of one log entry and around it, as a store reads it in one snapshot; never its body.

Read by `storage`; put into the order of time by `core.log.explain`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...errors import NotFoundError
from ...types import ConversationType
from .outcomes import message_id
from .rules import SERVER_KINDS

PushAnswer = Literal["TAKEN", "RETRY", "DEAD", "REFUSED", "UNKNOWN"]
"""What a provider said of a push: it took it; not now; the token reaches no device now; never as it is; nothing."""

BodyPlace = Literal["LOG", "ARCHIVE", "EXPIRED"]

PUSHES_PER_DEVICE_MAX = 20
"""Pushes kept of one device in one conversation: those about the newest entries."""

PROVIDER_ID_CHARS_MAX = 200
"""Of a provider's name for a push; the rest of a longer one is cut off."""

READERS_MAX = 1_000
"""Members in one account."""


class PushRecord(msgspec.Struct, frozen=True):
    """What became of the pushes to one device that were about one entry. Never a token or a message's words.

    Attributes:
        seq: Of the entry: the message that it told of, or the entry that recalled one.
        provider: The name that the device registered with.
        at_ms: When the provider answered, or was given up on; of several tries the last.
        answer: What it said then.
        provider_id: What the provider calls the push; empty where it gave no name.
        reason: Why it was not taken, for people.
        tries: How often it was handed to the provider, as far as that was noted.
        first_ms: As `at_ms`, of the first try.
    """

    user_id: str
    device_id: str
    seq: int
    provider: str
    at_ms: int
    answer: PushAnswer
    provider_id: str = ""
    reason: str = ""
    tries: int = 1
    first_ms: int = 0


class OpenDelivery(msgspec.Struct, frozen=True):
    """A device that could not be pushed to; without user and device the conversation as a whole. As `delivery` says it.

    Attributes:
        after_seq: What is behind it is meant.
        ready_ms: When it is tried again, or until when a worker has it; None: it was given up.
    """

    user_id: str
    device_id: str
    after_seq: int
    ready_ms: int | None
    attempt: int
    since_ms: int
    reason: str


class Reader(msgspec.Struct, frozen=True):
    """A user whose membership holds the entry.

    Attributes:
        leave_seq: Where that membership ended; None while it lasts.
        read_ms: When the read cursor last moved.
    """

    user_id: str
    join_seq: int
    leave_seq: int | None
    read_seq: int
    read_ms: int
    muted_until_ms: int


class ReaderDevice(msgspec.Struct, frozen=True):
    """A device of such a user.

    Attributes:
        updated_ms: When its cursor last moved; None: it has none of its own here, and counts as being where the user's
            farthest device was when it came.
        is_exact: Whether it confirmed this entry by itself, above its cursor.
        provider: What it registered with for push; None if it did not.
        registered_ms: When.
    """

    user_id: str
    device_id: str
    first_seen_ms: int
    delivered_seq: int
    updated_ms: int | None
    is_exact: bool
    provider: str | None
    registered_ms: int | None


class OpenWork(msgspec.Struct, frozen=True):
    """A conversation in which some device lacks something. As `outbox` says it.

    Attributes:
        first_seq: Everything before it is on every device.
        handled_seq: Entries up to here delivery workers are done with.
        ready_ms: Since when there is more to do, or until when a worker has it; None: nothing is to do.
    """

    first_seq: int
    handled_seq: int
    ready_ms: int | None


class RecallMark(msgspec.Struct, frozen=True):
    """The entry that recalled this one."""

    seq: int
    message_id: str
    by: str
    at_ms: int


class MessageTrail(msgspec.Struct, frozen=True):
    """An entry, and what is stored around it.

    Attributes:
        epoch: That it was written under.
        log_epoch: The log's present one.
        change: Of a MEMBER entry what it says: the operation, and whom it is about.
        recalls_id: Of a RECALL entry: what it recalls.
        recall: What recalled it.
        body: Where its words are: in the log, in the archive, or nowhere any more, for their time is over.
        work: None: every device of every member has everything.
        readers: By user.
        has_more: Whether there are more readers.
        devices: Of these readers, by user and device.
        pushes: To devices of these readers, by user, device and seq: about this entry, about the one that recalled it,
            and of each device the first one about a later entry.
        deliveries: What waits or was given up, for devices of these readers or the conversation as a whole.
    """

    conversation_id: str
    conversation_type: ConversationType
    conversation_key: int
    seq: int
    epoch: str
    log_epoch: str
    head_seq: int
    member_count: int
    kind: str
    sender_id: str
    client_msg_id: str | None
    server_ts: int
    change: tuple[str, tuple[str, ...]] | None = None
    recalls_id: str | None = None
    recall: RecallMark | None = None
    body: BodyPlace = "LOG"
    work: OpenWork | None = None
    readers: tuple[Reader, ...] = ()
    has_more: bool = False
    devices: tuple[ReaderDevice, ...] = ()
    pushes: tuple[PushRecord, ...] = ()
    deliveries: tuple[OpenDelivery, ...] = ()

    @property
    def message_id(self) -> str:
        """Its id."""
        return message_id(self.conversation_key, self.epoch, self.seq)


class _ServerMade(msgspec.Struct):
    """What entries say that the server made."""

    op: str = ""
    user_ids: tuple[str, ...] = msgspec.field(name="userIds", default=())
    message_id: str | None = msgspec.field(name="messageId", default=None)


_decode = msgspec.json.Decoder(_ServerMade).decode


def said_by_server(payload: bytes | None) -> dict[str, Any]:
    """`change` and `recalls_id` of an entry that the server made; nothing for None, a user's."""
    if payload is None:
        return {}
    made = _decode(payload)
    change = (made.op, made.user_ids) if made.op else None
    return {"change": change, "recalls_id": made.message_id}


def body_place(kind: str, seq: int, cold_seq: int, floor_seq: int) -> BodyPlace:
    """Where the words of an entry are that was not recalled; what the server wrote stays in the log."""
    if kind in SERVER_KINDS or seq > max(cold_seq, floor_seq):
        return "LOG"
    return "EXPIRED" if seq <= floor_seq else "ARCHIVE"


def no_such_id() -> NotFoundError:
    """For what names no place in any log."""
    return NotFoundError("no message has such an id")


def not_held(seq: int, conversation: tuple[str, int] | None, epoch: str | None) -> NotFoundError:
    """Why an id leads to nothing, for operators.

    Args:
        seq: The place that it names.
        conversation: Its conversation and that one's head; None if there is none with that number.
        epoch: That of the entry which is at the place; None if there is none.
    """
    if conversation is None:
        return NotFoundError("no such message: this log has no conversation with that number")
    name, head_seq = conversation
    if seq > head_seq:
        return NotFoundError(
            f"no such message: {name} ends at seq {head_seq}; the id is of another log, or this one was put back since"
        )
    if epoch is None:
        return NotFoundError(f"no such message: {name} has no entry at seq {seq} any more")
    return NotFoundError(
        f"no such message: at seq {seq} of {name} is an entry of another epoch; the id is of another log, or this one "
        "was put back since"
    )
