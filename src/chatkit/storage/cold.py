"""What an archiver asks of a store: which entries are cold, which range of them is in which object, and their bodies.

An ability beside `storage.base.Store`: a store that has it is `Archivable`. Only bodies of messages leave the hot
tables; what an entry is beside its body (who, when, by which key) stays, and so do the entries that the server wrote.

The order that keeps every body: a range is claimed; its object is written, and read back; it is confirmed; only then
do the bodies leave, step by step. Whatever ends in between is taken up again. All methods raise UnavailableError if
storage refused; a retry is safe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from ..core.log.cold import ColdConversation, ColdEntry, ColdRange

SCAN_MAX: Final = 5_000
"""Conversations that are looked at in one read."""


EXPIRE_MAX: Final = 5_000
"""Entries of one conversation that expire at once."""

OWNER_MARK_BYTES: Final = 8
"""Of a mark; it is twice as many characters."""

OWNER_MARKS_MAX: Final = 8
"""Marks of a log's archive that are kept, the newest: archivers may run side by side."""

RESTORE_MAX: Final = 250
"""Entries that are put back in one transaction."""


class ColdTerms(msgspec.Struct, frozen=True):
    """What is cold.

    Attributes:
        before_ms: Entries from before then.
        keep_entries: But never the newest ones of a conversation, so many; at least 1.
    """

    before_ms: int
    keep_entries: int


class Due(msgspec.Struct, frozen=True):
    """Conversations with work, of those that were looked at; the next read goes on after `after_key`, 0 is the end."""

    conversations: tuple[ColdConversation, ...]
    after_key: int


class Expiring(msgspec.Struct, frozen=True):
    """(conversation id, up to which seq) of entries whose time is over; the next read goes on as in `Due`."""

    conversations: tuple[tuple[str, int], ...]
    after_key: int


class Blanks(msgspec.Struct, frozen=True):
    """Which bodies of a range must be in no object: those of `seqs`, which were recalled or erased, and all up to
    `floor_seq`, which have expired."""

    seqs: tuple[int, ...]
    floor_seq: int


class ColdTotals(msgspec.Struct, frozen=True):
    """The archived part of a log.

    Attributes:
        conversations: Those with a range in the archive.
        entries: Entries in ranges.
        objects: Objects that hold them, and their bytes.
        object_bytes: Compressed.
        stale: Objects that hold bodies which must go.
        unfinished: Ranges that are being written, or were when their archiver ended.
    """

    conversations: int
    entries: int
    objects: int
    object_bytes: int
    stale: int
    unfinished: int


class Space(msgspec.Struct, frozen=True):
    """The size of a log on its disk.

    Attributes:
        total_bytes: Of it as a whole.
        free_bytes: In it, for new entries.
        shrinks: Whether `ColdStore.shrink` gives free space back.
    """

    total_bytes: int
    free_bytes: int
    shrinks: bool


def first_cold(entries: Iterable[ColdEntry], before_ms: int, bytes_max: int) -> list[ColdEntry]:
    """The entries up to the first one that is too young, or for which there is no room any more; at least one fits."""
    found: list[ColdEntry] = []
    size = 0
    for it in entries:
        size += len(it.payload or b"")
        if it.server_ts >= before_ms or (found and size > bytes_max):
            break
        found.append(it)
    return found


