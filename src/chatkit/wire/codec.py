"""Frames to events and back, for both subprotocols. The size of a frame is checked before it is decoded.

A `Codec` is stateless and shared. Events are encoded one by one and joined into frames later, so that one
encoded push serves every session that speaks this codec.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import BadRequestError, ProtocolError, TooLargeError
from . import events as ev
from .msgpack_scan import check_value

CodecName = Literal["json", "msgpack"]

_REASON_BYTES_MAX = 123

_LENIENT_BYTES_MAX = 2 * ev.PAYLOAD_BYTES_MAX
"""Above it nobody looks for what can be saved of a frame that is no JSON: it costs ten times a frame that is."""


class BadItem(msgspec.Struct, frozen=True):
    """An item of a frame that is no event; with what could still be dug out of it."""

    message: str
    ref: str | UnsetType = UNSET
    client_msg_id: str | UnsetType = UNSET
    conversation_id: str | UnsetType = UNSET


class _Remains(msgspec.Struct, rename="camel"):
    """Of an item that is no event; nothing in it is built."""

    ref: msgspec.Raw = msgspec.Raw()
    client_msg_id: msgspec.Raw = msgspec.Raw()
    conversation_id: msgspec.Raw = msgspec.Raw()


class _Named(msgspec.Struct):
    """Any event; nothing of it but its name is built."""

    event: str


class _RawSend(msgspec.Struct, tag_field="event", tag="SEND_MSG", rename="camel"):
    """A SEND_MSG whose payload is not built yet."""

    conversation_id: ev.Id
    client_msg_id: ev.ClientMsgId
    payload: msgspec.Raw
    ref: ev.Ref | UnsetType = UNSET


_UNDECODABLE = (ValueError, RecursionError)  # msgspec's errors and UnicodeDecodeError are ValueErrors

_PLAIN_WORDS = {
    "$.event": "`$.event` is not a known event",
    "$.conversationId": "`$.conversationId` is not a valid id",
    "$.deviceId": "`$.deviceId` is not a valid id",
    "$.messageId": "`$.messageId` is not a valid message id",
    "$.clientMsgId": "`$.clientMsgId` is not 1 to 128 characters without NUL",
    "$.ref": "`$.ref` is not 0 to 64 characters without NUL",
}
"""For errors of msgspec that would repeat a pattern or, unbounded, what the client sent."""

_SURELY_FITS: Final = ev.FRAME_BYTES_MAX // 4
"""A character is four bytes at most."""

_IDS_KEPT: Final = 16_384
"""Ids of conversations of which it is known whether they are any: most events are of a few."""

_CHECKED_HERE: Final = (ev.DeliveredAck, ev.SendMsg, ev.Read)
_ID: Final = re.compile(r"[A-Za-z0-9._:@-]{1,128}")

_HelloFrame = Annotated[list[ev.Hello], Meta(max_length=1)] | ev.Hello
_NamedFrame = list[_Named] | _Named
_ClientFrame = list[ev.ClientEvent] | ev.ClientEvent
_ServerFrame = list[ev.ServerEvent] | ev.ServerEvent
_CLIENT_NAMES = frozenset(kind.__struct_config__.tag for kind in get_args(ev.ClientEvent))
_SERVER_NAMES = frozenset(kind.__struct_config__.tag for kind in get_args(ev.ServerEvent))


class Codec:
    """One wire form: JSON text frames or MessagePack binary frames, with the same field names.

    Attributes:
        name: `json` or `msgpack`.
        subprotocol: The WebSocket subprotocol that chooses it.
        binary: Whether its frames are binary.
    """

    def __init__(self, name: CodecName) -> None:
        module: Any = msgspec.json if name == "json" else msgspec.msgpack
        self.name = name
        self.subprotocol = f"chatkit.v1.{name}"
        self.binary = name == "msgpack"
        self.encode: Callable[[Any], bytes] = module.Encoder().encode
        self._decode_any = module.Decoder().decode
        self._decode_object = module.Decoder(dict[str, ev.PayloadValue]).decode
        self._decode_text = module.Decoder(str).decode
        self._decode_hello = module.Decoder(_HelloFrame).decode
        self._decode_send = module.Decoder(_RawSend | ev.Ping).decode  # of a union the tag must be there
        self._decode_client = module.Decoder(_ClientFrame).decode
        self._decode_client_item = module.Decoder(ev.ClientEvent).decode
        self._decode_server = module.Decoder(_ServerFrame).decode
        self._decode_server_item = module.Decoder(ev.ServerEvent).decode
        self._decode_named = module.Decoder(_Named).decode
        self._decode_named_frame = module.Decoder(_NamedFrame).decode
        self._decode_raws = module.Decoder(list[msgspec.Raw]).decode
        self._decode_remains = module.Decoder(_Remains).decode

    def client_events(self, frame: bytes | str) -> Sequence[ev.ClientEvent | BadItem]:
        """The events of a client's frame, in order; bad items stand in their place.

        Args:
            frame: One WebSocket message of at most `FRAME_BYTES_MAX` bytes.

        Raises:
            TooLargeError: The frame is above the limit; it was not decoded.
            BadRequestError: The frame cannot be parsed or holds too many items; nothing of it counts.
        """
        if len(frame) > _SURELY_FITS:
            check_frame_size(frame)
        try:
            decoded = self._decode_client(frame)
        except _UNDECODABLE:
            return self._client_items(frame)
        if type(decoded) is not list:
            return (decoded,) if _flaw(decoded) is None else self._client_items(frame)
        _check_batch(decoded)
        for event in decoded:
            if _flaw(event) is not None:
                return self._client_items(frame)
        return decoded

    def hello_events(self, frame: bytes | str) -> Sequence[ev.Hello | BadItem]:
        """The HELLO of a client that has not logged in; nothing else is decoded, and little is taken.

        Args:
            frame: One WebSocket message of at most `HELLO_BYTES_MAX` bytes.

        Returns:
            One HELLO or what is wrong with the frame; nothing for an empty array.

        Raises:
            TooLargeError: The frame is above the limit; it was not decoded.
        """
        check_frame_size(frame, ev.HELLO_BYTES_MAX)
        try:
            decoded = self._decode_hello(frame)
        except _UNDECODABLE as error:
            return (self._bad_item(frame, self._why_no_hello(frame, error)),)
        return decoded if type(decoded) is list else (decoded,)

    def _why_no_hello(self, frame: bytes | str, error: BaseException) -> str:
        """An event of the contract that is none yet is not called unknown: its turn comes after HELLO."""
        try:
            decoded = self._decode_named_frame(frame)
        except _UNDECODABLE:
            return plain_words(error)
        named = decoded if type(decoded) is list else (decoded,)
        if any(it.event in _CLIENT_NAMES and it.event != "HELLO" for it in named):
            return "HELLO must come first, and nothing else before WELCOME"
        return plain_words(error)

    def server_events(self, frame: bytes | str) -> Sequence[ev.ServerEvent]:
        """The events of a server's frame that this version knows by name; all others are passed over.

        Raises:
            ProtocolError: The frame cannot be parsed, or an event of a known name is not what the contract says.
        """
        try:
            decoded = self._decode_server(frame)
        except _UNDECODABLE:
            return self._known_server_items(frame)
        return decoded if type(decoded) is list else (decoded,)

    def own_server_events(self, frame: bytes | str) -> Sequence[ev.ServerEvent]:
        """As `server_events`, of a server of this very version, which sends no event that would be passed over.

        Fields that the contract does not have are passed over here, too.

        Raises:
            ProtocolError: The frame cannot be parsed, or holds an event that is none of the contract.
        """
        try:
            decoded = self._decode_server(frame)
        except _UNDECODABLE as error:
            raise ProtocolError(f"event cannot be decoded: {error}") from None
        return decoded if type(decoded) is list else (decoded,)

    def plain(self, frame: bytes | str) -> Any:
        """What is in a frame, event or not, as plain values. Raises ProtocolError if it cannot be parsed."""
        try:
            return self._value(frame)
        except _UNDECODABLE as error:
            raise ProtocolError(f"frame cannot be decoded: {error}") from None

    def join(self, encoded: Sequence[bytes]) -> bytes:
        """One frame of already encoded events: a single one as itself, several as an array."""
        if len(encoded) == 1:
            return encoded[0]
        if not self.binary:
            return b"[" + b",".join(encoded) + b"]"
        count = len(encoded)
        head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        return head + b"".join(encoded)

    def raw(self, canonical: bytes) -> msgspec.Raw:
        """A canonical payload in this codec's form, ready to be embedded in an event."""
        if self.binary:
            return msgspec.Raw(self.encode(msgspec.json.decode(canonical)))
        return msgspec.Raw(canonical)

    def payload(self, raw: msgspec.Raw) -> dict[str, Any]:
        """The payload inside a received event.

        Raises:
            ProtocolError: It is not an object.
        """
        try:
            payload = self._object(raw)
        except _UNDECODABLE as error:
            raise ProtocolError(f"payload cannot be decoded: {plain_words(error)}") from None
        if type(payload) is not dict:
            raise ProtocolError("payload is not an object")
        return payload

    def _object(self, raw: msgspec.Raw) -> Any:
        """A JSON object, or what stands in its place; a map with keys that are no strings is never built."""
        try:
            return self._decode_object(raw)
        except _UNDECODABLE:
            return self._value(raw)

    def _value(self, raw: msgspec.Raw | bytes | str) -> Any:
        if self.binary:
            check_value(memoryview(raw))  # type: ignore[arg-type]  # a binary codec has no text
        return self._decode_any(raw)

    def _client_items(self, frame: bytes | str) -> list[ev.ClientEvent | BadItem]:
        return [self._client_item(raw) for raw in self._split(frame)]

    def _split(self, frame: bytes | str) -> Sequence[msgspec.Raw | bytes | str]:
        """The items of a frame that holds at least one bad one."""
        try:
            items: Sequence[msgspec.Raw | bytes] = self._decode_raws(frame)
        except msgspec.ValidationError:
            return (frame,)  # parses, but is no array: a single item
        except _UNDECODABLE as error:
            items = () if self.binary else _split_leniently(frame)
            if not items:
                raise BadRequestError(f"frame cannot be parsed: {self.why(frame, error)}") from None
        _check_batch(items)
        return items

    def _client_item(self, raw: msgspec.Raw | bytes | str) -> ev.ClientEvent | BadItem:
        try:
            event: ev.ClientEvent = self._decode_client_item(raw)
        except _UNDECODABLE as error:
            return self._deep_send(raw) or self._bad_item(raw, self.why(raw, error))
        flaw = _flaw(event)
        return event if flaw is None else self._bad_item(raw, _PLAIN_WORDS[flaw])

    def _deep_send(self, raw: msgspec.Raw | bytes | str) -> ev.SendMsg | BadItem | None:
        """A SEND_MSG whose payload is nested deeper than the decoder checks by itself; None if it is something else."""
        try:
            send = self._decode_send(raw)
        except _UNDECODABLE:
            return None
        if type(send) is not _RawSend:
            return None
        try:
            payload = self._value(send.payload)
        except _UNDECODABLE as error:
            return self._bad_item(raw, f"payload: {plain_words(error)}")
        if type(payload) is not dict:
            return None
        return ev.SendMsg(send.conversation_id, send.client_msg_id, payload, send.ref)

    def _bad_item(self, raw: msgspec.Raw | bytes | str, message: str) -> BadItem:
        try:
            remains = self._decode_remains(raw)
        except _UNDECODABLE:
            remains = _Remains() if self.binary else _remains_leniently(raw)
        return BadItem(
            message,
            ref=self._short_text(remains.ref, 64),
            client_msg_id=self._short_text(remains.client_msg_id, 128),
            conversation_id=self._short_text(remains.conversation_id, 128),
        )

    def _short_text(self, raw: msgspec.Raw, length_max: int) -> str | UnsetType:
        try:
            value: str = self._decode_text(raw)
        except _UNDECODABLE:
            return UNSET
        return value if 0 < len(value) <= length_max else UNSET

    def why(self, raw: msgspec.Raw | bytes | str, error: BaseException) -> str:
        """`plain_words` of an error, and of JSON that other parsers take the reason why it is none."""
        if type(error) is msgspec.DecodeError and not self.binary and _parse_leniently(raw) is not None:
            return "it holds a lone surrogate, NaN or a number beyond all bounds, which are no JSON"
        return plain_words(error)

    def _known_server_items(self, frame: bytes | str) -> list[ev.ServerEvent]:
        try:
            items = self._split(frame)
        except BadRequestError as error:
            raise ProtocolError(str(error)) from None
        known = []
        for raw in items:
            try:
                known.append(self._decode_server_item(raw))
            except _UNDECODABLE as error:
                if not self._is_of_newer_version(raw):
                    raise ProtocolError(f"event cannot be decoded: {plain_words(error)}") from None
        return known

    def _is_of_newer_version(self, raw: msgspec.Raw | bytes | str) -> bool:
        """Whether an item is an event with a name that this version does not know: the contract has it ignored."""
        try:
            named: _Named = self._decode_named(raw)
        except _UNDECODABLE:
            return False
        return named.event not in _SERVER_NAMES


