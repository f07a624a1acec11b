"""Who may see what, recomputed from the MEMBER entries of a log alone: the proof's own arithmetic.

It shares no code with the engine's, so that a fault there is not repeated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from chatkit.storage.base import Entry


class Stay(msgspec.Struct):
    """One membership: from the entry that began it to before the one that ended it; None while it lasts."""

    first_seq: int
    ended_seq: int | None = None

    def holds(self, seq: int) -> bool:
        """Whether the entry at `seq` falls into it."""
        return seq >= self.first_seq and (self.ended_seq is None or seq < self.ended_seq)


def member_change(entry: Entry) -> tuple[str, list[str]] | None:
    """What a MEMBER entry did, and to whom; None for any other entry."""
    if entry.client_msg_id is not None:
        return None
    payload: dict[str, Any] = msgspec.json.decode(entry.payload)
    return (payload["op"], payload["userIds"]) if payload.get("type") == "MEMBER" else None


def stays(entries: Sequence[Entry]) -> dict[str, list[Stay]]:
    """The memberships of every user that a log tells of, ascending."""
    found: dict[str, list[Stay]] = {}
    for entry in entries:
        change = member_change(entry)
        if change is None:
            continue
        op, user_ids = change
        for user_id in user_ids:
            if op in ("CREATED", "ADDED"):
                found.setdefault(user_id, []).append(Stay(entry.seq))
            else:
                found[user_id][-1].ended_seq = entry.seq
    return found


def current_members(entries: Sequence[Entry]) -> set[str]:
    """Who is a member after the last entry."""
    return {user_id for user_id, of_user in stays(entries).items() if of_user[-1].ended_seq is None}
