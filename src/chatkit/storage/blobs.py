"""What a store knows of uploaded files, for links and for the collector. Part of the port; shown again by `base`.

An ability beside `Store`: one that has it can keep files (`ChatServer(blobs=...)`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..core.log.blob_rows import CHARGE_MIN as CHARGE_MIN
from ..core.log.blob_rows import DROPPED_KEEP_MS as DROPPED_KEEP_MS
from ..core.log.blob_rows import BlobRow as BlobRow
from ..core.log.blob_rows import DueBlob as DueBlob


@runtime_checkable
class BlobReader(Protocol):
    """Reads of uploaded files, each in one snapshot. All raise UnavailableError if storage refused; a retry is safe."""

    async def blob(self, blob_id: str, user_id: str) -> BlobRow | None:
        """A file that a message names which the user may read now; None if there is no such file, or no such message.

        A message counts as long as it was not recalled and has not expired, and the user is a member of its
        conversation who may read it there.
        """

    async def upload(self, blob_id: str) -> BlobRow | None:
        """A file, whoever may see it; None if there is none."""

    async def due_blobs(self, now_ms: int, limit: int) -> list[DueBlob]:
        """What the collector is to look at by now, what is due for longest first; at most `limit`."""