class ColdStore(Protocol):
    """The archived part of a log."""

    # --- whose archive it is ---

    async def owner_marks(self) -> list[str]:
        """The newest `OWNER_MARKS_MAX` marks that archivers of this log left in its archive, or were about to."""

    async def add_owner_mark(self, mark: str) -> None:
        """Keep a mark, and forget those beyond the bound."""

    # --- into the archive ---

    async def due(self, terms: ColdTerms, after_key: int) -> Due:
        """Conversations with cold entries in no range, or with bodies that may leave; of the `SCAN_MAX` after a key."""

    async def entries(
        self, conversation_key: int, after_seq: int, terms: ColdTerms, limit: int, bytes_max: int
    ) -> list[ColdEntry]:
        """Cold entries after a seq that are in the hot tables: at most `limit`, and about `bytes_max`, at least one.

        They follow one another; none if the next one is not cold.
        """

    async def entries_of(self, it: ColdRange) -> list[ColdEntry]:
        """The entries of a range that is not confirmed yet, from the hot tables."""

    async def claim(self, it: ColdRange, now_ms: int, taken_before_ms: int) -> bool:
        """Say that `it.next_name` is being written for a range; afterwards nobody removes that object as unknown.

        Returns:
            False if the range is another one's: somebody claimed it after `taken_before_ms`, or it is not as it was.
        """

    async def confirm(self, it: ColdRange, blanks: Blanks) -> bool:
        """Put `it.name`, whose `digest` and `size` were read back, in the place of the object that the range had.

        Args:
            it: `name` is what was claimed as `next_name`.
            blanks: What is not in it. If there is more by now, the range is stale.

        Returns:
            False if the claim was lost; then nothing has changed, and nobody knows the object.
        """

    async def move(self, conversation_key: int, limit: int) -> int:
        """Take the bodies of some confirmed or expired entries out of the hot tables, in one transaction.

        Returns:
            How many entries it went over, at most `limit`; 0 if there is nothing to move.
        """

    # --- what has to be written anew, or go ---

    async def expiring(self, now_ms: int, keep_ms: int, after_key: int) -> Expiring:
        """Conversations with entries that are older than they are to be kept; of the `SCAN_MAX` after a key.

        Args:
            now_ms: What time it is.
            keep_ms: How long they are kept where a conversation does not say it; 0 is for ever.
            after_key: Where the last read ended.
        """

    async def unfinished(self, taken_before_ms: int, limit: int) -> list[ColdRange]:
        """Ranges that are stale, and those that were claimed before then; at most `limit`."""

    async def blanks(self, it: ColdRange) -> Blanks:
        """Which bodies of a range must not be in its object."""

    async def expired(self, limit: int) -> list[ColdRange]:
        """Ranges of which all entries have expired; at most `limit`."""

    async def forget(self, it: ColdRange) -> bool:
        """Drop a range; false if it is not as it was. Its object is nobody's afterwards."""

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of these objects that a range names, or is about to name."""

    # --- reads ---

    async def covering(self, conversation_id: str, first_seq: int, last_seq: int) -> list[ColdRange]:
        """The confirmed ranges that hold any of these entries, ascending."""

    async def ranges(self, after: tuple[int, int], limit: int) -> list[ColdRange]:
        """All confirmed ranges by (conversation key, first seq), those after a place; at most `limit`."""

    async def manifests_due(self, limit: int) -> list[tuple[int, str, int]]:
        """(conversation key, conversation id, version) of those whose manifest has to be written; at most `limit`."""

    async def manifest_written(self, conversation_key: int, version: int) -> None:
        """The manifest of this version is written; it stays due if there is a newer one."""

    async def totals(self) -> ColdTotals:
        """Counts over the archived part."""

    # --- back ---

    async def restore(self, it: ColdRange, bodies: Mapping[int, bytes]) -> int:
        """Put bodies back into the hot tables, the newest first, in one transaction.

        Args:
            it: The last range of its conversation whose bodies are not all back.
            bodies: By seq.

        Returns:
            How many entries it went over; 0 once all of the range are back. Messages that were recalled or have expired
            get no body.
        """

    async def space(self) -> Space:
        """How large the log is."""

    async def shrink(self, bytes_max: int) -> int:
        """Give free space back to the disk, in one short transaction; returns about how much: 0 once none is left."""


@runtime_checkable
class Archivable(Protocol):
    """A store that bodies can leave for an archive."""

    @property
    def cold(self) -> ColdStore:
        """What an archiver goes by."""
