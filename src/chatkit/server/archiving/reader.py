"""Reads of a log whose older bodies are in an archive: the store's pages, with those bodies put in.

A reader sees no border. What the store says of an entry (who may see it, that it was recalled) holds; the archive only
gives bodies. Its reads never hold a connection of the store, and are bounded in number, in time and in what is kept of
them; while it does not answer, only pages that need it are refused. Called by `sync`, `reconcile` and `host_sends`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import anyio
from msgspec.structs import replace

from ..._abilities import offers
from ...archive.base import ArchiveStore, ObjectMissingError
from ...archive.format import DamagedObjectError
from ...core.log.cold import ColdRange
from ...core.log.reads import last_that_fits
from ...errors import RefusedError, UnavailableError
from ...storage.base import Entry, LogReader, Page
from ...storage.cold import Archivable
from .config import ArchiveConfig
from .kept import Bodies, KeptBodies
from .objects import RETRY_AFTER_S, ArchiveObjects

logger = logging.getLogger(__name__)

_Whole = TypeVar("_Whole")

_TRIES: Final = 3


class ArchiveReader:
    """`page` and `entries` of a store, with the bodies that are in its archive.

    Args:
        store: The log.
        archive: Where its bodies are; None: then it should have none there, and a page that needs one is refused.
        config: Bounds.
    """

    def __init__(self, store: LogReader, archive: ArchiveStore | None, config: ArchiveConfig) -> None:
        self._log = store
        self._cold = store.cold if offers(store, Archivable) else None
        self._objects = None if archive is None else ArchiveObjects(archive, threads=config.threads)
        self._config = config
        self._turns: anyio.Semaphore | None = None
        self._waiting = 0
        self._loading: dict[str, anyio.Event] = {}
        self._kept = KeptBodies(config.cache_bytes)

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
        *,
        history: bool = False,
    ) -> Page:
        """As `LogReader.page`, with all bodies.

        Raises:
            NotFoundError: As there.
            UnavailableError: The archive does not answer, or has lost what it must have; a retry is safe.
        """

        async def read() -> tuple[Page, Sequence[Entry]]:
            page = await self._log.page(
                conversation_id, user_id, after_seq, limit, bytes_max, history=history
            )
            return page, page.entries

        page, entries = await self._filled(conversation_id, read)
        return page if entries is page.entries else _cut(page, entries, bytes_max)

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
        """As `LogReader.entries`, with all bodies. Raises as `page` does."""

        async def read() -> tuple[None, Sequence[Entry]]:
            return None, await self._log.entries(conversation_id, after_seq, limit)

        _, entries = await self._filled(conversation_id, read)
        return list(entries)

    def forget(self, name: str) -> None:
        """Keep nothing of an object, which was written anew without what had to go."""
        self._kept.drop(name)

    async def _filled(
        self, conversation_id: str, read: Callable[[], Awaitable[tuple[_Whole, Sequence[Entry]]]]
    ) -> tuple[_Whole, Sequence[Entry]]:
        """What `read` returns, its entries with their bodies. It is read again if bodies moved in between."""
        for _ in range(_TRIES):
            whole, entries = await read()
            missing = [it.seq for it in entries if not it.payload]
            if not missing:
                return whole, entries
            bodies = await self._bodies(conversation_id, missing)
            if all(seq in bodies for seq in missing):
                return whole, [it if it.payload else replace(it, payload=bodies[it.seq]) for it in entries]
        logger.error("the archive has not all bodies of %s that its log says it has", conversation_id)
        raise _unavailable()

    async def _bodies(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, bytes]:
        """The bodies of these entries, as far as the archive has them."""
        if self._objects is None or self._cold is None:
            logger.error("%s has entries in an archive, and this server was given none", conversation_id)
            raise _unavailable()
        found: dict[int, bytes] = {}
        with anyio.move_on_after(self._config.read_timeout_s):
            for it in await self._cold.covering(conversation_id, seqs[0], seqs[-1]):
                found.update(await self._of_range(self._objects, it))
            return found
        logger.warning("the archive took longer than %s s for a page", self._config.read_timeout_s)
        raise _unavailable()

    async def _of_range(self, objects: ArchiveObjects, it: ColdRange) -> Bodies:
        """The bodies of an object, read once for all who ask for them at the same time."""
        while (loading := self._loading.get(it.name)) is not None:
            await loading.wait()
        kept = self._kept.get(it.name)
        return kept if kept is not None else await self._load(objects, it)

    async def _load(self, objects: ArchiveObjects, it: ColdRange) -> Bodies:
        if self._waiting >= self._config.reads_waiting:
            raise _unavailable()
        if self._turns is None:  # made in the event loop that it belongs to
            self._turns = anyio.Semaphore(self._config.reads)
        done = self._loading[it.name] = anyio.Event()
        self._waiting += 1
        try:
            async with self._turns:
                bodies = await self._read(objects, it)
        finally:
            self._waiting -= 1
            del self._loading[it.name]
            done.set()
        self._kept.put(it.name, bodies)
        return bodies

    async def _read(self, objects: ArchiveObjects, it: ColdRange) -> Bodies:
        try:
            return await objects.bodies(it)
        except ObjectMissingError:  # written anew in between, or lost: the log is asked again
            return {}
        except DamagedObjectError as error:
            logger.error("the archive is damaged: %s", error)
            raise _unavailable() from None
        except RefusedError:
            raise
        except Exception as error:  # of set-up: for a user it is as if the archive did not answer
            logger.exception("the archive cannot be read")
            raise _unavailable() from error


def _cut(page: Page, entries: Sequence[Entry], bytes_max: int) -> Page:
    """The page with its bodies, and without those for which there is no room any more."""
    last = last_that_fits(((it.seq, len(it.payload)) for it in entries), bytes_max)
    assert last is not None, "an entry was missing its body"
    if last == entries[-1].seq:
        return replace(page, entries=tuple(entries))
    kept = tuple(it for it in entries if it.seq <= last)
    return replace(page, entries=kept, up_to_seq=last, more=True)


def _unavailable() -> UnavailableError:
    return UnavailableError("older messages cannot be read right now", retry_after_s=RETRY_AFTER_S)
