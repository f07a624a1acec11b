"""The store in plain Python: the same contract as SQLite's, for tests, examples and throw-away servers.

Nothing outlives the process. What a command does is in `core.log.decide`; here are the tables that its rows come from
and go to. Called by `assemble`; everyone above sees only `storage.base`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import anyio.lowlevel

from ...core.log.changes import Changes, HeldOutbox, Outbox, OutboxRows
from ...core.log.keys import Keys
from ...core.log.state import DevicePlace, State
from ...errors import UnavailableError
from ...ports import Ids
from .. import base
from ..transaction import carry_out, commit_batch_now
from .cold import MemoryCold
from .deliveries import MemoryDeliveries
from .load import load
from .reads import MemoryReads
from .search import MemorySearch
from .tables import MemoryState
from .write import load_held_outboxes, load_leasts, write, write_outbox

SECRET_BYTES: Final = 32


class MemoryTables:
    """`storage.transaction.Tables` over dictionaries."""

    def __init__(self, tables: MemoryState) -> None:
        self._tables = tables

    def load(self, keys: Keys, state: State) -> None:
        """Put everything that the keys name into the state."""
        load(self._tables, keys, state)

    def load_held_outboxes(self, forgotten: Sequence[DevicePlace]) -> Collection[HeldOutbox]:
        """The outbox rows where one of these devices has a cursor and its user is a member."""
        return load_held_outboxes(self._tables, forgotten)

    def write(self, changes: Changes) -> None:
        """Write everything but the outbox."""
        write(self._tables, changes)

    def load_leasts(self, outboxes: Sequence[Outbox]) -> list[tuple[int, int]]:
        """How far everybody has got."""
        return load_leasts(self._tables, outboxes)

    def write_outbox(self, rows: OutboxRows) -> None:
        """Write the outbox."""
        write_outbox(self._tables, rows)


class MemoryStore(MemoryReads):
    """`storage.base.Store` in memory; see there for what each method holds to.

    Args:
        ids: Where the log's secret comes from.
    """

    def __init__(self, *, ids: Ids) -> None:
        super().__init__(MemoryState())
        self._ids = ids
        self._secret = b""
        self._closed = False
        self.cold = MemoryCold(self._tables, lambda: self.healthy)
        self.search = MemorySearch(self._tables, lambda: self.healthy)
        self.deliveries = MemoryDeliveries(self._tables, lambda: self.healthy)

    @property
    def commits_in_flight_max(self) -> int:
        """One: nothing here ever waits."""
        return 1

    @property
    def healthy(self) -> bool:
        """Whether the store was made ready and not closed."""
        return bool(self._secret) and not self._closed

    async def migrate(self) -> bytes:
        """Make the store ready, also again after `aclose`, and return the log's secret."""
        self._closed = False
        self._secret = self._secret or self._ids.token_bytes(SECRET_BYTES)
        return self._secret

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in order.

        Nothing has to be rolled back: a command that breaks does so while it is loaded or decided, before the first row
        is written.
        """
        await anyio.lowlevel.checkpoint()
        if not self.healthy:
            raise UnavailableError("the store is not open", retry_after_s=1.0)
        return commit_batch_now(self._transaction, commands)

    def _transaction(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        return carry_out(MemoryTables(self._tables), commands)

    async def aclose(self) -> None:
        """Take no more commands until `migrate`. The log goes with the object."""
        self._closed = True
