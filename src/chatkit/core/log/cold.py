"""Values of the archive: entries that leave the hot tables, and the ranges of a log whose bodies lie elsewhere.

Made by the stores (`storage.cold`), written to objects by `archive.format`, moved by `server.archiving`. Why it is so:
docs/design/0022-archive.md.
"""

from __future__ import annotations

import re

import msgspec

from .rules import SERVER_KINDS, Kind

_NAME = re.compile(r"[0-9a-f]{16}/([0-9a-f]{16})/([0-9a-f]{14})-([0-9a-f]{14})-[0-9a-f]{16}\.jsonl\.zst")


class ColdEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry as an archive holds it: all that a log says of it, under the epoch that it was written in.

    Attributes:
        payload: Canonical JSON; None once it was recalled, erased or has expired.
    """

    seq: int
    epoch: str
    kind: Kind
    sender_id: str
    client_msg_id: str | None
    server_ts: int
    payload: bytes | None


class ColdRange(msgspec.Struct, frozen=True):
    """The entries first_seq..last_seq of one conversation, whose bodies are in one object of the archive.

    Attributes:
        name: The object; empty while the first one is being written.
        digest: SHA-256 of its bytes.
        size: How many bytes it has.
        is_stale: Whether it still holds bodies that must go, so that it has to be written anew.
        next_name: The object that is being written in its place; empty if none is.
    """

    conversation_key: int
    conversation_id: str
    first_seq: int
    last_seq: int
    name: str = ""
    digest: bytes = b""
    size: int = 0
    is_stale: bool = False
    next_name: str = ""


class ColdConversation(msgspec.Struct, frozen=True):
    """A conversation that an archiver may have something to do in.

    Attributes:
        cold_seq: Messages up to here have no body in the hot tables.
        ranged_seq: Entries up to here are in ranges, or have expired.
        movable_seq: Messages up to here need no body in the hot tables.
    """

    conversation_key: int
    conversation_id: str
    cold_seq: int
    ranged_seq: int
    movable_seq: int


def object_name(log: str, conversation_key: int, first_seq: int, last_seq: int, token: str) -> str:
    """The name of an object; never given twice, since `token` is random.

    Names sort by log, conversation and seq.
    """
    return f"{folder_name(log, conversation_key)}{first_seq:014x}-{last_seq:014x}-{token}.jsonl.zst"


def object_place(name: str) -> tuple[int, int, int] | None:
    """(conversation key, first seq, last seq) of an object's name; None for every other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    key, first_seq, last_seq = (int(it, 16) for it in match.groups())
    return key, first_seq, last_seq


def manifest_name(log: str, conversation_key: int) -> str:
    """The name of a conversation's manifest, which lists its objects."""
    return f"{folder_name(log, conversation_key)}manifest.json"


def folder_name(log: str, conversation_key: int) -> str:
    """What the names of a conversation's objects begin with."""
    return f"{log}/{conversation_key:016x}/"


def is_cold(kind: Kind | None, payload: object) -> bool:
    """Whether a row of the hot tables is a message whose body is elsewhere, or gone: then it has none.

    What the server wrote itself stays where it is. A body is a JSON object, so an empty one is none.
    """
    return kind not in SERVER_KINDS and payload == b""
