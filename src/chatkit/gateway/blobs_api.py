"""The HTTP requests about uploaded files: a link to upload or download by, and the bytes behind it.

A link is for whoever holds it, for a few minutes: a browser sends no header with `<img src>`. It is asked for with a
token like everything else. Bytes go both ways in chunks, and a peer that is too slow is cut off. Listed among the
operations of `http_api`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..core.media_types import SHOWN
from ..errors import BadRequestError, InternalError, NotFoundError, RefusedError, UnavailableError
from ..server.blobs.links import Direction, SignedLink
from ..server.blobs.service import Blobs
from ..server.blobs.transfers import Pace
from ..server.committer import NOT_RUNNING
from ..server.server import ChatServer
from ..storage.base import BlobRow
from ..wire import events as ev
from ..wire import http as wire
from .call import Call, checked
from .openapi import Operation
from .problems import problem
from .responder import json_response
from .strangers import reader_of

logger = logging.getLogger(__name__)

UPLOAD_OFFSET: Final = "upload-offset"
"""The header that says where the bytes of an upload begin; none: at the beginning."""

UNREAD_BYTES_MAX: Final = 128 * 1024 * 1024
"""What is thrown away of an upload after its answer: more than the largest file has by default."""

UNREAD_S: Final = 60.0
"""And for how long, of a peer that keeps to its pace."""

UNREAD_MAX: Final = 64
"""Refused uploads that are read on at the same time; of further ones what comes within `_UNREAD_STALL_S` is."""

_UNREAD_STALL_S: Final = 5.0
_UNREAD_BYTES_PER_S: Final = 16 * 1024

_RANGE: Final = re.compile(r"bytes=([0-9]{0,20})-([0-9]{0,20})")
_DIGITS: Final = re.compile(r"[0-9]{1,16}")
_BLOB_ID: Final = re.compile(r"[0-9a-f]{32}")
_HEADERS: Final = {
    "cache-control": "private, no-store",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",  # the signature is what lets a page have it
    "referrer-policy": "no-referrer",
    "accept-ranges": "bytes",
}


class BlobsApi:
    """Handlers of these requests.

    Args:
        server: Whom they ask.
    """

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._refused: set[_EarlyAnswer] = set()

    def operations(self) -> list[Operation]:
        """What there is."""
        content, link = "/v1/blobs/{blob_id}/content", ("user", "bytes", "type", "expires", "signature")
        return [
            Operation("POST", "/v1/blobs", self._upload_link, wire.UploadResult, body=wire.BlobBody),
            Operation("GET", "/v1/blobs/{blob_id}", self._download_link, wire.BlobResult),
            Operation("PUT", content, self._upload, wire.UploadResult, query=link, public=True),
            Operation("GET", content, self._download, None, query=link, public=True),
        ]

    @property
    def _blobs(self) -> Blobs:
        if self._server.blob_service is None:
            raise NotFoundError("this server keeps no files")
        return self._server.blob_service

    async def _upload_link(self, call: Call) -> Response:
        body, blobs = await call.body(wire.BlobBody), self._blobs
        mime = body.mime.partition(";")[0].strip().lower()
        found = await blobs.reserve(call.proof, body.key, body.bytes, mime)
        result = _upload_result(found.row, found.received_bytes)
        if found.url is not None:
            result = wire.UploadResult(
                result.blob_id,
                mime,
                result.bytes,
                "PENDING",
                found.received_bytes,
                found.url,
                found.expires_ms,
            )
        return json_response(result)

    async def _download_link(self, call: Call) -> Response:
        row, url, expires_ms = await self._blobs.link(call.user_id, _blob_id(call.request))
        digest = hashlib.sha256(row.parts).hexdigest()
        return json_response(wire.BlobResult(row.blob_id, row.mime, row.size, url, expires_ms, digest))

    async def _upload(self, request: Request) -> Response:
        body = _Body(request.receive)
        answer = await self._by_link(Request(request.scope, body), "PUT", self._receive)
        return answer if body.ended else _EarlyAnswer(answer, body, self._refused)

    async def _receive(self, request: Request, link: SignedLink) -> Response:
        offset = _number(request.headers.get(UPLOAD_OFFSET, "0"), "the header Upload-Offset")
        length = request.headers.get("content-length")
        expected = None if length is None else _number(length, "the header Content-Length")
        row = await self._blobs.receive(link, offset, expected, request.stream())
        return json_response(_upload_result(row, row.size))

    async def _download(self, request: Request) -> Response:
        return await self._by_link(request, "GET", self._send)

    async def _send(self, request: Request, link: SignedLink) -> Response:
        row = await self._blobs.find(link)
        part = _range(request, row)
        first, last = part or (0, row.size - 1)
        if first > last:
            response = problem(BadRequestError("no byte of the file is in this range"), 416)
            response.headers["content-range"] = f"bytes */{row.size}"
            return response
        return BlobResponse(self._blobs, link.user_id, row, first, last, is_part=part is not None)

    async def _by_link(
        self,
        request: Request,
        direction: Direction,
        handler: Callable[[Request, SignedLink], Awaitable[Response]],
    ) -> Response:
        """The answer to whoever holds a link, or the problem document of what was raised.

        Its signature is the login: until it was looked at, nothing is read for whoever asks.
        """
        try:
            if not self._server.running:
                raise UnavailableError(NOT_RUNNING)
            link = _link(request, direction)
            self._blobs.check(link, request.query_params.get("signature", ""))
            self._server.allowance.request(link.user_id)
            reader_of(request.scope).logged_in()
            return await handler(request, link)
        except RefusedError as error:
            response = problem(error)
        except ClientDisconnect:
            response = Response(status_code=400)
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            response = problem(InternalError("the server failed"))
        return response


class _Body:
    """The body of a request as it comes, and whether all of it has."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.ended = not message.get("more_body", False)
        return message


