"""Which copy of a log an archive belongs to: only that one may write and remove its objects.

A copy of a log, such as a backup that is tried out, has the log's secret and so the names of its objects. Before each
run an archiver leaves a new mark in the archive and in its log. The marks of a copy end where it was made, so the
archive shows one that it does not know, and it leaves everything as it is.
"""

from __future__ import annotations

from typing import Final

from ...archive.base import ArchiveStore, ObjectMissingError
from ...errors import ConfigurationError
from ...ports import Ids
from ...storage.cold import OWNER_MARK_BYTES, OWNER_MARKS_MAX, ColdStore

_NEWEST: Final = OWNER_MARKS_MAX // 2


class Ownership:
    """A log's hold on its archive.

    Args:
        cold: The log.
        archive: Its archive.
        log: What the names of its objects begin with.
        ids: Where marks come from.
    """

    def __init__(self, cold: ColdStore, archive: ArchiveStore, log: str, ids: Ids) -> None:
        self._cold = cold
        self._archive = archive
        self._name = f"{log}/owner"
        self._ids = ids

    async def prove(self, *, claim: bool) -> None:
        """See that the archive belongs to this copy of the log, and leave a new mark in both.

        The log knows the mark before the archive has it: whoever ends in between is known the next time.

        Args:
            claim: Take it, whosever it is.

        Raises:
            ConfigurationError: It belongs to another copy; nothing was changed.
            UnavailableError: The store or the archive refused; a retry is safe.
        """
        present, marks = await self._present(), await self._cold.owner_marks()
        if present is not None and not claim and present not in marks:
            raise ConfigurationError(
                "the archive belongs to another copy of this log, or to a later state of it: nothing is written to it. "
                "If this one is to go on, say so once: chatkit archive run --claim"
            )
        if present is not None and present not in marks[-_NEWEST:]:
            # an archive that takes nothing for long must not drive its mark out
            await self._cold.add_owner_mark(present)
        mark = self._ids.token_bytes(OWNER_MARK_BYTES).hex()
        await self._cold.add_owner_mark(mark)
        await self._archive.put(self._name, mark.encode())

    async def _present(self) -> str | None:
        """The mark in the archive; what is not as long as one was never written as a whole, and is none."""
        try:
            found = (await self._archive.get(self._name)).decode(errors="replace")
        except ObjectMissingError:
            return None
        return found if len(found) == 2 * OWNER_MARK_BYTES else None
