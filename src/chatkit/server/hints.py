"""What nodes tell each other over the bus: one struct per hint, and how a message of hints is encoded.

Every hint may be lost, late or repeated. An entry is applied only where it is the next one of its log; everything else
says no more than "look there". A message is a MessagePack array of hints, each read by itself: one that a node cannot
read costs no other, and counts as lost.
"""

from __future__ import annotations

import msgspec

from ..storage.base import Advanced, Entry
from .doubts import JoinReason

NODES = "nodes"
"""The topic that every node hears."""


class Logged(msgspec.Struct, frozen=True, array_like=True, tag="logged"):
    """An entry was stored; it rides along to save the others a read."""

    entry: Entry


class Grown(msgspec.Struct, frozen=True, array_like=True, tag="grown"):
    """The log of a conversation goes further, or has a new epoch."""

    conversation_id: str


class Moved(msgspec.Struct, frozen=True, array_like=True, tag="moved"):
    """A user's cursors moved."""

    advanced: Advanced


class Typed(msgspec.Struct, frozen=True, array_like=True, tag="typed"):
    """Somebody is writing."""

    conversation_id: str
    user_id: str


class Entered(msgspec.Struct, frozen=True, array_like=True, tag="entered"):
    """Users became members of a conversation."""

    conversation_id: str
    user_ids: tuple[str, ...]
    reason: JoinReason


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A device opened a session."""

    user_id: str
    device_id: str


Hint = Logged | Grown | Moved | Typed | Entered | Opened

encode = msgspec.msgpack.Encoder().encode
_message_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_hint_decoder: msgspec.msgpack.Decoder[Hint] = msgspec.msgpack.Decoder(Hint)


def split(data: bytes) -> list[msgspec.Raw]:
    """The hints of a message, not read yet. Raises msgspec.MsgspecError."""
    return _message_decoder.decode(data)


def decode(data: msgspec.Raw) -> Hint:
    """One hint. Raises msgspec.MsgspecError."""
    return _hint_decoder.decode(data)


def topic_of(conversation_id: str) -> str:
    """The topic of one conversation's hints."""
    return f"c.{conversation_id}"
