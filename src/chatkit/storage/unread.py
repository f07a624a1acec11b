"""How many unread messages and mentions a member has, counted once and kept. Called by `reads`, for lists of
conversations.

A count follows from the log up to its head, the member and their read cursor: whatever else changes it (a recall, a
change of members) is an entry too. So a count that was made holds for ever under these four, and a list costs a count
only where something happened since the last one. What is kept is bounded; the count that was made first goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

COUNTS_MAX: Final = 50_000
"""Counts that are kept, about 15 MB."""

Place = tuple[int, str, int, int]
"""(conversation key, user, read cursor, head)."""

Unread = tuple[int, int]
"""Messages that are unread, and entries that mention the user among those."""

NOTHING: Final[Unread] = (0, 0)


class UnreadCounts:
    """The counts of one open file; used by all of its readers at once.

    Args:
        counts_max: How many are kept.
    """

    def __init__(self, counts_max: int = COUNTS_MAX) -> None:
        self._counts: OrderedDict[Place, Unread] = OrderedDict()  # each of its steps is one for all threads
        self._counts_max = counts_max

    def known(self, place: Place) -> Unread | None:
        """The count of a place: nothing where everything was read; None if it was not made before."""
        _, _, read_seq, head_seq = place
        return NOTHING if read_seq >= head_seq else self._counts.get(place)

    def keep(self, place: Place, count: Unread) -> Unread:
        """Keep a count that was made in the snapshot that the place is from; returns it."""
        self._counts[place] = count
        if len(self._counts) > self._counts_max:
            self._counts.popitem(last=False)
        return count
