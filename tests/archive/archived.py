"""A store of which everything cold is in an archive, as a server's reads see it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import anyio.lowlevel

from chatkit._abilities import offers
from chatkit.archive.base import ArchiveStore
from chatkit.archive.memory import MemoryArchive
from chatkit.ports import Ports
from chatkit.server.archiving.archiver import Archiver
from chatkit.server.archiving.config import ArchiveConfig
from chatkit.server.archiving.reader import ArchiveReader
from chatkit.server.archiving.restorer import Restorer
from chatkit.storage import base
from chatkit.storage.cold import Archivable
from chatkit.testing.contracts.storage_commands import NOW
from tests.storage.ids import seeded_ids

SECRET = b"s" * 32
LATER_MS = NOW + 10_000_000
"""When all of a history is old."""


class StandingClock:
    def __init__(self, now_ms: int = LATER_MS) -> None:
        self.ms = now_ms

    def now_s(self) -> float:
        return self.ms / 1000

    def now_ms(self) -> int:
        return self.ms


def tiny(**changes: Any) -> ArchiveConfig:
    """Everything but the head is cold; objects of few entries; steps of one or two."""
    settings = {
        "after_s": 1.0,
        "keep_entries": 1,
        "object_entries": 3,
        "object_entries_min": 1,
        "move_entries": 2,
        "pause_s": 0.0,
        "threads": False,
    }
    return ArchiveConfig(**{**settings, **changes})


def archiver_of(
    store: Any,
    archive: ArchiveStore,
    config: ArchiveConfig | None = None,
    *,
    clock: StandingClock | None = None,
    **more: Any,
) -> Archiver:
    assert offers(store, Archivable)
    ports = Ports(clock=clock or StandingClock(), ids=seeded_ids(random.randrange(1 << 30)))
    return Archiver(store.cold, archive, SECRET, config or tiny(), ports, **more)


def objects_in(archive: MemoryArchive) -> dict[str, bytes]:
    """What is in an archive, but for the mark that says whose it is."""
    return {name: data for name, data in archive.objects.items() if not name.endswith("/owner")}


def restorer_of(store: Any, archive: ArchiveStore) -> Restorer:
    return Restorer(store.cold, archive, SECRET, Ports(ids=seeded_ids(random.randrange(1 << 30))))


class ArchivedStore:
    """Passes everything on to a store; archives after commits, now and then, and reads through the archive."""

    def __init__(self, store: base.Store, seed: int, archive: MemoryArchive | None = None) -> None:
        self._store = store
        self._rng = random.Random(seed)
        self.archive = archive or MemoryArchive()
        self._reader = ArchiveReader(store, self.archive, tiny(cache_bytes=2_000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        outcomes = await self._store.commit(commands)
        if self._rng.random() < 0.5:
            await self.archive_now()
        return outcomes

    async def archive_now(self) -> None:
        config = tiny(object_entries=self._rng.choice([1, 3, 50]), move_entries=self._rng.choice([1, 2, 50]))
        archiver = archiver_of(self._store, self.archive, config, forget=self._reader.forget)
        await archiver.run(sweep=self._rng.random() < 0.3)

    async def page(self, *place: Any, **more: Any) -> base.Page:
        await anyio.lowlevel.checkpoint()
        return await self._reader.page(*place, **more)

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
        return await self._reader.entries(conversation_id, after_seq, limit)
