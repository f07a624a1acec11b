"""The store in plain Python: the same contract as SQLite's, for tests, examples and throw-away servers.

Nothing outlives the process. What a command does is in `core.log.decide`; here are the tables that its rows come from
and go to. Called by `assemble`; everyone above sees only `storage.base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio.lowlevel

from ...core.log.decide import close_confirmed, decide, keys_after, keys_of
from ...core.log.state import State
from ...errors import UnavailableError
from ...ports import Ids
from .. import base
from .load import load
from .reads import MemoryReads
from .tables import MemoryState
from .write import load_leasts, write, write_outbox

SECRET_BYTES: Final = 32


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

    @property
    def healthy(self) -> bool:
        """Whether the store was made ready and not closed."""
        return bool(self._secret) and not self._closed

    async def migrate(self) -> bytes:
        """Make the store ready and return the log's secret."""
        self._secret = self._secret or self._ids.token_bytes(SECRET_BYTES)
        return self._secret

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        """Apply a batch in order."""
        await anyio.lowlevel.checkpoint()
        if not self.healthy:
            raise UnavailableError("the store is not open", retry_after_s=1.0)
        keys, state = keys_of(commands), State()
        load(self._tables, keys, state)
        more = keys_after(state, commands)
        if more is not None:
            load(self._tables, more, state)
        outcomes, changes = decide(state, commands)
        write(self._tables, changes)
        write_outbox(self._tables, close_confirmed(changes, load_leasts(self._tables, changes)))
        return outcomes

    async def aclose(self) -> None:
        """Take no more commands. The log goes with the object."""
        self._closed = True
