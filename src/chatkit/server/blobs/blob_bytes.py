"""The bytes of a file: objects of one MiB each, whose names say which part they are and what is in them.

An object is written once under a name that only its content has, so it makes no difference who writes it, how often, or
when: an upload that was cut off goes on behind the parts that are there, and two that run at the same time do not mix.
Which parts a file has stands in the log, in the row that says that it was received as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Final

import anyio.lowlevel

from ...archive.base import LIST_MAX, ArchiveStore, ObjectMissingError
from ...errors import InternalError, UnavailableError
from ...storage.base import BlobRow

PART_BYTES: Final = 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024
"""What is hashed, and handed on, at once."""

_DIGEST_BYTES: Final = 32
_PART = re.compile(r"([0-9a-f]{4})-([0-9a-f]{64})")
_PROBE: Final = "chatkit-may-write"
"""In no folder: one that is removed while another node writes into it would refuse that node."""


def parts_of(size: int) -> int:
    """How many parts a file of this size has."""
    return -(-size // PART_BYTES)


class BlobBytes:
    """Reads and writes the parts of files, in a place for objects."""

    def __init__(self, objects: ArchiveStore) -> None:
        self._objects = objects

    async def check_writable(self) -> None:
        """Write an object and remove it again. Raises ConfigurationError and UnavailableError as the place does."""
        await self._objects.put(_PROBE, b"")
        await self._objects.delete(_PROBE)

    async def put(self, blob_id: str, number: int, digest: bytes, data: bytes) -> None:
        """Store a part, durably. Raises UnavailableError; a retry is safe."""
        await self._objects.put(_name(blob_id, number, digest), data)

    async def get(self, row: BlobRow, number: int) -> bytes:
        """A part of a file that was received.

        Raises:
            InternalError: It is missing, or not what was stored.
            UnavailableError: The place for objects does not answer; a retry is safe.
        """
        digest = row.parts[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]
        try:
            data = await self._objects.get(_name(row.blob_id, number, digest))
        except ObjectMissingError:
            raise InternalError(f"part {number} of the file {row.blob_id} is missing") from None
        if await digest_of(data) != digest:
            raise InternalError(f"part {number} of the file {row.blob_id} is damaged")
        return data

    async def read(self, row: BlobRow, first: int, last: int) -> AsyncIterator[memoryview]:
        """The bytes first..last of a file, in chunks. Raises as `get`, also after some came."""
        for number in range(first // PART_BYTES, last // PART_BYTES + 1):
            data = memoryview(await self.get(row, number))
            start = number * PART_BYTES
            begin, end = max(first - start, 0), min(last + 1 - start, len(data))
            for at in range(begin, end, CHUNK_BYTES):
                yield data[at : min(at + CHUNK_BYTES, end)]

    async def stored(self, blob_id: str) -> list[tuple[int, bytes]]:
        """(number, digest) of all objects of a file, ascending; what others put beside them is none."""
        found: list[tuple[int, bytes]] = []
        after = ""
        while True:
            names = await self._objects.names(_folder(blob_id), after, LIST_MAX)
            for name in names:
                if part := _PART.fullmatch(name, len(_folder(blob_id))):
                    found.append((int(part[1], 16), bytes.fromhex(part[2])))
            if len(names) < LIST_MAX:
                return found
            after = names[-1]

    async def delete(self, blob_id: str, keep: bytes = b"") -> None:
        """Remove the objects of a file, but not those that are parts of it by `keep`. Raises UnavailableError."""
        kept = {(n, keep[at : at + _DIGEST_BYTES]) for n, at in enumerate(range(0, len(keep), _DIGEST_BYTES))}
        for number, digest in await self.stored(blob_id):
            if (number, digest) not in kept:
                await self._objects.delete(_name(blob_id, number, digest))
        if (
            not keep
        ):  # no such object: its folder goes, with what is left of parts that were never there as a whole
            await self._objects.delete(f"{_folder(blob_id)}part")


def received(found: list[tuple[int, bytes]]) -> list[bytes]:
    """The digests of the parts from the first one on that are there, and there once: whatever came twice with another
    content is to be sent again."""
    digests: dict[int, list[bytes]] = {}
    for number, digest in found:
        digests.setdefault(number, []).append(digest)
    whole: list[bytes] = []
    while len(digests.get(len(whole), ())) == 1:
        whole += digests[len(whole)]
    return whole


def refused_for_now(why: str) -> UnavailableError:
    """The answer to a transfer that may be tried again."""
    return UnavailableError(why, retry_after_s=2.0)


async def digest_of(data: bytes) -> bytes:
    """The SHA-256 of a part, made in pieces, so that the event loop does something else between them."""
    digest, view = hashlib.sha256(), memoryview(data)
    for at in range(0, len(view), 4 * CHUNK_BYTES):
        digest.update(view[at : at + 4 * CHUNK_BYTES])
        await anyio.lowlevel.checkpoint()
    return digest.digest()


def _folder(blob_id: str) -> str:
    return f"blobs/{blob_id[:2]}/{blob_id}/"


def _name(blob_id: str, number: int, digest: bytes) -> str:
    return f"{_folder(blob_id)}{number:04x}-{digest.hex()}"
