"""Wrong values by kind of field, as cases for parametrized tests."""

from __future__ import annotations

from typing import Any

import msgspec


class _Absent:
    """A field that is left out; its name does not change from process to process, as test ids must not."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()
"""Marks a field that is to be left out."""

NO_STRINGS: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "int": 1,
    "float": 1.5,
    "true": True,
    "list": [],
    "list of text": ["a"],
    "object": {},
    "operator": {"$gt": ""},
}
BAD_IDS: dict[str, Any] = NO_STRINGS | {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "space": "a b",
    "slash": "a/b",
    "umlaut": "ü",
    "newline": "a\n",
    "NUL": "a\x00",
    "129": "x" * 129,
    "100 kB": "x" * 100_000,
    "percent": "%00",
    "quote": "a'--",
}
BAD_KEYS: dict[str, Any] = NO_STRINGS | {
    "empty": "",
    "129": "x" * 129,
    "129 wide": "到" * 129,
    "NUL": "a\x00b",
}
BAD_SEQS: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "text": "1",
    "float": 1.5,
    "whole float": 1.0,
    "true": True,
    "list": [],
    "object": {},
    "minus one": -1,
    "2^53": 2**53,
    "2^53+1": 2**53 + 1,
    "2^63-1": 2**63 - 1,
    "2^63": 2**63,
    "-2^63": -(2**63),
}
HUGE = {"10^30": 10**30, "-10^30": -(10**30), "5000 digits": 10**4999}
GOOD_IDS = ["x" * 128, "a", "A.Z_0:@-", "...", "-", "a.b"]
BAD_PAYLOADS: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "text": "hi",
    "int": 1,
    "list": [],
    "list of payload": [{"type": "TEXT", "text": "x"}],
    "empty": {},
    "no type": {"text": "x"},
    "type null": {"type": None, "text": "x"},
    "type int": {"type": 1, "text": "x"},
    "type list": {"type": ["TEXT"], "text": "x"},
    "type lower case": {"type": "text", "text": "x"},
    "unknown type": {"type": "HOLOGRAM", "text": "x"},
    "RECALL": {"type": "RECALL", "messageId": "m", "seq": 1, "by": "u-1"},
    "MEMBER": {"type": "MEMBER", "op": "ADDED", "userIds": ["u-1"]},
    "RECALLED": {"type": "RECALLED"},
    "EDIT": {"type": "EDIT", "text": "x"},
    "REACTION": {"type": "REACTION", "text": "x"},
    "ROLE": {"type": "ROLE"},
    "PINNED": {"type": "PINNED"},
    "TEXT without text": {"type": "TEXT"},
    "TEXT null": {"type": "TEXT", "text": None},
    "TEXT int": {"type": "TEXT", "text": 5},
    "TEXT list": {"type": "TEXT", "text": ["x"]},
    "TEXT object": {"type": "TEXT", "text": {"$gt": ""}},
    "NUL in text": {"type": "TEXT", "text": "a\x00b"},
    "NUL deep": {"type": "TEXT", "text": "a", "x": [{"y": ["\x00"]}]},
    "NUL in key": {"type": "TEXT", "text": "a", "k\x00": 1},
    "NUL in deep key": {"type": "TEXT", "text": "a", "x": {"k\x00": 1}},
    "2^53": {"type": "TEXT", "text": "a", "n": 2**53},
    "-2^53": {"type": "TEXT", "text": "a", "n": -(2**53)},
    "2^64-1": {"type": "TEXT", "text": "a", "n": [2**64 - 1]},
    "IMAGE without blob": {"type": "IMAGE", "mime": "image/png", "bytes": 1},
    "IMAGE without mime": {"type": "IMAGE", "blobId": "b", "bytes": 1},
    "IMAGE without bytes": {"type": "IMAGE", "blobId": "b", "mime": "image/png"},
    "IMAGE blob int": {"type": "IMAGE", "blobId": 1, "mime": "image/png", "bytes": 1},
    "IMAGE bytes text": {"type": "IMAGE", "blobId": "b", "mime": "image/png", "bytes": "1"},
    "IMAGE bytes negative": {"type": "IMAGE", "blobId": "b", "mime": "image/png", "bytes": -1},
    "IMAGE bytes true": {"type": "IMAGE", "blobId": "b", "mime": "image/png", "bytes": True},
    "IMAGE width text": {"type": "IMAGE", "blobId": "b", "mime": "image/png", "bytes": 1, "width": "1"},
    "VOICE duration list": {"type": "VOICE", "url": "u", "mime": "audio/ogg", "bytes": 1, "durationMs": [1]},
    "FILE name int": {"type": "FILE", "url": "u", "mime": "a/b", "bytes": 1, "name": 5},
    "CUSTOM without schema": {"type": "CUSTOM", "data": 1, "fallbackText": "x"},
    "CUSTOM without data": {"type": "CUSTOM", "schema": "s", "fallbackText": "x"},
    "CUSTOM without fallbackText": {"type": "CUSTOM", "schema": "s", "data": 1},
    "CUSTOM fallbackText int": {"type": "CUSTOM", "schema": "s", "data": 1, "fallbackText": 1},
    "CUSTOM schema int": {"type": "CUSTOM", "schema": 1, "data": 1, "fallbackText": "x"},
}


def nested(depth: int) -> dict[str, Any]:
    """A TEXT payload of this depth, the payload itself being 1."""
    inner: Any = "core"
    for level in range(depth - 1):
        inner = [inner] if level % 2 else {"n": inner}
    return {"type": "TEXT", "text": "deep", "x": inner}


def nested_raw(depth: int, codec: str) -> msgspec.Raw:
    """Like `nested`, made of bytes, for depths that no encoder writes."""
    opening, core, closing = (b"[", b"1", b"]") if codec == "json" else (b"\x91", b"\x01", b"")
    lists = opening * (depth - 1) + core + closing * (depth - 1)
    if codec == "json":
        return msgspec.Raw(b'{"type":"TEXT","text":"deep","x":' + lists + b"}")
    words = b"".join(map(msgspec.msgpack.encode, ("type", "TEXT", "text", "deep", "x")))
    return msgspec.Raw(b"\x83" + words + lists)


def sized(size: int, filler: str = "x") -> dict[str, Any]:
    """A TEXT payload of exactly `size` bytes as canonical JSON in UTF-8."""
    room = size - len('{"text":"","type":"TEXT"}')
    wide = len(filler.encode())
    return {"type": "TEXT", "text": filler * (room // wide) + "x" * (room % wide)}


def without_absent(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields without those marked ABSENT."""
    return {name: value for name, value in fields.items() if value is not ABSENT}
