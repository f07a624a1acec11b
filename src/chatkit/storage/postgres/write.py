"""Writes the rows of a batch: what `Changes` holds, by one call of `write_batch_2`. Nothing is decided here.

Called by `store` inside a write transaction. What most batches hold goes in lists of columns, the rest in one document.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from msgspec.structs import astuple

from ...core.log.changes import Changes, Outbox
from ...drivers.postgres import Connection
from . import moderation
from .cold import write_retention
from .columns import columns
from .person import write_erasures

_ARGUMENTS: Final = 33
_COLUMNS: Final = ", ".join(f"${n}" for n in range(1, _ARGUMENTS))
WRITE_BATCH: Final = f"SELECT write_batch_2({_COLUMNS}, ${_ARGUMENTS}::text::jsonb)"
"""The document goes as text: a connection of a host may have an encoding of its own for jsonb."""

SET_BUT_MENTIONS: Final = """
UPDATE mute AS x SET but_mentions = k.but_mentions
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::boolean[])
    AS k (conversation_key, user_id, until_ms, but_mentions)
WHERE x.conversation_key = k.conversation_key AND x.user_id = k.user_id
"""
"""What `write_batch_2` knows nothing of."""

NODE_SLOTS: Final = 64
"""Parts of the log's position: a store takes one by chance, so that two nodes seldom wait for each other there."""

HOST_SLOTS: Final = 1024
"""Further parts, for transactions of hosts, so that no node waits for one. A session takes the one that its process id
names: nobody else writes to it meanwhile, and its own last commit is in every snapshot of it."""

_RARE: Final = (
    "new_conversations",
    "conversations",
    "recalls",
    "ended",
    "joined",
    "standings",
    "bans",
    "ended_bans",
    "forgotten",
    "devices",
    "new_member_cursors",
    "new_device_cursors",
    "passed",
    "exact",
    "dropped_tokens",
    "tokens",
    "blocks",
    "ended_blocks",
    "audit",
    "mutes",
    "dropped_push",
    "dropped_push_logins",
    "taken_push",
    "push_tokens",
)
"""Fields of `Changes` that are lists of rows, and go into the document as they are."""


async def write(connection: Connection, changes: Changes, outboxes: Collection[Outbox], slot: int) -> None:
    """Write everything, and close the outbox where everybody has confirmed it.

    Args:
        connection: In the write transaction in which everything was loaded.
        changes: Of `decide`.
        outboxes: By conversation, where anything may be written; those of forgotten devices are found here.
        slot: Whose part of the log's position grows.
    """
    rows: list[tuple[int, int | None, int | None, int, bool]] = [
        (it.conversation_key, it.stored_seq, it.first_seq, it.head_seq, it.may_close) for it in outboxes
    ]
    await connection.fetch(
        WRITE_BATCH,
        slot,
        *columns(changes.messages, 9),
        *columns(changes.heads, 3),
        *columns(changes.member_cursors, 6),
        *columns(changes.device_cursors, 6),
        *columns(rows, 5),
        *columns(changes.woken, 2),
        _rare(changes),
    )
    muted = [row for row in changes.mutes if row[2]]
    if muted:
        await connection.fetch(SET_BUT_MENTIONS, *columns(muted, 4))
    if changes.erasures or changes.ended_erasures:
        await write_erasures(connection, changes)
    if changes.ended_erasures:
        await moderation.erase(connection, [user_id for user_id, _ in changes.ended_erasures])
    if changes.retentions or changes.floors:
        await write_retention(connection, changes)


def _rare(changes: Changes) -> str | None:
    """The document; None if there is nothing for it."""
    document: dict[str, object] = {name: rows for name in _RARE if (rows := getattr(changes, name))}
    if changes.revocations:
        document["revocations"] = [astuple(it) for it in changes.revocations]
        document["revocations_before_ms"] = changes.revocations_before_ms
    if changes.logins_ended:
        document["logins_ended"] = True
    return msgspec.json.encode(document).decode() if document else None
