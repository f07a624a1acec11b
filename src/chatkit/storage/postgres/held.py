"""Finds which commands of a batch touch a conversation whose row somebody holds for long: a host's open transaction, or
somebody at a console. Called by `store` once a batch has waited for locks in vain; it never waits for one itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from ...core.log.commands import Command
from ...core.log.decide import keys_of
from ...drivers.postgres import Database

LOOKS: Final = 3
PAUSE_S: Final = 0.02
"""A row that is held each time is held for longer than a batch of another node takes."""

SELECT_HELD: Final = """
WITH named AS MATERIALIZED (
    SELECT conversation_key FROM conversation_name WHERE conversation_id = ANY ($1)
    UNION
    SELECT unnest($2::bigint[])
    UNION
    SELECT conversation_key FROM conversation_pair WHERE single_pair = ANY ($3)
), free AS MATERIALIZED (
    SELECT conversation_key FROM conversation
    WHERE conversation_key = ANY (ARRAY(SELECT conversation_key FROM named))
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT conversation_key, conversation_id, single_pair FROM conversation
WHERE conversation_key = ANY (ARRAY(SELECT conversation_key FROM named EXCEPT SELECT conversation_key FROM free))
"""


async def which_are_held(database: Database, commands: Sequence[Command]) -> list[bool]:
    """For each command whether it touches a conversation that another transaction holds, at several looks.

    Raises:
        UnavailableError: The server cannot say.
    """
    keys = keys_of(commands)
    held: set[object] = {*keys.conversations, *keys.conversation_keys, *keys.pairs}
    for look in range(LOOKS):
        if look:
            await anyio.sleep(PAUSE_S)
        held &= await _held_now(database, held)
    return [_touches(command, held) for command in commands]


def _touches(command: Command, held: set[object]) -> bool:
    keys = keys_of([command])
    return not held.isdisjoint((*keys.conversations, *keys.conversation_keys, *keys.pairs))


async def _held_now(database: Database, names: set[object]) -> set[object]:
    """All names of the conversations among these that somebody holds: number, id, pair."""
    texts = [it for it in names if isinstance(it, str)]
    numbers = [it for it in names if isinstance(it, int)]
    async with database.transaction() as connection:
        rows = await connection.fetch(SELECT_HELD, texts, numbers, texts)
    return {name for row in rows for name in row}
