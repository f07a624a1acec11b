"""The one store that all servers of a run share, as a database would be; it outlives them, and can be opened anew."""

from __future__ import annotations

from pathlib import Path

import anyio

from chatkit.ports import Ids
from chatkit.storage.base import Store
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import report_of_open
from chatkit.testing.faulty_sqlite import Disk
from chatkit.testing.rng import Stream

from .plan import Storage


class SharedStore:
    """The store behind every node.

    Args:
        path: Where SQLite keeps it.
        rng: Draws where in a transaction the disk fails.

    Attributes:
        store: Itself.
        secret: What `migrate` returned; empty before `open`.
        disk: Where faults are armed; without effect on the store in memory.
        gate: Held while the store is opened anew; a server passes it to start.
    """

    def __init__(self, kind: Storage, path: Path, ids: Ids, rng: Stream) -> None:
        self.disk = Disk(rng)
        self.secret = b""
        self.gate = anyio.Lock()
        self.store: Store
        if kind == "memory":
            self.store = MemoryStore(ids=ids)
        else:
            self.store = SqliteStore(str(path), ids=ids, threads=False, connect=self.disk.connect)
        self._kind = kind
        self._path = str(path)

    async def open(self) -> None:
        """Make it ready."""
        self.secret = await self.store.migrate()

    async def reopen(self) -> None:
        """Close it and open it again, and check the whole file; nothing may use it meanwhile."""
        if self._kind == "sqlite":
            await self.store.aclose()
            await self.open()
            report = report_of_open(self._path)
            assert report.whole, report.findings
        self.disk.mended()
