"""What the app hands in and what a server sends, checked by the contract's own rules before anything is kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol, cast, runtime_checkable

import msgspec
from msgspec import UNSET, UnsetType

from .._arguments import list_of_ids
from ..core.marks import stream_end
from ..errors import BadRequestError, ConfigurationError, ProtocolError
from ..types import (
    Edit,
    Marks,
    Message,
    MessageRef,
    Notify,
    Payload,
    Reaction,
    Sent,
    StreamEnd,
    StreamProgress,
)
from ..wire import events as ev
from ..wire.codec import Codec
from ..wire.http import ConversationRow, UnixMs, UserIds
from ..wire.payload import canonical

logger = logging.getLogger(__name__)

Logged = ev.NewMsg | ev.LogEntry


@runtime_checkable
class URL(Protocol):
    """A URL object of whatever library; `str` of it is the address."""

    @property
    def scheme(self) -> str:
        """What it begins with."""

    @property
    def host(self) -> str | None:
        """Whose it is."""


Address = str | URL
Moment = datetime | int
"""A datetime with its time zone, or Unix milliseconds."""

_Count = Annotated[int, msgspec.Meta(ge=1, le=ev.SEQ_MAX)]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=ev.PAGE_MAX)]
_CLAMPED = frozenset({"retry_after_ms", "reconnect_after_ms"})


def check(value: Any, shape: Any, name: str) -> None:
    """Raises BadRequestError if `value` does not fit the contract's type for `name`, or cannot be sent."""
    try:
        msgspec.convert(value, shape)
        if isinstance(value, str) and not value.isascii():
            value.encode()
    except msgspec.ValidationError as error:
        raise BadRequestError(f"{name}: {error}") from None
    except UnicodeEncodeError:
        raise BadRequestError(f"{name} holds a lone surrogate") from None


def check_user_ids(user_ids: object, name: str, shape: Any = UserIds) -> list[str]:
    """The ids as a list. Raises BadRequestError."""
    listed = list(list_of_ids(name, user_ids))
    check(listed, shape, name)
    return cast("list[str]", listed)


def check_user_id(user_id: str) -> None:
    """Raises BadRequestError."""
    check(user_id, ev.Id, "user id")


def check_conversation_id(conversation_id: str) -> None:
    """Raises BadRequestError."""
    check(conversation_id, ev.Id, "conversation id")


def check_seq(seq: int) -> None:
    """Raises BadRequestError."""
    check(seq, ev.Seq, "seq")


def check_limit(limit: int) -> None:
    """Raises BadRequestError."""
    check(limit, _Limit, "limit")


def check_count(count: int, name: str) -> None:
    """Raises BadRequestError: it must be a whole number from 1."""
    check(count, _Count, name)


def check_message_id(message_id: str) -> None:
    """Raises BadRequestError."""
    check(message_id, ev.MessageId, "message id")


def check_client_msg_id(client_msg_id: str) -> None:
    """Raises BadRequestError."""
    check(client_msg_id, ev.ClientMsgId, "clientMsgId")


def end_of_mute_ms(until: Moment | None) -> int | None:
    """The end of a mute in Unix milliseconds; None for ever. Raises BadRequestError for what names no moment."""
    return None if until is None else moment_ms(until, "until")


