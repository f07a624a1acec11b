"""Uploads and downloads: by links, in chunks, gone on with where they were cut off. Called by `api` and `client`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec
from msgspec import UNSET

from .._arguments import check_callable
from ..errors import (
    BadRequestError,
    ChatkitError,
    ConflictError,
    ConnectionLostError,
    ForbiddenError,
    NotFoundError,
    ProtocolError,
    TooLargeError,
)
from ..types import Message, Payload
from ..wire import http as wire
from ._files import BLOCK_BYTES, Source, opened
from ._http import Http, path
from ._part import Part, digest_of
from ._retry import Backoff, retry_after_s_of
from .validate import check

OnProgress = Callable[[int, int], object]
"""Called with the bytes that are through and those of the whole file, again and again; must not block."""

MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
"""What is downloaded into memory; larger files need a path."""

_FUTILE_MAX: Final = 5
_LINK: Final = "/v1/blobs/"


class Upload(msgspec.Struct, frozen=True):
    """A file that was uploaded, and may be sent.

    Attributes:
        blob_id: Its name on the server.
        mime: Its type.
        size: Its bytes.
        name: What it is called; None: nothing.
    """

    blob_id: str
    mime: str
    size: int
    name: str | None = None

    def payload(self) -> Payload:
        """The payload of a message that shows it: IMAGE, VOICE, or FILE for all else. More fields may be added."""
        kinds = {"image": "IMAGE", "audio": "VOICE"}
        kind = kinds.get(self.mime.partition("/")[0], "FILE")
        named = {} if self.name is None else {"name": self.name[:1024]}
        return {"type": kind, "blobId": self.blob_id, "mime": self.mime, "bytes": self.size, **named}


class Media:
    """The files of one login.

    Args:
        http: Makes the requests.
        backoff: Waits between tries.
    """

    def __init__(self, http: Http, backoff: Backoff) -> None:
        self._http = http
        self._backoff = backoff

    async def upload(
        self,
        source: bytes | str | os.PathLike[str],
        mime: str | None,
        name: str | None,
        on_progress: OnProgress | None,
    ) -> Upload:
        """See `ChatClient.upload`."""
        _check_progress(on_progress)
        check(mime, wire.Mime | None, "mime")
        check(name, str | None, "name")
        file = await opened(source, mime, name)
        tries = _Tries(self._backoff)
        while True:
            body = wire.BlobBody(file.key, file.size, file.mime)
            found = await self._http.call("POST", "/v1/blobs", wire.UploadResult, body=body)
            if found.state == "PENDING":
                tries.reached(found.received_bytes)
                try:
                    found = await self._put(file, found, on_progress)
                except ChatkitError as error:
                    await tries.failed(error)
                    continue
            if on_progress is not None:
                on_progress(file.size, file.size)
            return Upload(found.blob_id, found.mime, found.bytes, file.name)

    async def _put(
        self, file: Source, found: wire.UploadResult, on_progress: OnProgress | None
    ) -> wire.UploadResult:
        start = found.received_bytes
        if found.url is UNSET or not 0 <= start < file.size:
            raise ProtocolError("the server gives no way to upload by")

        async def chunks() -> AsyncIterator[bytes]:
            through = start
            async for chunk in file.chunks(start):
                yield chunk
                through += len(chunk)
                if on_progress is not None:
                    on_progress(through, file.size)

        headers = {"content-length": str(file.size - start), "upload-offset": str(start)}
        return await self._http.put(_link(found.url), chunks(), headers, wire.UploadResult)

    async def download(
        self, what: Message | str, to: str | os.PathLike[str] | None, on_progress: OnProgress | None
    ) -> bytes | Path:
        """See `ChatClient.download`."""
        _check_progress(on_progress)
        blob_id = what.payload.get("blobId") if isinstance(what, Message) else what
        if isinstance(what, Message) and not isinstance(blob_id, str):
            raise BadRequestError("this message names no uploaded file")
        check(blob_id, wire.BlobId, "message")
        assert isinstance(blob_id, str)
        if to is not None and not isinstance(to, str | os.PathLike):
            raise BadRequestError("to must be a path, or None for bytes")
        if to is not None and not Path(to).name:
            raise BadRequestError("to must be the path of a file")
        target = _Memory() if to is None else Part(Path(to), blob_id)
        is_gone = False
        try:
            await target.open()
            await self._fetch(blob_id, target, on_progress)
            return await target.done()
        except (NotFoundError, ForbiddenError):
            is_gone = True
            raise
        finally:
            target.close(forget=is_gone)

    async def _fetch(self, blob_id: str, target: _Memory | Part, on_progress: OnProgress | None) -> None:
        tries = _Tries(self._backoff)
        while True:
            found = await self._http.call("GET", path("blobs", blob_id), wire.BlobResult)
            try:
                return await self._get(found, target, on_progress)
            except ChatkitError as error:
                tries.reached(target.received)
                await tries.failed(error)

    async def _get(
        self, found: wire.BlobResult, target: _Memory | Part, on_progress: OnProgress | None
    ) -> None:
        await target.begin(found.bytes)
        if target.received < found.bytes:
            await self._rest(found, target, on_progress)
        if isinstance(found.digest, str) and await target.digest() != found.digest:
            await target.restart()
            raise ConnectionLostError("what came is not what the server has: it was damaged on the way")

    async def _rest(
        self, found: wire.BlobResult, target: _Memory | Part, on_progress: OnProgress | None
    ) -> None:
        headers = {"range": f"bytes={target.received}-"} if target.received else {}
        async with self._http.get(_link(found.url), headers) as (status, chunks):
            if status != 206:
                await target.restart()
            async for chunk in chunks:
                if target.received + len(chunk) > found.bytes:
                    raise ProtocolError("the file is larger than the server said")
                await target.write(chunk)
                if on_progress is not None:
                    on_progress(target.received, found.bytes)
        if target.received != found.bytes:
            raise ProtocolError("the file ends too early")


class _Tries:
    """How often in a row a transfer was tried without getting any further."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._farthest = -1
        self._futile = 0

    def reached(self, received: int) -> None:
        """So much is through."""
        if received > self._farthest:
            self._farthest, self._futile = received, 0

    async def failed(self, error: ChatkitError) -> None:
        """Wait for the next try; raises the error if another one cannot help, or as many got no further."""
        self._futile += 1
        may_help = error.retryable or isinstance(error, ConflictError)  # ask where to go on
        may_help = may_help or (isinstance(error, ForbiddenError) and error.reason == "LINK")
        if not may_help or self._futile >= _FUTILE_MAX:
            raise error
        await anyio.sleep(self._backoff.delay_s(self._futile, retry_after_s_of(error)))


class _Memory:
    """A download into memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def received(self) -> int:
        return len(self._data)

    async def open(self) -> None:
        pass

    async def begin(self, size: int) -> None:
        if size > MEMORY_BYTES_MAX:
            raise TooLargeError(f"a file of {size} bytes is downloaded to a path; give `to`")

    async def restart(self) -> None:
        self._data.clear()

    async def write(self, chunk: bytes) -> None:
        self._data += chunk

    async def digest(self) -> str:
        data, starts = memoryview(self._data), range(0, len(self._data), BLOCK_BYTES)
        return await anyio.to_thread.run_sync(digest_of, (data[at : at + BLOCK_BYTES] for at in starts))

    async def done(self) -> bytes:
        return bytes(self._data)

    def close(self, *, forget: bool) -> None:
        pass


def _check_progress(on_progress: object) -> None:
    if on_progress is not None:
        check_callable("on_progress", on_progress, "a callable of two numbers")


def _link(url: str) -> str:
    """A link of the server's own: nothing is fetched from elsewhere, whoever says so. Raises ProtocolError."""
    if not url.startswith(_LINK):
        raise ProtocolError("the server gave a link that is not its own")
    return url
