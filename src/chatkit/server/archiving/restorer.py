"""Puts bodies back from the archive into the log: for whoever gives up archiving, or moves to another archive.

A conversation comes back from its newest range down, each range checked by its digest before its first body is written;
an object is removed once all of its bodies are durable in the log. Called by `chatkit archive restore`.
"""

from __future__ import annotations

import logging

import msgspec

from ...archive.base import ArchiveStore
from ...archive.format import DamagedObjectError, log_name
from ...core.log.cold import ColdRange
from ...errors import ConflictError, UnavailableError
from ...ports import Ports
from ...storage.cold import ColdStore
from .objects import ArchiveObjects
from .ownership import Ownership

logger = logging.getLogger(__name__)

_AT_ONCE = 500


class Restored(msgspec.Struct):
    """What came back.

    Attributes:
        entries: Entries whose bodies are in the log again.
        objects: Objects that are gone from the archive.
        failed: Conversations of which an object is lost or damaged; what is older in them stayed in the archive.
    """

    entries: int = 0
    objects: int = 0
    failed: list[str] = msgspec.field(default_factory=list)


class Restorer:
    """Puts back what is in an archive; no archiver may run on the log meanwhile.

    Args:
        cold: The log.
        archive: Where its bodies are.
        secret: The log's; its objects are named after it.
        ports: Random names.
    """

    def __init__(self, cold: ColdStore, archive: ArchiveStore, secret: bytes, ports: Ports) -> None:
        self._cold = cold
        self._archive = archive
        self._objects = ArchiveObjects(archive, threads=True)
        self._ownership = Ownership(cold, archive, log_name(secret), ports.ids)

    async def run(self, conversation_id: str | None = None) -> Restored:
        """Put everything back, or one conversation. Started again it goes on where it ended.

        Raises:
            UnavailableError: The store or the archive refused.
            ConflictError: Somebody archives this log at the same time.
            ConfigurationError: The archive belongs to another copy of this log.
        """
        await self._ownership.prove(claim=False)
        done = Restored()
        after_key = 0
        while ranges := await self._next(conversation_id, after_key):
            await self._conversation(ranges, done)
            after_key = ranges[0].conversation_key
            if conversation_id is not None:
                break
        return done

    async def _next(self, conversation_id: str | None, after_key: int) -> list[ColdRange]:
        """All ranges of the next conversation, ascending."""
        if conversation_id is not None:
            return await self._cold.covering(conversation_id, 1, 2**53)
        first = await self._cold.ranges((after_key, 2**53), 1)
        return await self._cold.covering(first[0].conversation_id, 1, 2**53) if first else []

    async def _conversation(self, ranges: list[ColdRange], done: Restored) -> None:
        try:
            for it in reversed(ranges):
                await self._range(it, done)
        except DamagedObjectError as error:
            logger.error("%s", error)
            done.failed.append(ranges[0].conversation_id)
        except UnavailableError as error:
            logger.error("%s: %s", ranges[0].conversation_id, error)
            done.failed.append(ranges[0].conversation_id)

    async def _range(self, it: ColdRange, done: Restored) -> None:
        bodies = await self._objects.bodies(it)
        while count := await self._cold.restore(it, bodies):
            done.entries += count
        if not await self._cold.forget(it):
            raise ConflictError(f"{it.conversation_id} is being archived at the same time; end that first")
        await self._archive.delete(it.name)
        done.objects += 1
