"""What the app hands in, and the numbers a server sends, judged by the contract's own rules before anything is kept."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import BadRequestError, ConfigurationError, ProtocolError
from ..types import Payload
from ..wire import events as ev
from ..wire.payload import canonical

_HINTS = frozenset({"retry_after_ms", "reconnect_after_ms"})


def check(value: Any, shape: Any, name: str) -> None:
    """Raises BadRequestError if `value` does not fit the contract's type for `name`."""
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"{name}: {error}") from None


def check_conversation_id(conversation_id: str) -> None:
    """Raises BadRequestError."""
    check(conversation_id, ev.Id, "conversation id")


def check_seq(seq: int) -> None:
    """Raises BadRequestError."""
    check(seq, ev.Seq, "seq")


def check_message_id(message_id: str) -> None:
    """Raises BadRequestError."""
    check(message_id, ev.MessageId, "message id")


def check_client_msg_id(client_msg_id: str) -> None:
    """Raises BadRequestError; lone surrogates count, for they cannot be sent."""
    check(client_msg_id, ev.ClientMsgId, "clientMsgId")
    if not client_msg_id.isascii():
        try:
            client_msg_id.encode()
        except UnicodeEncodeError:
            raise BadRequestError("clientMsgId holds a lone surrogate") from None


def check_numbers(event: msgspec.Struct) -> None:
    """Raises ProtocolError for a seq, time or count that no store can keep; hints are clamped where they are used."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if type(value) is int:
            if not 0 <= value <= ev.SEQ_MAX and name not in _HINTS:
                raise ProtocolError(f"{name} of {type(event).__name__} is out of range")
        elif isinstance(value, msgspec.Struct):
            check_numbers(value)
        elif isinstance(value, list):
            for item in value:
                check_numbers(item)


def check_device_id(device_id: str) -> None:
    """Raises ConfigurationError."""
    try:
        check(device_id, ev.Id, "device_id")
    except BadRequestError as error:
        raise ConfigurationError(str(error)) from None


def payload_of(content: str | Payload) -> Payload:
    """A text as the payload it stands for; a payload as itself."""
    return {"type": "TEXT", "text": content} if isinstance(content, str) else content


def canonical_of(content: str | Payload) -> bytes:
    """The canonical form of a text or payload. Raises BadRequestError or TooLargeError."""
    return canonical(payload_of(content))
