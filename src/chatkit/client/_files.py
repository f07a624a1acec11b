"""A file on its way up: where its bytes come from, what it is, and the name that its content has."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread
import msgspec

from ..core.media_types import HEAD_BYTES, likely, may_be
from ..errors import BadRequestError, ConfigurationError

CHUNK_BYTES: Final = 64 * 1024
BLOCK_BYTES: Final = 1024 * 1024
"""What is read again and compared before any of it is sent; less than this is hashed at once."""

_Result = TypeVar("_Result")


class Source:
    """Bytes in memory or in a file, read as often as it takes. Made by `opened`.

    Attributes:
        size: How many.
        mime: Their type.
        name: What the file is called; None for bytes without a name.
        key: A name that only these bytes with this type have: the same upload finds itself again, in another process
            too.
    """

    def __init__(
        self, data: bytes | None, path: Path | None, read: _Read, mime: str, name: str | None
    ) -> None:
        self._data, self._path, self._blocks = data, path, read.blocks
        self.size, self.mime, self.name = read.size, mime, name
        digest = read.digest.copy()
        digest.update(f"\0{mime}".encode())
        self.key = digest.hexdigest()

    async def chunks(self, start: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on, and no other ones than `key` is the name of.

        Raises:
            ConfigurationError: The file has changed or cannot be read any more.
        """
        for number in range(start // BLOCK_BYTES, -(-self.size // BLOCK_BYTES)):
            block = await self._block(number)
            for at in range(max(start - number * BLOCK_BYTES, 0), len(block), CHUNK_BYTES):
                yield block[at : at + CHUNK_BYTES]

    async def _block(self, number: int) -> bytes:
        start = number * BLOCK_BYTES
        path = self._path
        if path is None:
            assert self._data is not None
            return self._data[start : start + BLOCK_BYTES]
        is_last = start + BLOCK_BYTES >= self.size
        block, digest = await _in_thread(path, lambda: _block_of(path, start, is_last))
        if digest != self._blocks[number]:
            raise ConfigurationError(f"{path} changed while it was uploaded; upload it again")
        return block


class _Read(msgspec.Struct, frozen=True):
    """What reading all of a file told."""

    size: int
    head: bytes
    digest: hashlib._Hash
    blocks: list[bytes]
    """The SHA-256 of each block of a file; none of bytes in memory."""


async def opened(source: bytes | str | os.PathLike[str], mime: str | None, name: str | None) -> Source:
    """What is to be uploaded. Reads all of it once, for its name.

    Raises:
        BadRequestError: It is empty, its content contradicts `mime`, or its name is no text.
        ConfigurationError: There is no such file, or it cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        sha256 = hashlib.sha256
        digest = sha256(data) if len(data) <= BLOCK_BYTES else await anyio.to_thread.run_sync(sha256, data)
        return _described(data, None, _Read(len(data), data[:HEAD_BYTES], digest, []), mime, _text(name))
    if not isinstance(source, str | os.PathLike):
        raise BadRequestError(f"source must be a path or bytes, not {type(source).__name__}")
    path = Path(source)
    name = _text(name or path.name)
    return _described(None, path, await _in_thread(path, lambda: _read(path)), mime, name)


def _text(name: str | None) -> str | None:
    """A name that a message can carry. Raises BadRequestError."""
    try:
        (name or "").encode()
    except UnicodeEncodeError:
        raise BadRequestError("the name of the file is not UTF-8; give another as `name`") from None
    return name


async def _in_thread(path: Path, work: Callable[[], _Result]) -> _Result:
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise BadRequestError("source: no file can have this name") from None


def _read(path: Path) -> _Read:
    digest, size, head = hashlib.sha256(), 0, b""
    blocks: list[bytes] = []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            head = head or block[:HEAD_BYTES]
            size += len(block)
            digest.update(block)
            blocks.append(hashlib.sha256(block).digest())
    return _Read(size, head, digest, blocks)


def _block_of(path: Path, start: int, is_last: bool) -> tuple[bytes, bytes]:
    """A block and its digest; the last with what came behind it meanwhile."""
    with path.open("rb") as file:
        file.seek(start)
        block = file.read(BLOCK_BYTES + is_last)
    return block, hashlib.sha256(block).digest()


def _described(
    data: bytes | None, path: Path | None, read: _Read, mime: str | None, name: str | None
) -> Source:
    if not read.size:
        raise BadRequestError("an empty file cannot be uploaded")
    if mime is None:
        mime = likely(read.head, mimetypes.guess_type(name)[0] if name else None)
    mime = mime.partition(";")[0].strip().lower()
    if not may_be(mime, read.head):
        raise BadRequestError(f"the content is not of type {mime}", reason="TYPE")
    return Source(data, path, read, mime, name)
