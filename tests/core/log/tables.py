"""`decide` over dictionaries: the tables of the store in memory, without the store."""

from __future__ import annotations

from collections.abc import Sequence

from chatkit.core.log import commands as c
from chatkit.core.log import outcomes as o
from chatkit.core.log.decide import close_confirmed, decide, keys_after, keys_of
from chatkit.core.log.state import State
from chatkit.storage.memory.load import load
from chatkit.storage.memory.tables import MemoryState
from chatkit.storage.memory.write import load_leasts, write, write_outbox


def loaded(tables: MemoryState, commands: Sequence[c.Command]) -> State:
    """What is needed to decide these commands."""
    keys, state = keys_of(commands), State()
    load(tables, keys, state)
    more = keys_after(state, commands)
    if more is not None:
        load(tables, more, state)
    return state


def commit(tables: MemoryState, commands: Sequence[c.Command]) -> list[o.Outcome]:
    """Decide one batch and write it."""
    outcomes, changes = decide(loaded(tables, commands), commands)
    write(tables, changes)
    write_outbox(tables, close_confirmed(changes, load_leasts(tables, changes)))
    return outcomes
