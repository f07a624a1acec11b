"""A file on its way up: where its bytes come from, what it is, and the name that its content has."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ..core.media_types import HEAD_BYTES, likely, may_be
from ..errors import BadRequestError, ConfigurationError

CHUNK_BYTES: Final = 64 * 1024


class Source:
    """Bytes in memory or in a file, read as often as it takes. Made by `opened`.

    Attributes:
        size: How many; the file is not to change meanwhile.
        mime: Their type.
        name: What the file is called; None for bytes without a name.
        key: A name that only these bytes with this type have: the same upload finds itself again, in another process
            too.
    """

    def __init__(
        self, data: bytes | None, path: Path | None, size: int, mime: str, name: str | None, key: str
    ) -> None:
        self._data, self._path = data, path
        self.size, self.mime, self.name, self.key = size, mime, name, key

    async def chunks(self, start: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on."""
        if self._data is not None:
            for at in range(start, self.size, CHUNK_BYTES):
                yield self._data[at : at + CHUNK_BYTES]
            return
        assert self._path is not None
        async with await anyio.open_file(self._path, "rb") as file:
            await file.seek(start)
            left = self.size - start
            while left and (chunk := await file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk


async def opened(source: bytes | str | os.PathLike[str], mime: str | None, name: str | None) -> Source:
    """What is to be uploaded. Reads all of it once, for its name.

    Raises:
        BadRequestError: It is empty, or its content contradicts `mime`.
        ConfigurationError: There is no such file, or it cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return _described(data, None, len(data), data[:HEAD_BYTES], hashlib.sha256(data), mime, name)
    if not isinstance(source, str | os.PathLike):
        raise BadRequestError(f"source must be a path or bytes, not {type(source).__name__}")
    path = Path(source)
    try:
        size, head, digest = await anyio.to_thread.run_sync(_read, path)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise BadRequestError("source: no file can have this name") from None
    return _described(None, path, size, head, digest, mime, name or path.name)


def _read(path: Path) -> tuple[int, bytes, hashlib._Hash]:
    digest, size, head = hashlib.sha256(), 0, b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            head = head or chunk[:HEAD_BYTES]
            size += len(chunk)
            digest.update(chunk)
    return size, head, digest


def _described(
    data: bytes | None,
    path: Path | None,
    size: int,
    head: bytes,
    digest: hashlib._Hash,
    mime: str | None,
    name: str | None,
) -> Source:
    if not size:
        raise BadRequestError("an empty file cannot be uploaded")
    if mime is None:
        mime = likely(head, mimetypes.guess_type(name)[0] if name else None)
    mime = mime.partition(";")[0].strip().lower()
    if not may_be(mime, head):
        raise BadRequestError(f"the content is not of type {mime}", reason="TYPE")
    digest.update(f"\0{mime}".encode())
    return Source(data, path, size, mime, name, digest.hexdigest())
