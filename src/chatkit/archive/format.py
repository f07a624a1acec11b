"""The form of an object: one range of one conversation's log as lines of JSON, compressed with zstd.

    zstdcat OBJECT | head -2
    {"format":"chatkit-archive","version":1,"conversationId":"g","firstSeq":1,"lastSeq":1000}
    {"seq":1,"epoch":"5f","kind":"MEMBER","senderId":"ann","clientMsgId":null,"serverTs":1700000000000,"payload":{...}}

The first line says what it is; each further one is an entry, in order and without a gap. A payload stands there byte
for byte as it was stored; it is null once it was recalled, erased or has expired. An object is known by the SHA-256 of
its bytes. A manifest lists the objects of a conversation.

zstd comes with Python from 3.14 on; before that `pip install "chatkit-engine[archive]"`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Literal

import msgspec

from ..core.log.cold import ColdEntry, ColdRange
from ..core.log.rules import Kind
from ..errors import ConfigurationError
from .base import OBJECT_BYTES_MAX

RAW_BYTES_MAX: Final = OBJECT_BYTES_MAX
"""Nothing that unpacks to more is unpacked."""

_LEVEL: Final = 9
_NULL: Final = msgspec.Raw(b"null")


class DamagedObjectError(Exception):
    """An object is not what was written. Its words hold nothing of a body."""


class _Header(msgspec.Struct, frozen=True, rename="camel"):
    """The first line."""

    format: Literal["chatkit-archive"]
    version: Literal[1]
    conversation_id: str
    first_seq: int
    last_seq: int


class _Line(msgspec.Struct, frozen=True, rename="camel"):
    """An entry."""

    seq: int
    epoch: str
    kind: Kind
    sender_id: str
    client_msg_id: str | None
    server_ts: int
    payload: msgspec.Raw


class _Object(msgspec.Struct, frozen=True, rename="camel"):
    """An object in a manifest."""

    first_seq: int
    last_seq: int
    name: str
    sha256: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What a manifest holds."""

    format: Literal["chatkit-archive-manifest"]
    version: Literal[1]
    conversation_id: str
    objects: list[_Object]


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def log_name(secret: bytes) -> str:
    """What all names of a log's objects begin with: two logs in one archive never meet. Tells nothing of the secret."""
    return hashlib.blake2b(secret, digest_size=8, person=b"chatkit-archive").hexdigest()


def encode(conversation_id: str, entries: Sequence[ColdEntry]) -> bytes:
    """The object of some entries that follow one another; at least one.

    Raises:
        ConfigurationError: zstd is not there.
    """
    header = _Header("chatkit-archive", 1, conversation_id, entries[0].seq, entries[-1].seq)
    lines = [_encode(header)]
    for it in entries:
        payload = _NULL if it.payload is None else msgspec.Raw(it.payload)
        lines.append(
            _encode(_Line(it.seq, it.epoch, it.kind, it.sender_id, it.client_msg_id, it.server_ts, payload))
        )
    packed: bytes = _zstd().compress(b"\n".join(lines) + b"\n", _LEVEL)
    return packed


def digest(data: bytes) -> bytes:
    """What an object is known by."""
    return hashlib.sha256(data).digest()


def decode(data: bytes, of: ColdRange) -> list[ColdEntry]:
    """The entries of a range's object; its digest is checked first.

    Raises:
        DamagedObjectError: It is not the object that the range names.
        ConfigurationError: zstd is not there.
    """
    if digest(data) != of.digest:
        raise DamagedObjectError(f"the object {of.name} is not what was written: its digest is another")
    return unpack(data, of)


def unpack(data: bytes, of: ColdRange) -> list[ColdEntry]:
    """`decode` of an object whose digest is not known yet."""
    try:
        head, *lines = _decompress(data).splitlines()
        header = _decode_header(head)
        entries = [_entry(_decode_line(line)) for line in lines]
    except ValueError:  # msgspec's errors, no line at all
        raise DamagedObjectError(f"the object of {_place(of)} is no archive of this form") from None
    wanted = list(range(of.first_seq, of.last_seq + 1))
    if (header.first_seq, header.last_seq) != (of.first_seq, of.last_seq):
        raise DamagedObjectError(f"the object of {_place(of)} is that of another range")
    if [it.seq for it in entries] != wanted or header.conversation_id != of.conversation_id:
        raise DamagedObjectError(f"the object of {_place(of)} does not hold just these entries")
    return entries


def manifest(conversation_id: str, ranges: Sequence[ColdRange]) -> bytes:
    """The manifest of a conversation: its objects in order, each with its digest."""
    objects = [_Object(it.first_seq, it.last_seq, it.name, it.digest.hex(), it.size) for it in ranges]
    whole = _Manifest("chatkit-archive-manifest", 1, conversation_id, objects)
    return msgspec.json.format(_encode(whole), indent=1) + b"\n"


def _entry(line: _Line) -> ColdEntry:
    payload = bytes(line.payload)
    return ColdEntry(
        line.seq,
        line.epoch,
        line.kind,
        line.sender_id,
        line.client_msg_id,
        line.server_ts,
        None if payload == b"null" else payload,
    )


def _place(of: ColdRange) -> str:
    return f"conversation {of.conversation_id}, seqs {of.first_seq} to {of.last_seq}"


def _decompress(data: bytes) -> bytes:
    """Raises DamagedObjectError for what is not one whole zstd frame of at most `RAW_BYTES_MAX`."""
    zstd = _zstd()
    unpacker = zstd.ZstdDecompressor()
    try:
        raw: bytes = unpacker.decompress(data, RAW_BYTES_MAX)
    except zstd.ZstdError:
        raise DamagedObjectError("an object of the archive cannot be unpacked") from None
    if not unpacker.eof or unpacker.unused_data:
        raise DamagedObjectError("an object of the archive is cut off, or too large")
    return raw


@cache
def _zstd() -> Any:
    """The module; Python has it from 3.14 on."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise ConfigurationError(
            'an archive needs backports.zstd: pip install "chatkit-engine[archive]"'
        ) from None
    return zstd
