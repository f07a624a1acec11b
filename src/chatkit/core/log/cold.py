"""Values of the archive: entries that leave the hot tables, and the ranges of a log whose bodies lie elsewhere.

Made by the stores (`storage.cold`), written to objects by `archive.format`, moved by `server.archiving`. Why it is so:
docs/design/0022-archive.md.
"""

from __future__ import annotations

import msgspec

from .rules import Kind


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
    name: str
    digest: bytes
    size: int
    is_stale: bool
    next_name: str


class ColdConversation(msgspec.Struct, frozen=True):
    """A conversation that an archiver has something to do in.

    Attributes:
        after_seq: The entries after it are in no range yet.
    """

    conversation_key: int
    conversation_id: str
    after_seq: int


def object_name(log: str, conversation_key: int, first_seq: int, last_seq: int, token: str) -> str:
    """The name of an object; never given twice, since `token` is random.

    Names sort by log, conversation and seq.
    """
    return f"{folder_name(log, conversation_key)}{first_seq:014x}-{last_seq:014x}-{token}.jsonl.zst"


def manifest_name(log: str, conversation_key: int) -> str:
    """The name of a conversation's manifest, which lists its objects."""
    return f"{folder_name(log, conversation_key)}manifest.json"


def folder_name(log: str, conversation_key: int) -> str:
    """What the names of a conversation's objects begin with."""
    return f"{log}/{conversation_key:016x}/"
