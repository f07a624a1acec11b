"""Conversations that somebody's transaction keeps locked: what concerns them is refused, and nothing else waits.

A host may send inside a transaction of its own and forget to end it. The first batch that meets such a lock waits a
moment; from then on it is only looked whether the lock is still there. Called by `store`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Literal

import anyio

from ...core.log.decide import keys_of
from ...drivers.postgres import RETRY_AFTER_S, Connection
from ...errors import UnavailableError
from .. import base

Name = tuple[Literal["id", "number", "pair"], str | int]
"""How a command names a conversation."""

LOOKS: Final = 3
_PAUSE_S: Final = 0.02
_KNOWN_MAX: Final = 1_000
"""Names that are remembered; one that is forgotten costs another wait."""

_LOCK_FREE: Final = """
WITH named AS (
    SELECT 'id' AS kind, k.name, n.conversation_key FROM unnest($1::text[]) AS k (name)
    JOIN conversation_name AS n ON n.conversation_id = k.name
    UNION ALL
    SELECT 'number', c.conversation_key::text, c.conversation_key FROM conversation AS c
    WHERE c.conversation_key = ANY ($2::bigint[])
    UNION ALL
    SELECT 'pair', k.pair, p.conversation_key FROM unnest($3::text[]) AS k (pair)
    JOIN conversation_pair AS p ON p.single_pair = k.pair
), free AS MATERIALIZED (
    SELECT c.conversation_key FROM conversation AS c
    WHERE c.conversation_key = ANY (ARRAY(SELECT conversation_key FROM named))
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT kind, name FROM named WHERE conversation_key NOT IN (SELECT conversation_key FROM free)
"""
"""Locks what is free; the rows are what is not. Never waits."""


def names_of(commands: Iterable[base.Command]) -> set[Name]:
    """What these commands call the conversations that they lock."""
    keys = keys_of(commands)
    names: set[Name] = {("id", it) for it in keys.conversations}
    names.update(("number", it) for it in keys.conversation_keys)
    names.update(("pair", it) for it in keys.pairs)
    return names


def refusal() -> base.Refused:
    """What a command gets whose conversation is locked; each has an error object of its own."""
    words = "another transaction keeps this conversation locked"
    return base.Refused(UnavailableError(words, retry_after_s=RETRY_AFTER_S, kind="locked"))


async def _not_free(connection: Connection, names: Collection[Name]) -> set[Name]:
    """Lock of these what is free; returns what is not."""
    kinds = ([it for kind, it in names if kind == wanted] for wanted in ("id", "number", "pair"))
    rows = await connection.fetch(_LOCK_FREE, *kinds)
    return {(kind, int(name) if kind == "number" else name) for kind, name in rows}


class LockedConversations:
    """Those that were locked when somebody last asked."""

    def __init__(self) -> None:
        self._known: dict[Name, None] = {}

    def known_among(self, commands: Iterable[base.Command]) -> set[Name]:
        """What these commands name and was locked when it was last asked for."""
        return names_of(commands) & self._known.keys() if self._known else set()

    async def look(self, connection: Connection, names: Collection[Name]) -> set[Name]:
        """Lock of these conversations what is free, and return what is not; remember both.

        What was not known to be locked is looked at several times: a batch of another node holds it for a moment.
        """
        locked = await _not_free(connection, names)
        for _ in range(LOOKS - 1):
            if locked <= self._known.keys():
                break
            await anyio.sleep(_PAUSE_S)
            locked = await _not_free(connection, locked)
        for name in names:
            self._known.pop(name, None)
        self._known.update(dict.fromkeys(locked))
        while len(self._known) > _KNOWN_MAX:
            del self._known[next(iter(self._known))]
        return locked
