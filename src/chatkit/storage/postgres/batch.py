"""A batch inside a transaction, the store's own or a host's: load, decide, write. Called by `store` and `within`."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.log.decide import decide, keys_after, keys_of
from ...core.log.state import State
from ...drivers.postgres import Connection
from .. import base
from . import blobs, moderation, references
from .load import covered_by, lacks, load, lock_newcomers
from .write import write


async def carry_out(
    connection: Connection, commands: Sequence[base.Command], slot: int
) -> list[base.Outcome]:
    """Do what the commands say; what they touch is locked until the transaction ends.

    Args:
        connection: In a write transaction.
        commands: One batch.
        slot: Whose part of the log's position grows.
    """
    keys, state = keys_of(commands), State()
    await load(connection, keys, state, covered_by(commands))
    if keys.names_moderation:
        await moderation.load(connection, keys, state)
    await lock_newcomers(connection, keys, state)
    if keys.names_references:
        await references.load(connection, keys, state)
    more = keys_after(state, commands)
    if more is not None and lacks(state, more):
        await load(connection, more, state)
    if more is not None and more.names_references:
        await references.load(connection, more, state)
    for named in (keys, more):
        if named is not None and named.names_blobs:
            await blobs.load(connection, named, state)
    outcomes, changes = decide(state, commands)
    await write(connection, changes, changes.outboxes.values(), slot)
    if changes.has_references:
        await references.write(connection, changes)
    if changes.streams or changes.ended_streams or changes.floors:
        await references.write_streams(connection, changes)
    if changes.moderated or changes.unmoderated or changes.reports or changes.resolved_reports:
        await moderation.write(connection, changes)
    if changes.blobs is not None or changes.floors or changes.ended_erasures:
        await blobs.write(connection, changes)
    return outcomes