class _EarlyAnswer(Response):
    """An answer to an upload of which more is to come.

    It leaves at once, and what still comes is thrown away for a while before the connection is closed: closing it on
    bytes that were not read resets it, and a peer that sends all before it reads would not see why it was refused.

    Args:
        answer: What leaves.
        body: What still comes.
        others: The answers of which more is read now.
    """

    def __init__(self, answer: Response, body: _Body, others: set[_EarlyAnswer]) -> None:
        super().__init__(answer.body, answer.status_code)
        self.raw_headers = [*answer.raw_headers, (b"connection", b"close")]
        self._rest, self._others = body, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        seconds = UNREAD_S if len(self._others) < UNREAD_MAX else _UNREAD_STALL_S
        self._others.add(self)
        try:
            with suppress(TimeoutError), anyio.move_on_after(seconds):
                await self._read()
        finally:
            self._others.discard(self)
        await send({"type": "http.response.body", "body": b""})

    async def _read(self) -> None:
        left, pace = UNREAD_BYTES_MAX, Pace(_UNREAD_STALL_S, _UNREAD_BYTES_PER_S)
        while left > 0 and not self._rest.ended:
            with pace.waiting():
                size = len((await self._rest()).get("body", b""))
            pace.moved(size)
            left -= size


class BlobResponse(Response):
    """The bytes first..last of a file, sent in chunks as fast as the peer reads them, within the times of `BlobConfig`.

    A file that cannot be read is a problem document. A peer that does not read, and a part that turns out damaged, end
    it early: the connection is cut, so that nobody takes it for the whole.
    """

    def __init__(
        self, blobs: Blobs, user_id: str, row: BlobRow, first: int, last: int, *, is_part: bool
    ) -> None:
        super().__init__(status_code=206 if is_part else 200, headers=_HEADERS, media_type=row.mime)
        self._blobs = blobs
        self._user_id = user_id
        self._row = row
        self._first, self._last = first, last
        self.headers["content-disposition"] = "inline" if row.mime in SHOWN else "attachment"
        self.headers["content-length"] = str(last - first + 1)
        self.headers["etag"] = _etag(row)
        if is_part:
            self.headers["content-range"] = f"bytes {first}-{last}/{row.size}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        chunks = self._blobs.bytes.read(self._row, self._first, self._last)
        is_begun = False
        try:
            async with self._blobs.transfers.one(self._user_id):
                first = await anext(chunks)
                is_begun = True
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                    await self._send(start, first, chunks, send)
                    tasks.cancel_scope.cancel()
        except RefusedError as error:
            if is_begun:
                logger.info("a download of %s is cut off: %s", self._row.blob_id, error)
            else:
                await problem(error)(scope, receive, send)

    async def _send(
        self, start: Message, first: memoryview, chunks: AsyncIterator[memoryview], send: Send
    ) -> None:
        pace, size = self._blobs.pace(), self._last - self._first + 1
        try:
            with anyio.fail_after(self._blobs.config.deadline_s(size)):
                await _paced(pace, send, start)
                await _paced(pace, send, _body(first))
                async for chunk in chunks:
                    await _paced(pace, send, _body(chunk))
                await _paced(pace, send, {"type": "http.response.body", "body": b""})
        except TimeoutError:
            logger.info("a download of %s is too slow, and is cut off", self._row.blob_id)
        except OSError:
            logger.debug("a peer left a download of %s", self._row.blob_id)
        except RefusedError as error:
            logger.error("a download of %s is cut off: %s", self._row.blob_id, error)


def _body(chunk: memoryview) -> Message:
    return {"type": "http.response.body", "body": bytes(chunk), "more_body": True}


async def _paced(pace: Pace, send: Send, message: Message) -> None:
    with pace.waiting():
        await send(message)
    pace.moved(len(message.get("body", b"")))


async def _until_gone(receive: Receive, sending: anyio.CancelScope) -> None:
    """End a download whose peer has left: uvicorn takes what is sent to nobody without a word."""
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()


def _upload_result(row: BlobRow, received_bytes: int) -> wire.UploadResult:
    return wire.UploadResult(row.blob_id, row.mime, row.size, "READY", received_bytes)


def _link(request: Request, direction: Direction) -> SignedLink:
    query = request.query_params
    return SignedLink(
        direction,
        _blob_id(request),
        checked(query.get("user", ""), ev.Id),
        _number(query.get("bytes", ""), "`bytes`"),
        checked(query.get("type", ""), wire.Mime),
        _number(query.get("expires", ""), "`expires`"),
    )


def _blob_id(request: Request) -> str:
    blob_id: str = request.path_params["blob_id"]
    if not _BLOB_ID.fullmatch(blob_id):
        raise NotFoundError("no such blob", reason="BLOB")
    return blob_id


def _etag(row: BlobRow) -> str:
    """A file never changes."""
    return f'"{row.blob_id}"'


def _number(text: str, what: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise BadRequestError(f"{what} must be a whole number")
    return int(text)


def _range(request: Request, row: BlobRow) -> tuple[int, int] | None:
    """The bytes that are asked for, first..last; None for all of them. None of the file is in it if first > last.

    Several ranges, other units and what is no range are passed over, and so is one of a former file.

    Source: RFC 9110 sections 13.1.5 and 14.2
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or request.headers.get("if-range", _etag(row)) != _etag(row):
        return None
    first, last = match.groups()
    if first:
        end = row.size - 1 if not last else min(int(last), row.size - 1)
        if last and int(last) < int(first):
            return None
        return int(first), end
    if not last:
        return None
    return (max(row.size - int(last), 0), row.size - 1) if int(last) else (1, 0)
