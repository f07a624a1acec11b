"""How many unread messages a member has, counted once and kept. Called by `reads` for the lists of conversations.

A count follows from the log up to its head, the member and their read cursor: whatever else changes it (a recall, a
change of members) is an entry too. So a count that was made holds for ever under these four, and a list costs a count
only where something happened since the last one. What is kept is bounded; the count that was made first goes first.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from ...core.log.reads import UNREAD_ENTRIES_MAX, UNREAD_MAX
from ...drivers.sqlite import Connection

COUNTS_MAX: Final = 50_000
"""Counts that are kept, about 15 MB."""

SELECT_UNREAD = """
SELECT count(*) FROM (
    SELECT 1 FROM conversation_member AS v
    JOIN message AS e ON e.conversation_key = v.conversation_key
        AND e.seq >= max(v.join_seq, ?3) AND e.seq < ifnull(v.leave_seq, 9223372036854775807)
    WHERE v.conversation_key = ?1 AND v.user_id = ?2 AND ifnull(v.leave_seq, 9223372036854775807) > ?3
        AND e.kind = 'USER' AND e.sender_id <> ?2 AND NOT EXISTS (
            SELECT 1 FROM recall AS r WHERE r.conversation_key = e.conversation_key AND r.seq = e.seq)
    LIMIT ?4
)
"""

_Place = tuple[int, str, int, int]


class UnreadCounts:
    """The counts of one open file; used by all of its readers at once.

    Args:
        counts_max: How many are kept.
    """

    def __init__(self, counts_max: int = COUNTS_MAX) -> None:
        self._counts: dict[_Place, int] = {}
        self._counts_max = counts_max
        self._lock = Lock()

    def of(self, connection: Connection, key: int, user_id: str, read_seq: int, head_seq: int) -> int:
        """Visible messages of others after the read cursor, not recalled; at most 999, among the newest 2,000 entries.

        Args:
            connection: In the snapshot that the cursor and the head are from.
        """
        if read_seq >= head_seq:
            return 0
        place = (key, user_id, read_seq, head_seq)
        known = self._counts.get(place)
        if known is not None:
            return known
        start = max(read_seq, head_seq - UNREAD_ENTRIES_MAX) + 1
        ((count,),) = connection.execute(SELECT_UNREAD, (key, user_id, start, UNREAD_MAX))
        self._keep(place, count)
        return int(count)

    def _keep(self, place: _Place, count: int) -> None:
        with self._lock:
            self._counts[place] = count
            while len(self._counts) > self._counts_max:
                del self._counts[next(iter(self._counts))]
