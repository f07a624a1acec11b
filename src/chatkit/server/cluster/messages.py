"""What nodes say to each other over the bus: one struct per kind, and the frame that carries them.

Every message may be lost, late or repeated. An entry is applied only where it is the next one of its log; everything
else says no more than "look there". A frame is a MessagePack array: the version first, then messages, each an array of
its kind and its fields.

**Versions.** A node reads frames of its own version only. It counts any other frame, and a message of a kind that it
does not know, as unreadable, and soon asks the log for everything: nodes of two versions work together, more slowly.
Within a version a kind may be added, and a field at the end of a kind, which older nodes pass over; whatever else
changes needs a new version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ...storage.base import Advanced, Entry
from ...types import JoinReason

VERSION: Final = 1
"""The version of the frames that this node makes and reads."""

NODES: Final = "nodes"
"""The topic that every node hears."""


class EntryStored(msgspec.Struct, frozen=True, array_like=True, tag="entry"):
    """An entry was stored; it comes along to save the others a read."""

    entry: Entry


class LogChanged(msgspec.Struct, frozen=True, array_like=True, tag="log"):
    """The log of a conversation goes further, or has a new epoch."""

    conversation_id: str


class CursorsMoved(msgspec.Struct, frozen=True, array_like=True, tag="cursors"):
    """A user's cursors moved."""

    advanced: Advanced


class UserTyping(msgspec.Struct, frozen=True, array_like=True, tag="typing"):
    """Somebody is writing."""

    conversation_id: str
    user_id: str


class StreamPart(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """An open stream grew by a part.

    Attributes:
        head_seq: Of the log as the part was stored: by it a node knows whether it has heard of who may read the part,
            and whether the stream has ended since.
    """

    conversation_id: str
    epoch: str
    message_id: str
    seq: int
    part: int
    text: str
    head_seq: int


class MembersJoined(msgspec.Struct, frozen=True, array_like=True, tag="joined"):
    """Users became members of a conversation."""

    conversation_id: str
    user_ids: tuple[str, ...]
    reason: JoinReason


class ConversationUpdated(msgspec.Struct, frozen=True, array_like=True, tag="updated"):
    """The title or the owner of a conversation changed; or, with `user_id`, what it is for that user."""

    conversation_id: str
    user_id: str | None = None


class ContentRefused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """A held message was refused for good: its sender's sessions are told."""

    conversation_id: str
    sender_id: str
    client_msg_id: str
    reason: str


class DeviceOpened(msgspec.Struct, frozen=True, array_like=True, tag="device"):
    """A device opened a session."""

    user_id: str
    device_id: str


class LoginsRevoked(msgspec.Struct, frozen=True, array_like=True, tag="revoked"):
    """A revocation was stored: look it up."""


class UsersAvailable(msgspec.Struct, frozen=True, array_like=True, tag="available"):
    """What users are at one node; holds until the next one of that node, and no longer than its lease.

    Attributes:
        node_id: Which node says it.
        users: Each with the state of their sessions there; "" for none.
        renewed: Whether it says again what was said before.
    """

    node_id: str
    users: tuple[tuple[str, Literal["ONLINE", "AWAY", ""]], ...]
    renewed: bool


ClusterMessage = (
    EntryStored
    | LogChanged
    | CursorsMoved
    | UserTyping
    | StreamPart
    | MembersJoined
    | ConversationUpdated
    | ContentRefused
    | DeviceOpened
    | LoginsRevoked
    | UsersAvailable
)

_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_version_decoder = msgspec.msgpack.Decoder(int)
_message_decoder: msgspec.msgpack.Decoder[ClusterMessage] = msgspec.msgpack.Decoder(ClusterMessage)


class UnreadableError(ValueError):
    """A frame or a message that this node cannot read."""


def encode(messages: Sequence[ClusterMessage]) -> bytes:
    """A frame of these messages."""
    return _encoder.encode((VERSION, *messages))


def split(frame: bytes) -> list[msgspec.Raw]:
    """The messages of a frame, not read yet. Raises UnreadableError: it is none, or of another version."""
    try:
        version, *messages = _frame_decoder.decode(frame)
        if _version_decoder.decode(version) != VERSION:
            raise UnreadableError("a frame of another version")
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableError(str(error)) from error
    return messages


def decode(message: msgspec.Raw) -> ClusterMessage:
    """One message. Raises UnreadableError."""
    try:
        return _message_decoder.decode(message)
    except msgspec.MsgspecError as error:
        raise UnreadableError(str(error)) from error


def topic_of(conversation_id: str) -> str:
    """The topic of what is said about one conversation."""
    return f"c.{conversation_id}"