def moment_ms(moment: Moment, name: str) -> int:
    """A moment in Unix milliseconds. Raises BadRequestError for what names none."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise BadRequestError(f"{name}: a datetime must have a time zone, else nobody knows when it is")
        moment = round(moment.timestamp() * 1000)
    check(moment, UnixMs, name)
    return moment


def check_numbers(event: msgspec.Struct) -> None:
    """Raises ProtocolError for a seq, time or count that no store can keep.

    The waits that a server asks for may have any size: they are bounded where they are used.
    """
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if type(value) is int:
            if not 0 <= value <= ev.SEQ_MAX and name not in _CLAMPED:
                raise ProtocolError(f"{name} of {type(event).__name__} is out of range")
        elif isinstance(value, msgspec.Struct):
            check_numbers(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, msgspec.Struct):
                    check_numbers(item)


def address_of(url: Address, name: str) -> str:
    """A server's address as a string; a URL object of another library (`httpx.URL`) as what it stands for.

    Raises:
        ConfigurationError: It is neither, or holds what no address does.
    """
    if not isinstance(url, str | URL):
        raise ConfigurationError(f"{name} must be a string such as https://chat.example.org, or a URL object")
    address = str(url)
    if any(character.isspace() or not character.isprintable() for character in address):
        raise ConfigurationError(
            f"the server's address holds a space or a control character: {address!r:.200}"
        )
    return address


def check_device_id(device_id: str) -> None:
    """Raises ConfigurationError."""
    try:
        check(device_id, ev.Id, "device_id")
    except BadRequestError as error:
        raise ConfigurationError(str(error)) from None


def payload_of(content: str | Payload) -> Payload:
    """A text as the payload it stands for; a payload as itself."""
    return {"type": "TEXT", "text": content} if isinstance(content, str) else content


def reply(content: str | Payload, to: Message | Sent | MessageRef) -> Payload:
    """A message that answers an earlier one."""
    _check_names(to)
    payload = payload_of(content)
    if not isinstance(payload, dict):
        return payload  # which `canonical_of` refuses
    return {**payload, "replyTo": {"messageId": to.message_id, "seq": to.seq}}


def edit_payload(message: Message | Sent, content: str | Payload) -> Payload:
    """An EDIT of an earlier message."""
    _check_names(message)
    named = {"messageId": message.message_id, "seq": message.seq}
    return {"type": "EDIT", **named, "payload": payload_of(content)}


def stream_payload(
    text: str, reply_to: Message | Sent | MessageRef | None, fallback_text: str | None
) -> Payload:
    """The beginning of a streamed message."""
    payload: Payload = {"type": "STREAM", "text": text}
    if fallback_text is not None:
        payload["fallbackText"] = fallback_text
    return payload if reply_to is None else reply(payload, reply_to)


def end_payload(message: Message | Sent, content: str | Payload, ends: StreamEnd) -> Payload:
    """The end of a streamed message."""
    return {**edit_payload(message, content), "ends": ends}


def reaction_payload(message: Message | Sent, reaction: str, *, removed: bool) -> Payload:
    """A REACTION to an earlier message."""
    _check_names(message)
    named = {"messageId": message.message_id, "seq": message.seq}
    said = {"type": "REACTION", **named, "reaction": reaction}
    return {**said, "removed": True} if removed else said


def pin_payload(message: Message | Sent, *, pinned: bool) -> Payload:
    """A PINNED of an earlier message."""
    _check_names(message)
    return {"type": "PINNED", "messageId": message.message_id, "seq": message.seq, "pinned": pinned}


def mentioning(content: str | Payload, mentions: Sequence[str]) -> Payload:
    """A message that mentions users. Raises BadRequestError for what is no list of texts."""
    if isinstance(mentions, str) or not isinstance(mentions, Sequence):
        raise BadRequestError("mentions: a list of user ids")
    payload = payload_of(content)
    if not isinstance(payload, dict):
        return payload  # which `canonical_of` refuses
    return {**payload, "mentions": list(mentions)}


def _check_names(message: object) -> None:
    if not isinstance(message, Message | Sent | MessageRef):
        raise BadRequestError(f"a message is named by a Message or Sent, not by {type(message).__name__}")


def canonical_of(content: str | Payload) -> bytes:
    """The canonical form of a text or payload. Raises BadRequestError or TooLargeError."""
    return canonical(payload_of(content))


def readable(codec: Codec, entry: Logged, head_seq: int = 0) -> Message | None:
    """An entry with its payload decoded; None, and a warning, for one that nobody can read or keep.

    Args:
        codec: Decodes payloads.
        entry: As it came.
        head_seq: Of its page: how the entry stood then is what the page says.
    """
    try:
        message = _message(codec, entry, head_seq)
        if codec.binary:
            msgspec.json.encode(
                (message.payload, message.marks)
            )  # more than a local store can keep fits MessagePack
    except (ProtocolError, TypeError, ValueError, OverflowError, RecursionError) as error:
        logger.warning("entry %d of %s cannot be read: %s", entry.seq, entry.conversation_id, error)
        return None
    return message


def stored_payload(codec: Codec, ack: ev.MsgAck) -> Payload | None:
    """What was stored in place of what was sent; None if nothing was, and with a warning if nobody can read it."""
    if not isinstance(ack.payload, msgspec.Raw):
        return None
    try:
        payload = codec.payload(ack.payload)
        msgspec.json.encode(payload)
    except (ProtocolError, TypeError, ValueError, OverflowError, RecursionError) as error:
        logger.warning("the payload of an answer in %s cannot be read: %s", ack.conversation_id, error)
        return None
    return payload


def all_readable(codec: Codec, page: ev.SyncPage) -> list[Message]:
    """The readable ones of a page; the others are passed over like what is not visible."""
    messages = (readable(codec, entry, page.head_seq) for entry in page.messages)
    return [message for message in messages if message is not None]


def marks_of(codec: Codec, entry: ev.LogEntry, head_seq: int) -> Marks | None:
    """What a page says that was said of an entry. Raises ProtocolError for an edit that is no object."""
    if entry.edit is UNSET and entry.reactions is UNSET and entry.stream is UNSET:
        return None
    edit = None
    if not isinstance(entry.edit, UnsetType):
        payload = entry.edit.payload
        content = None if isinstance(payload, UnsetType) else codec.payload(payload)
        edit = Edit(entry.edit.seq, entry.edit.server_ts, content, stream_end(entry.edit.ends))
    listed = () if isinstance(entry.reactions, UnsetType) else entry.reactions
    reactions = tuple(Reaction(it.reaction, it.count, tuple(it.user_ids)) for it in listed)
    stream = entry.stream
    progress = None if isinstance(stream, UnsetType) else StreamProgress(stream.parts, stream.text)
    return Marks(head_seq, edit, reactions, progress)


def _message(codec: Codec, entry: Logged, head_seq: int) -> Message:
    client_msg_id = entry.client_msg_id if isinstance(entry.client_msg_id, str) else None
    payload = codec.payload(entry.payload)
    marks = marks_of(codec, entry, head_seq) if isinstance(entry, ev.LogEntry) else None
    if marks is None and isinstance(entry, ev.LogEntry) and payload.get("type") == "STREAM":
        marks = Marks(head_seq)  # a page that does not show it open says that it is not
    return Message(
        entry.conversation_id,
        entry.seq,
        entry.message_id,
        entry.sender_id,
        entry.server_ts,
        payload,
        client_msg_id,
        marks,
    )


def wait_of(timeout: float | None, default_s: float) -> float:
    """Seconds to wait: as given, or by default. Raises BadRequestError for what is no number of seconds."""
    if timeout is None:
        return default_s
    if type(timeout) not in (int, float) or timeout != timeout or timeout < 0:
        raise BadRequestError(f"timeout must be seconds, not {timeout!r:.100}")
    try:
        return float(timeout)
    except OverflowError:
        raise BadRequestError("timeout must be seconds, and is more than a float can hold") from None


def notify_of(row: ev.Head | ConversationRow) -> Notify:
    """What of a conversation wakes the user, as a row of a list says; what a newer server may say beside is NONE."""
    if row.muted_until == 0:
        return "ALL"
    return "MENTIONS" if row.notify == "MENTIONS" else "NONE"
