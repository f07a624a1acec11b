"""Reads every object of a log's archive and holds it to its digest. Called by `chatkit verify --archive`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ...archive.base import ArchiveStore, ObjectMissingError
from ...archive.format import DamagedObjectError
from ...storage.cold import ColdStore
from .objects import ArchiveObjects

_AT_ONCE = 200


async def check_objects(cold: ColdStore, archive: ArchiveStore) -> AsyncIterator[str]:
    """For each object what is wrong with it, in words without a body; empty if nothing is.

    Raises UnavailableError if the log or the archive does not answer.
    """
    objects, after = ArchiveObjects(archive, threads=True), (0, 0)
    while found := await cold.ranges(after, _AT_ONCE):
        for it in found:
            try:
                await objects.read(it)
                yield ""
            except (DamagedObjectError, ObjectMissingError) as error:
                yield f"conversation {it.conversation_id}, seqs {it.first_seq} to {it.last_seq}: {error}"
        after = (found[-1].conversation_key, found[-1].first_seq)
