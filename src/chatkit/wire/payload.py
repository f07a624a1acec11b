"""What a payload may hold: I-JSON, known types, bounded; and its one canonical form.

Called by the server before anything is stored and by the client before anything is queued, so that no stored
message can break a reader and nothing the server must refuse is ever waiting.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import BadRequestError, TooLargeError
from ..types import NO_MESSAGES
from .events import (
    PAYLOAD_BYTES_MAX,
    SEQ_MAX,
    STREAM_BYTES_MAX,
    STREAM_PART_BYTES_MAX,
    Description,
    Mentioned,
    MessageId,
    Title,
)

DEPTH_MAX = 32
RECALLED = b'{"type":"RECALLED"}'
"""The canonical payload of every recalled slot."""

NO_ACTIVITY = frozenset({"RECALL", "EDIT", "REACTION", "PINNED"})
"""Types of entries that say something of an older one: they bring no conversation to the front of a list."""

MENTIONS_MAX = 50
"""Users that one message can mention."""

EVERYBODY = "*"
"""Who is mentioned by it: whoever is a member then. It is no id that a user could have."""

encode = msgspec.json.Encoder(order="sorted").encode
"""A payload as canonical JSON, unchecked: for what is known to be a payload already."""


class _Media(msgspec.Struct, rename="camel"):
    mime: Annotated[str, Meta(min_length=1, max_length=255)]
    bytes: Annotated[int, Meta(ge=0, le=SEQ_MAX)]
    blob_id: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    width: Annotated[int, Meta(ge=0, le=SEQ_MAX)] | None = None
    height: Annotated[int, Meta(ge=0, le=SEQ_MAX)] | None = None
    duration_ms: Annotated[int, Meta(ge=0, le=SEQ_MAX)] | None = None
    name: Annotated[str, Meta(max_length=1024)] | None = None


class _Custom(msgspec.Struct, rename="camel"):
    schema: Annotated[str, Meta(min_length=1, max_length=255)]
    data: Any
    fallback_text: str


_Seq = Annotated[int, Meta(ge=1, le=SEQ_MAX)]


class _Named(msgspec.Struct, rename="camel"):
    """An earlier message: its id, and its place, so that who holds it finds it."""

    message_id: MessageId
    seq: _Seq


class _Edit(_Named, rename="camel"):
    """`ends`: it is the end of a streamed message, all of it or as far as its author came."""

    payload: dict[str, Any]
    ends: Literal["WHOLE", "CUT_OFF"] | UnsetType = UNSET


class _Reaction(_Named, rename="camel"):
    reaction: Annotated[str, Meta(min_length=1, max_length=64)]
    removed: bool = False


class _Pinned(_Named, rename="camel"):
    pinned: bool


class _Title(msgspec.Struct):
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET


_Mentions = Annotated[list[Mentioned], Meta(min_length=1, max_length=MENTIONS_MAX)]

_CONTENTS: dict[str, type] = {"IMAGE": _Media, "VOICE": _Media, "FILE": _Media, "CUSTOM": _Custom}
"""Besides TEXT, what a message can be."""


class _Stream(msgspec.Struct, rename="camel"):
    """A message that begins with `text` and grows by parts."""

    text: str
    fallback_text: str | UnsetType = UNSET


_SHAPES: dict[str, type] = {
    **_CONTENTS,
    "STREAM": _Stream,
    "EDIT": _Edit,
    "REACTION": _Reaction,
    "PINNED": _Pinned,
    "TITLE": _Title,
}


def is_plain(payload: dict[str, Any]) -> bool:
    """Whether a checked payload is a text and nothing else, as nearly all are: it names no message and no file."""
    return len(payload) == 2 and "text" in payload and payload["type"] == "TEXT"


def title_payload(title: str | None, description: str | None) -> dict[str, Any]:
    """A TITLE payload; None leaves what is there."""
    given = {"title": title, "description": description}
    return {"type": "TITLE", **{name: text for name, text in given.items() if text is not None}}


def is_same(payload: dict[str, Any], encoded: bytes) -> bool:
    """Whether a payload that travelled is the one that `encoded` (made by `canonical`) holds."""
    return encode(payload) == encoded


def canonical(payload: Any) -> bytes:
    """The one byte form of a user's payload: JSON in UTF-8, keys sorted, no spaces.

    Equal payloads give equal bytes whatever codec they came by. Unknown fields are kept, so that a newer
    client's additions pass through.

    Args:
        payload: What a client sent, decoded.

    Returns:
        At most `PAYLOAD_BYTES_MAX` bytes of JSON object.

    Raises:
        BadRequestError: Not I-JSON, or not a payload type that clients may send. A retry cannot help.
        TooLargeError: Above the size limit.

    Source: docs/protocol.md#payloads
    """
    if type(payload) is not dict:
        raise BadRequestError("payload must be an object")
    text = payload.get("text")
    if len(payload) == 2 and type(text) is str and payload.get("type") == "TEXT":  # nearly all are
        _check_text(text)
    else:
        _check_type(payload)
        _check_container(payload, 1)
    try:
        encoded = encode(payload)
    except UnicodeEncodeError:
        raise BadRequestError("payload holds a lone surrogate") from None
    if len(encoded) > PAYLOAD_BYTES_MAX:
        raise TooLargeError(f"payload is {len(encoded)} bytes; at most {PAYLOAD_BYTES_MAX} are taken")
    return encoded


def _check_type(payload: dict[str, Any], shapes: dict[str, type] = _SHAPES) -> None:
    kind = payload.get("type")
    if kind == "TEXT":
        if type(payload.get("text")) is not str:
            raise BadRequestError("a TEXT payload needs a string in `text`")
    else:
        shape = shapes.get(kind) if type(kind) is str else None
        if shape is None:
            raise BadRequestError(f"payload `type` must be one of {', '.join(('TEXT', *shapes))}")
        _check_shape(kind, payload, shape)
    if "replyTo" in payload:
        if kind in NO_MESSAGES or shapes is _CONTENTS:
            raise BadRequestError("only a message has `replyTo`, and an edit does not change it")
        _convert("replyTo of a", kind, payload["replyTo"], _Named)
    if "mentions" in payload:
        if kind in NO_MESSAGES:
            raise BadRequestError("only a message has `mentions`, and what an edit puts in its place")
        _convert("mentions of a", kind, payload["mentions"], _Mentions)


def _check_shape(kind: Any, payload: dict[str, Any], shape: type) -> None:
    found = _convert("", kind, payload, shape)
    if isinstance(found, _Media) and found.blob_id is None and found.url is None:
        raise BadRequestError(f"a {kind} payload needs `blobId` or `url`")
    if isinstance(found, _Title) and (found.title, found.description) == (UNSET, UNSET):
        raise BadRequestError("a TITLE payload needs `title` or `description`")
    if isinstance(found, _Stream):
        text_bytes(found.text, STREAM_BYTES_MAX)
    if isinstance(found, _Edit):
        _check_type(payload["payload"], _CONTENTS)


def _convert(where: str, kind: Any, value: object, shape: Any) -> object:
    try:
        return msgspec.convert(value, shape)
    except UnicodeEncodeError:
        raise BadRequestError("payload holds a lone surrogate") from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadRequestError(f"{where} {kind} payload: {error}".lstrip()) from None


def part_bytes(text: str) -> int:
    """What a part of a streamed message takes of its bound: bytes as JSON in UTF-8, without the quotes.

    Raises:
        BadRequestError: Nothing in it, or what no payload may hold.
        TooLargeError: Above the bound of a part.
    """
    if not text:
        raise BadRequestError("a part has a text")
    return text_bytes(text, STREAM_PART_BYTES_MAX)


def text_bytes(text: str, bytes_max: int) -> int:
    """What a text of a streamed message takes, likewise. Raises BadRequestError or TooLargeError."""
    _check_text(text)
    try:
        size = len(encode(text)) - 2
    except UnicodeEncodeError:
        raise BadRequestError("text holds a lone surrogate") from None
    if size > bytes_max:
        raise TooLargeError(f"text is {size} bytes; at most {bytes_max} are taken")
    return size


def _check_text(text: Any) -> None:
    if type(text) is not str:
        raise BadRequestError("payload keys must be strings")
    if "\x00" in text:
        raise BadRequestError("payload holds a NUL character")


def _check_value(value: Any, depth: int) -> None:
    """Depth counts containers: the payload itself is 1."""
    kind = type(value)
    if kind is str:
        _check_text(value)
    elif kind is bool or value is None:
        return
    elif kind is int:
        if not -SEQ_MAX <= value <= SEQ_MAX:
            raise BadRequestError("payload holds an integer beyond 2^53-1")
    elif kind is float:
        if not math.isfinite(value):
            raise BadRequestError("payload holds a number that is not finite")
    elif kind is dict or kind is list:
        _check_container(value, depth + 1)
    else:
        raise BadRequestError(f"payload holds a value JSON does not know: {kind.__name__}")


def _check_container(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise BadRequestError(f"payload is nested deeper than {DEPTH_MAX}")
    if type(value) is list:
        for item in value:
            _check_value(item, depth)
        return
    for key, item in value.items():
        _check_text(key)
        _check_value(item, depth)
