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
    count = sum(
        row.kind == "USER" and row.seq not in log.recalled and row.sender_id != user_id
        for first, last in ranges_after(log.members[user_id], start, log.head_seq)
        for row in log.rows[first - 1 : last]
    )
    mentioning = [seq for name, seq in log.mentions if name in (user_id, EVERYBODY)]
    mentions = sum(
        first <= seq <= last and log.rows[seq - 1].sender_id != user_id
        for first, last in ranges_after(log.members[user_id], read_seq, log.head_seq)
        for seq in mentioning
    )
    return min(count, rules.UNREAD_MAX), min(mentions, rules.UNREAD_MAX)
