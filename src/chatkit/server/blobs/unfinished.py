"""The files that are being uploaded here: how many objects each may have, however many requests send it at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...errors import ConflictError
from ...storage.base import BlobRow
from .blob_bytes import PART_BYTES, BlobBytes, parts_of, received


class Unfinished:
    """A file that is being uploaded, by one request or several.

    The same bytes have the same names, so whoever sends them again takes no more room. Other bytes under the same
    names would: of those there are at most as many again as the file has parts.
    """

    def __init__(self, row: BlobRow) -> None:
        self._row = row
        self._objects: set[tuple[int, bytes]] = set()
        self.senders = 0
        self.parts: bytes | None = None
        """The digests of the parts, once somebody sent all of them."""

    def go_on(self, offset: int, found: list[tuple[int, bytes]]) -> list[bytes]:
        """The digests of the parts before an offset. Raises ConflictError if they are not all there.

        Args:
            offset: Where the sender goes on.
            found: The objects that there are.
        """
        self._objects.update(found)
        there = received(found)
        if offset % PART_BYTES or offset // PART_BYTES > min(len(there), parts_of(self._row.size) - 1):
            raise ConflictError("the bytes before this offset are not there; ask where to go on")
        return there[: offset // PART_BYTES]

    def reserve(self, number: int, digest: bytes) -> None:
        """Take room for an object before it is written. Raises ConflictError where there is none."""
        if (number, digest) not in self._objects and len(self._objects) >= 2 * parts_of(self._row.size):
            raise ConflictError(
                "this upload was sent too often with other contents; begin again with another key"
            )
        self._objects.add((number, digest))


class UnfinishedUploads:
    """The uploads that run on this node.

    Args:
        objects: The bytes of files.
    """

    def __init__(self, objects: BlobBytes) -> None:
        self._objects = objects
        self._running: dict[str, Unfinished] = {}

    @asynccontextmanager
    async def one(self, row: BlobRow) -> AsyncIterator[Unfinished]:
        """What all requests that send this file share. The last of them removes what the whole file does not need.

        Raises:
            UnavailableError: The place for objects refused.
        """
        upload = self._running.setdefault(row.blob_id, Unfinished(row))
        upload.senders += 1
        try:
            yield upload
        finally:
            upload.senders -= 1
            if not upload.senders:
                del self._running[row.blob_id]
                if upload.parts is not None:
                    await self._objects.delete(row.blob_id, upload.parts)
