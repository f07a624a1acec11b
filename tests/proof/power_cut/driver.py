"""The store at work on a recorded disk: opened and closed and opened again, with what it acknowledged, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from chatkit.drivers.sqlite import Connect, Connection
from chatkit.ports import Ids
from chatkit.storage import base
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.rng import Stream

from .recording import Operation
from .workload import Script

Tables = dict[str, list[tuple[Any, ...]]]
"""All rows of all tables."""


class Acknowledged(msgspec.Struct):
    """One batch that the store reported as durable.

    Attributes:
        position: Length of the journal at that moment.
        tables: What the file held right after.
    """

    position: int
    commands: Sequence[base.Command]
    outcomes: Sequence[base.Outcome]
    tables: Tables


def read_tables(connection: Connection) -> Tables:
    """All rows of all tables, each in the order of its own tree, in one snapshot."""
    connection.begin()
    try:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        return {name: _rows(connection, name) for (name,) in names}
    finally:
        connection.rollback()


def _rows(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(f'SELECT * FROM "{table}" NOT INDEXED')


class Driver:
    """One store on one file, opened and closed and opened again, with everything that it acknowledged.

    Args:
        path: The file.
        ids: Make the secret of a new log.
        connect: Opens connections on the recorded disk.
        journal: That disk's journal.
        acknowledged: What an earlier driver of this file was told; its positions no longer matter.
    """

    def __init__(
        self,
        path: str,
        ids: Ids,
        connect: Connect,
        journal: Sequence[Operation],
        acknowledged: Sequence[Acknowledged] = (),
    ) -> None:
        self.path = path
        self.connect = connect
        self.journal = journal
        self.acknowledged = [msgspec.structs.replace(it, position=0) for it in acknowledged]
        self.secret = b""
        self._ids = ids
        self._store: SqliteStore | None = None
        self._held: list[Connection] = []

    async def open(self) -> None:
        """Open the file; the first time that counts as a batch of its own, since it makes the tables."""
        self._store = SqliteStore(self.path, ids=self._ids, threads=False, connect=self.connect)
        self.secret = await self._store.migrate()
        if not self.acknowledged:
            self.acknowledge([], [])

    async def commit(self, commands: Sequence[base.Command]) -> Sequence[base.Outcome]:
        """Have a batch committed and note what was acknowledged. Raises what the store raises."""
        outcomes = await self.apply(commands)
        self.acknowledge(commands, outcomes)
        return outcomes

    async def apply(self, commands: Sequence[base.Command]) -> Sequence[base.Outcome]:
        """Have a batch committed, and note nothing. Raises what the store raises."""
        assert self._store is not None, "open first"
        return await self._store.commit(commands)

    def acknowledge(self, commands: Sequence[base.Command], outcomes: Sequence[base.Outcome]) -> None:
        """Note that the store has just reported a batch as durable, and what its file holds now."""
        position = len(self.journal)
        connection = self.connect(self.path, read_only=True)
        self.acknowledged.append(Acknowledged(position, commands, outcomes, read_tables(connection)))
        connection.close()

    @property
    def healthy(self) -> bool:
        """What the store says of its disk."""
        return self._store is not None and self._store.healthy

    async def close(self) -> None:
        """Let go of held snapshots, and close the file."""
        self.let_go()
        if self._store is not None:
            await self._store.aclose()
            self._store = None

    def hold(self) -> None:
        """Begin a snapshot that stays: the write-ahead log cannot be written back past it."""
        connection = self.connect(self.path, read_only=True)
        connection.begin()
        connection.execute("SELECT count(*) FROM setting")
        self._held.append(connection)

    def let_go(self) -> None:
        """End the snapshots that are held."""
        for connection in self._held:
            connection.close()
        self._held.clear()

    def checkpoint(self, mode: str) -> None:
        """Write the write-ahead log back, as an operator could."""
        connection = self.connect(self.path)
        connection.execute(f"PRAGMA wal_checkpoint({mode})")
        connection.close()


async def work(driver: Driver, script: Script, rng: Stream, batches: int) -> None:
    """Commit batches, with checkpoints, held snapshots and new openings in between, and close the file."""
    await driver.open()
    if len(driver.acknowledged) == 1:
        script.learn(await driver.commit(script.opening()))
    for _ in range(batches):
        script.learn(await driver.commit(script.batch()))
        await _upkeep(driver, rng)
    await driver.close()


async def _upkeep(driver: Driver, rng: Stream) -> None:
    match rng.randrange(30):
        case 0:
            await driver.close()
            await driver.open()
        case 1:
            driver.hold()
        case 2 | 3:
            driver.checkpoint("PASSIVE")
        case 4 | 5:
            driver.let_go()  # or these two would wait for it
            driver.checkpoint(rng.choice(["RESTART", "TRUNCATE"]))
        case _:
            pass
