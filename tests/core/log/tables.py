"""`decide` over dictionaries: the tables of the store in memory, without the store."""

from __future__ import annotations

from collections.abc import Sequence

from chatkit.core.log import commands as c
from chatkit.core.log import outcomes as o
from chatkit.core.log.state import State
from chatkit.storage import transaction
from chatkit.storage.memory.store import MemoryTables
from chatkit.storage.memory.tables import MemoryState


def loaded(tables: MemoryState, commands: Sequence[c.Command]) -> State:
    """What is needed to decide these commands."""
    return transaction.loaded(MemoryTables(tables), commands)


def commit(tables: MemoryState, commands: Sequence[c.Command]) -> list[o.Outcome]:
    """Decide one batch and write it; what breaks is raised."""
    return transaction.carry_out(MemoryTables(tables), commands)
