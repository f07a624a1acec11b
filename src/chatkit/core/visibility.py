"""Membership intervals: who may see which seq. Arithmetic over [join, leave) and nothing else.

Used by every store, so that "visible" has one meaning. What is delivered (cursors, receipts, unread, pushes) goes by
the memberships themselves; what may be read goes by `readable` of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Interval(msgspec.Struct, frozen=True, gc=False):
    """One membership: to its user are delivered join_seq <= seq < leave_seq; `leave_seq` is None while it lasts.

    `first_seq` is the first entry that may be read where that is before the joining; None: `join_seq`.
    """

    join_seq: int
    leave_seq: int | None = None
    first_seq: int | None = None

    def holds(self, seq: int) -> bool:
        """Whether the entry at `seq` was written during this membership."""
        return self.join_seq <= seq and (self.leave_seq is None or seq < self.leave_seq)


def readable(intervals: Iterable[Interval]) -> list[Interval]:
    """The same memberships with what may be read by them, which begins earlier where the history is open."""
    return [it if it.first_seq is None else Interval(it.first_seq, it.leave_seq) for it in intervals]


def is_visible(intervals: Iterable[Interval], seq: int) -> bool:
    """Whether any membership shows the entry at `seq`."""
    return any(interval.holds(seq) for interval in intervals)


def ranges_after(intervals: Sequence[Interval], after_seq: int, head_seq: int) -> list[tuple[int, int]]:
    """The visible parts of (after_seq, head_seq] as inclusive ranges, ascending.

    Args:
        intervals: Disjoint memberships, ascending by join.
        after_seq: Start, not included.
        head_seq: End, included.
    """
    ranges = []
    for interval in intervals:
        first = max(interval.join_seq, after_seq + 1)
        last = head_seq if interval.leave_seq is None else min(interval.leave_seq - 1, head_seq)
        if first <= last:
            ranges.append((first, last))
    return ranges


def next_visible(intervals: Sequence[Interval], after_seq: int) -> int | None:
    """The smallest seq above `after_seq` that a membership shows, or would show once it is written."""
    for interval in intervals:
        candidate = max(interval.join_seq, after_seq + 1)
        if interval.holds(candidate):
            return candidate
    return None