def check_frame_size(frame: bytes | str, bytes_max: int = ev.FRAME_BYTES_MAX) -> None:
    """Refuse a frame above the limit without decoding it.

    Raises:
        TooLargeError: More than `bytes_max` bytes (of UTF-8 for text).
    """
    size = len(frame)
    if size <= bytes_max // 4:
        return
    if type(frame) is str and not frame.isascii():
        size = len(frame.encode(errors="surrogatepass"))
    if size > bytes_max:
        raise TooLargeError(f"frame is {size} bytes; at most {bytes_max} are taken")


@lru_cache(maxsize=_IDS_KEPT)
def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and text not in (".", "..")


def _flaw(event: ev.ClientEvent) -> str | None:
    """Where an event that comes often holds characters that may not be there; None if it does not."""
    if not isinstance(event, _CHECKED_HERE):
        return None
    if not _is_id(event.conversation_id):
        return "$.conversationId"
    if event.ref is not UNSET and "\0" in event.ref:
        return "$.ref"
    if isinstance(event, ev.SendMsg) and "\0" in event.client_msg_id:
        return "$.clientMsgId"
    return None


def close_reason(text: str) -> str:
    """As much of a text as a WebSocket's close frame has room for. Source: RFC 6455, 5.5."""
    return text.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")


