"""The rows of uploaded files, as a batch loads and changes them; what they mean is in `blobs`."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

BlobState = Literal["PENDING", "READY", "GOING"]

CHARGE_MIN: Final = 4_096
"""What the smallest file counts of a user's quota, so that the quota bounds their number too."""

DROPPED_KEEP_MS: Final = 600_000
"""How long after an upload, or the last time it was asked for, a file stays that no message names any more."""


class BlobRow(NamedTuple):
    """A file, in the order of the table's columns.

    Attributes:
        upload_key: The uploader's own name for it; None once it is going.
        state: PENDING until all of it was received; GOING once nothing names it, while its objects are removed.
        at_ms: When it was last asked for by its key; of a GOING one, since when.
        parts: The SHA-256 of each of its parts, in order; empty while it is PENDING.
    """

    blob_id: str
    owner_id: str
    upload_key: str | None
    size: int
    mime: str
    state: BlobState
    at_ms: int
    parts: bytes


class DueBlob(NamedTuple):
    """A file that the collector is to look at: it goes if nothing names it and it was last asked for so long ago."""

    due_id: int
    blob_id: str
    keep_ms: int


def charged(size: int) -> int:
    """What a file of this size counts of a quota."""
    return max(size, CHARGE_MIN)


class BlobKeys:
    """What must be loaded of blobs.

    Attributes:
        named: (blob, sender): the row, locked against the collector, and whether the sender sees a message that names
            it.
        uploads: (owner, key): the row that the key made.
        owners: How much each has; no other upload of theirs is decided meanwhile.
        rows: Rows by id.
        collected: Rows by id, whether a message names them, and whether one that is held does.
    """

    __slots__ = ("collected", "named", "owners", "rows", "uploads")

    def __init__(self) -> None:
        self.named: set[tuple[str, str]] = set()
        self.uploads: set[tuple[str, str]] = set()
        self.owners: set[str] = set()
        self.rows: set[str] = set()
        self.collected: set[str] = set()

    def __bool__(self) -> bool:
        """Whether anything is named."""
        return bool(self.named or self.owners or self.rows or self.collected)


class BlobChanges(msgspec.Struct):
    """The rows of blobs of one batch: what was loaded, and what it changed.

    Attributes:
        rows: By id; those that are not there are missing, or None once the batch forgot them.
        by_key: The blob of (owner, key).
        seen: (blob, user): a message that the user sees names it.
        kept: Blobs that a message names.
        held: Those that a message names which a moderator holds.
        usage: Bytes by owner.
        changed: Rows to be written; None for those that go.
        references: (conversation key, seq, blob) of new messages.
        dropped: (conversation key, seq) of recalled messages, whose references go after new ones came; what they named
            is due at once.
        due: (from when, blob, how long kept) for the collector.
        dropped_due: Numbers of what it need not look at any more.
    """

    rows: dict[str, BlobRow | None] = {}
    by_key: dict[tuple[str, str], str] = {}
    seen: set[tuple[str, str]] = set()
    kept: set[str] = set()
    held: set[str] = set()
    usage: dict[str, int] = {}
    changed: dict[str, BlobRow | None] = {}
    references: list[tuple[int, int, str]] = []
    dropped: list[tuple[int, int]] = []
    due: list[tuple[int, str, int]] = []
    dropped_due: list[tuple[int]] = []

    def add(self, row: BlobRow) -> None:
        """Keep a row that was loaded, under each of its names."""
        self.rows[row.blob_id] = row
        if row.upload_key is not None:
            self.by_key[row.owner_id, row.upload_key] = row.blob_id

    @property
    def any_changed(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.changed or self.references or self.dropped or self.due or self.dropped_due)
