"""Objects of an archive as entries: packed and unpacked, in threads, and told apart from what is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio.to_thread

from ...archive import format
from ...archive.base import ArchiveStore
from ...core.log.cold import ColdEntry, ColdRange
from ...errors import UnavailableError
from ...wire.payload import RECALLED

_Result = TypeVar("_Result")

RETRY_AFTER_S = 2.0


class ArchiveObjects:
    """Reads and writes objects of an archive.

    Args:
        archive: Where they are.
        threads: Whether they are packed and unpacked in threads.
    """

    def __init__(self, archive: ArchiveStore, *, threads: bool) -> None:
        self._archive = archive
        self._threads = threads

    async def read(self, it: ColdRange) -> list[ColdEntry]:
        """The entries of a range, its digest checked.

        Raises:
            ObjectMissingError: The archive has no such object.
            DamagedObjectError: It is not what was written.
            UnavailableError: The archive does not answer.
        """
        data = await self._archive.get(it.name)
        return await self._run(lambda: format.decode(data, it))

    async def bodies(self, it: ColdRange) -> dict[int, bytes]:
        """The bodies of a range, by seq; RECALLED for those that its object has no more. Raises as `read`.

        The log knows of those itself, unless it was put back from a backup that is older than their recall.
        """
        entries = await self.read(it)
        return {entry.seq: RECALLED if entry.payload is None else entry.payload for entry in entries}

    async def write(self, it: ColdRange, entries: Sequence[ColdEntry]) -> tuple[bytes, int]:
        """Write the object `it.next_name`, read it back, and see that it holds these entries.

        Returns:
            Its digest and its size.

        Raises:
            UnavailableError: The archive does not answer, or gives back something else; a retry is safe.
            DamagedObjectError: The log has a body among these that is none; nothing was put.
        """
        data = await self._run(lambda: format.encode(it.conversation_id, entries))
        if not await self._run(lambda: _holds(data, it, entries)):
            raise format.DamagedObjectError(
                f"conversation {it.conversation_id}, seqs {it.first_seq} to {it.last_seq}: a body in the log is damaged"
            )
        await self._archive.put(it.next_name, data)
        back = await self._archive.get(it.next_name)
        if back != data:
            raise UnavailableError(
                "the archive does not give back what was put into it", retry_after_s=RETRY_AFTER_S
            )
        return format.digest(back), len(back)

    async def look(self, it: ColdRange) -> tuple[list[ColdEntry], bytes, int]:
        """The entries of the object `it.next_name`, whose digest nobody knows, with its digest and size.

        Raises as `read`.
        """
        data = await self._archive.get(it.next_name)
        return await self._run(lambda: format.unpack(data, it)), format.digest(data), len(data)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if not self._threads:
            return work()
        return await anyio.to_thread.run_sync(work)


def _holds(data: bytes, it: ColdRange, entries: Sequence[ColdEntry]) -> bool:
    try:
        return format.unpack(data, it) == list(entries)
    except format.DamagedObjectError:
        return False