def _check_batch(items: Sequence[Any]) -> None:
    if len(items) > ev.BATCH_MAX:
        raise BadRequestError(f"frame holds {len(items)} items; at most {ev.BATCH_MAX} are taken")


def plain_words(error: BaseException) -> str:
    """What a decoder found wrong, in words for people: of bounded length, repeating nothing that was sent."""
    if isinstance(error, UnicodeError):
        return "text is not valid UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deep"
    if str(error).startswith("Invalid UTF-8"):  # msgspec 0.23; before, a UnicodeDecodeError
        return "text is not valid UTF-8"
    message, _, place = str(error).rpartition(" - at ")
    if message.startswith(("Invalid value", "Invalid enum value", "Expected `str` matching regex")):
        return _PLAIN_WORDS.get(place.strip("`"), f"{place} is not valid")
    if message.startswith("Expected `str` of length"):
        return _PLAIN_WORDS.get(place.strip("`"), str(error))
    return str(error)


def _split_leniently(frame: bytes | str) -> Sequence[bytes]:
    """The items of a JSON array that only the standard library can parse; empty if it cannot either.

    It takes what msgspec refuses before it has found the items' ends: lone surrogates (which JavaScript
    writes as escapes) and NaN. Each item stays refused by itself, and its neighbours are saved. They are counted
    before any is looked at.
    """
    value = _parse_leniently(frame)
    if type(value) is not list:
        return ()
    _check_batch(value)
    return [json.dumps(item).encode() for item in value]


def _remains_leniently(raw: msgspec.Raw | bytes | str) -> _Remains:
    value = _parse_leniently(raw)
    if type(value) is not dict:
        return _Remains()
    texts = (value.get(name) for name in _Remains.__struct_encode_fields__)
    return _Remains(*(msgspec.Raw(json.dumps(it) if type(it) is str else "") for it in texts))


def _parse_leniently(raw: msgspec.Raw | bytes | str) -> Any:
    if len(raw if isinstance(raw, str) else memoryview(raw)) > _LENIENT_BYTES_MAX:
        return None
    try:
        return json.loads(raw if isinstance(raw, str) else bytes(raw).decode())
    except _UNDECODABLE:
        return None


JSON = Codec("json")
MSGPACK = Codec("msgpack")
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
"""By subprotocol."""
