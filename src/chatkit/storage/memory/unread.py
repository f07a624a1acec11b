"""How many unread messages and mentions a member has, in memory. Called by `reads` and `deliveries`."""

from __future__ import annotations

from ...core.log import reads as rules
from ...core.visibility import ranges_after
from ...wire.payload import EVERYBODY
from ..unread import Unread
from .tables import Conversation


def unread_of(log: Conversation, user_id: str) -> Unread:
    """What a member has not read."""
    read_seq = max(log.cursors[user_id].read_seq, log.floor_seq)
    start = max(read_seq, log.head_seq - rules.UNREAD_ENTRIES_MAX)
    rows = [
        row
        for first, last in ranges_after(log.members[user_id], start, log.head_seq)
        for row in log.rows[first - 1 : last]
    ]
    count = sum(
        row.kind == "USER" and row.seq not in log.recalled and row.sender_id != user_id for row in rows
    )
    names = (user_id, EVERYBODY)
    mentions = sum(
        row.sender_id != user_id and (name, row.seq) in log.mentions for row in rows for name in names
    )
    return min(count, rules.UNREAD_MAX), min(mentions, rules.UNREAD_MAX)
