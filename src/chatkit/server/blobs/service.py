"""Uploaded files as a part of a server. Called by `gateway.blobs_api`; the collector runs beside it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import anyio
import msgspec

from ..._abilities import offers
from ...archive.base import ArchiveStore
from ...core.media_types import HEAD_BYTES, may_be
from ...errors import (
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from ...ports import Ports
from ...storage.base import (
    BlobReader,
    BlobReserved,
    BlobRow,
    BlobsCollected,
    CollectBlobs,
    Done,
    FinishBlob,
    ForgetBlobs,
    ReserveBlob,
    Store,
)
from ..engine import Engine
from ..proof import Proof
from ..read_gate import ReadGate
from .blob_bytes import PART_BYTES, BlobBytes, digest_of, parts_of, received, refused_for_now
from .config import BlobConfig
from .links import Direction, Links, SignedLink, refused_link
from .transfers import Pace, Transfers
from .unfinished import Unfinished, UnfinishedUploads

logger = logging.getLogger(__name__)

_DUE_PER_TURN: Final = 25
_HELD_MS: Final = 600_000


class Reservation(msgspec.Struct, frozen=True):
    """A file that is to be uploaded, or was.

    Attributes:
        received_bytes: How much of it is there: where to go on.
        url: Where to put the rest; None once all of it is there.
        expires_ms: When that link ends.
    """

    row: BlobRow
    received_bytes: int
    url: str | None
    expires_ms: int


class Blobs:
    """The uploaded files of a log.

    Args:
        store: The log.
        objects: Where their bytes are.
        config: Bounds and times.
        engine: Carries out what changes the log.
        reads: Whose turn it is to read.
        is_banned: Whether a user may not be here.
        ports: Time and random names.

    Raises:
        ConfigurationError: The store cannot keep files.
    """

    def __init__(
        self,
        store: Store,
        objects: ArchiveStore,
        config: BlobConfig,
        engine: Engine,
        reads: ReadGate,
        is_banned: Callable[[str], bool],
        ports: Ports,
    ) -> None:
        if not offers(store, BlobReader):
            raise ConfigurationError("this store cannot keep uploaded files (BlobReader)")
        self._store: BlobReader = store
        self.config = config
        self._engine = engine
        self._reads = reads
        self._is_banned = is_banned
        self._ports = ports
        self.bytes = BlobBytes(objects)
        self.transfers = Transfers(config.transfers_max, config.transfers_per_user)
        self._unfinished = UnfinishedUploads(self.bytes)
        self._links = Links(b"")

    async def start(self, secret: bytes) -> None:
        """Take the log's secret, known once the store is open, and see that the place for files takes one.

        Raises:
            ConfigurationError: It does not. A place that gives no answer now is no reason: it may come back.
        """
        key = self.config.link_key
        self._links = Links(secret if key is None else key.encode())
        try:
            await self.bytes.check_writable()
        except ConfigurationError as error:
            raise ConfigurationError(f"files cannot be kept (`blobs=`, --blobs): {error}") from None
        except UnavailableError as error:
            logger.warning("files cannot be kept now, uploads are refused until they can: %s", error)

    # --- links ---

    async def reserve(self, proof: Proof, upload_key: str, size: int, mime: str) -> Reservation:
        """Room for a file of the user, or the one that the key made; with a link to upload by.

        Raises:
            BadRequestError: No such size.
            TooLargeError: Larger than a file may be.
            ConflictError: The key made a file of another size or type.
            QuotaError: The user has too much already.
            UnavailableError: Storage refused; a retry with the same key is safe.
        """
        if size > self.config.size_max:
            raise TooLargeError(f"a file has at most {self.config.size_max} bytes")
        blob_id = self._ports.ids.token_bytes(16).hex()
        now_ms = self._ports.clock.now_ms()
        bounds = (self.config.quota_bytes, self.config.keep_ms)
        command = ReserveBlob(blob_id, proof.user_id, upload_key, size, mime, now_ms, *bounds)
        row = (await self._engine.execute(command, BlobReserved, proof)).row
        if row.state == "READY":
            return Reservation(row, row.size, None, 0)
        there = [] if row.blob_id == blob_id else received(await self.bytes.stored(row.blob_id))
        url, expires_ms = self._link("PUT", row, proof.user_id)
        return Reservation(row, min(len(there), parts_of(row.size) - 1) * PART_BYTES, url, expires_ms)

    async def link(self, user_id: str, blob_id: str) -> tuple[BlobRow, str, int]:
        """A file, with a link to download it by and when that ends.

        Raises:
            NotFoundError: There is no such file, or no message that the user sees names it.
        """
        row = await self._seen(user_id, blob_id)
        return (row, *self._link("GET", row, user_id))

    def _link(self, direction: Direction, row: BlobRow, user_id: str) -> tuple[str, int]:
        expires_ms = self._ports.clock.now_ms() + round(self.config.link_s * 1000)
        link = SignedLink(direction, row.blob_id, user_id, row.size, row.mime, expires_ms)
        return self._links.make(link), expires_ms

    def check(self, link: SignedLink, signature: str) -> None:
        """Whether a link was made here, and still holds; nothing is looked up. Raises ForbiddenError."""
        self._links.check(link, signature, self._ports.clock.now_ms())
        if self._is_banned(link.user_id):
            raise refused_link()

    async def _upload_of(self, link: SignedLink) -> BlobRow:
        row = await self._store.upload(link.blob_id)
        if row is None or row.state == "GOING" or not link.is_of(row):
            raise NotFoundError("this upload is gone; begin again", reason="BLOB")
        return row

    async def _seen(self, user_id: str, blob_id: str) -> BlobRow:
        async with self._reads.turn(user_id):
            row = await self._store.blob(blob_id, user_id)
        if row is None or row.state != "READY":
            raise NotFoundError("no such blob", reason="BLOB")
        return row

    # --- bytes ---

    async def receive(
        self, link: SignedLink, offset: int, length: int | None, chunks: AsyncIterator[bytes]
    ) -> BlobRow:
        """Take the bytes of a file from `offset` to its end. What was received as a whole stays as it is.

        When this returns the file outlives a power cut. When it raises, what came in whole parts is kept, and an upload
        may go on there.

        Args:
            link: To what file; one that `check` let through.
            offset: Where they begin: a multiple of `PART_BYTES` before which all is there.
            length: How many the peer says will come, if it does.
            chunks: What comes.

        Raises:
            NotFoundError: It was removed meanwhile; begin again.
            BadRequestError: There are fewer or more bytes than were reserved, or they are of another type.
            ConflictError: The bytes before `offset` are not there; ask where to go on. Or the file was sent too often
                with other contents.
            UnavailableError: The peer was too slow, its place went to somebody with fewer, or there is no room for
                objects; a retry is safe.
            OverloadedError, RateLimitedError: Too many transfers; a retry is safe.
        """
        row = await self._upload_of(link)
        if row.state == "READY":
            return row
        if length is not None and length != row.size - offset:
            raise BadRequestError(f"{row.size - offset} bytes are to come, not {length}")
        async with self.transfers.one(row.owner_id), self._unfinished.one(row) as upload:
            row = await self._upload_of(link)  # it may have been finished while this one waited for its place
            if row.state == "READY":
                return row
            digests = upload.go_on(offset, await self.bytes.stored(row.blob_id))
            try:
                with anyio.fail_after(self.config.deadline_s(row.size - offset)):
                    await self._take(row, upload, digests, chunks)
            except TimeoutError:
                raise refused_for_now("the upload is too slow; go on where it was cut off") from None
            with anyio.CancelScope(shield=True):  # all is there: who needs this place waits for one commit
                done = await self._engine.execute(FinishBlob(row.blob_id, b"".join(digests)), BlobReserved)
            upload.parts = done.row.parts
        return done.row

    def pace(self) -> Pace:
        """How fast the peer of one transfer has to be."""
        return Pace(self.config.stall_s, self.config.bytes_per_s_min)

    async def _take(
        self, row: BlobRow, upload: Unfinished, digests: list[bytes], chunks: AsyncIterator[bytes]
    ) -> None:
        """Store all parts that come, and add their digests."""
        part, pace = bytearray(), self.pace()
        left = row.size - len(digests) * PART_BYTES
        while left:
            chunk = await _next(chunks, pace)
            if chunk is None:
                raise BadRequestError(f"the file ends {left} bytes too early")
            left -= len(chunk)
            if left < 0:
                raise BadRequestError("the file is larger than was said")
            part += chunk
            while len(part) >= PART_BYTES or (part and not left):
                whole = bytes(part[:PART_BYTES])
                del part[:PART_BYTES]
                if not digests and not may_be(row.mime, whole[:HEAD_BYTES]):
                    raise BadRequestError(f"the content is not of type {row.mime}", reason="TYPE")
                digests.append(await self._put(row, upload, len(digests), whole))
        if await _next(chunks, pace):
            raise BadRequestError("the file is larger than was said")

    async def _put(self, row: BlobRow, upload: Unfinished, number: int, part: bytes) -> bytes:
        digest = await digest_of(part)
        upload.reserve(number, digest)
        await self.bytes.put(row.blob_id, number, digest, part)
        return digest

    async def find(self, link: SignedLink) -> BlobRow:
        """The file that a link is for, if its user still sees a message that names it.

        Raises:
            NotFoundError: Every message that named it was recalled, or the user left.
        """
        return await self._seen(link.user_id, link.blob_id)

    # --- what nothing names ---

    async def collect(self) -> None:
        """Remove files that nothing names. Whatever interrupts it, the next turn goes on.

        Raises:
            UnavailableError: Storage refused.
        """
        while True:
            now_ms = self._ports.clock.now_ms()
            due = await self._store.due_blobs(now_ms, _DUE_PER_TURN)
            if not due:
                return
            command = CollectBlobs(tuple(due), now_ms, _HELD_MS, self.config.grace_ms)
            found = await self._engine.execute(command, BlobsCollected)
            removable = (*found.going, *(it.blob_id for it in found.gone))
            stuck = await self._remove(removable)
            if found.gone:
                gone = tuple(it for it in found.gone if it.blob_id not in stuck)
                late = tuple(it for it in found.gone if it.blob_id in stuck)
                await self._engine.execute(ForgetBlobs(gone, late, now_ms), Done)
            if removed := {*found.going} - stuck:
                logger.info("removed %d uploaded files that nothing names", len(removed))
            if len(due) < _DUE_PER_TURN or (stuck and stuck.issuperset(removable)):  # the place may be down
                return

    async def _remove(self, blob_ids: Iterable[str]) -> set[str]:
        """Remove the objects of files; those of which some stay, for whatever reason, keep no other one."""
        stuck: set[str] = set()
        for blob_id in blob_ids:
            try:
                await self.bytes.delete(blob_id)
            except (ConfigurationError, UnavailableError) as error:
                logger.warning(
                    "the file %s cannot be removed now, and is tried again later: %s", blob_id, error
                )
                stuck.add(blob_id)
        return stuck


async def _next(chunks: AsyncIterator[bytes], pace: Pace) -> bytes | None:
    """What comes next; None at the end."""
    with pace.waiting():
        async for chunk in chunks:
            if chunk:
                pace.moved(len(chunk))
                return chunk
    return None
