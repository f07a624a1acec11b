"""What the reads of every store decide alike: where a page ends, and the words for a message's state.

Pure functions over values. Called by the reads of every store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ...types import DeliveryState, GrantedRole, Member, Role
from ..visibility import Interval, next_visible, ranges_after

UNREAD_MAX = 999
"""The count of unread messages stops here."""

UNREAD_ENTRIES_MAX = 2_000
"""Unread messages are counted among this many of the newest entries, so that the count has a bounded price. Entries of
all kinds are among them, reactions too: there is no index of messages alone. What mentions somebody has one."""

PREVIEW_ENTRIES_MAX = 2_000
"""The last message of a conversation is looked for among this many of the newest entries, likewise."""


def first_of_preview(first_seq: int, head_seq: int) -> int:
    """The lowest seq at which the last message is looked for."""
    return max(first_seq, head_seq - PREVIEW_ENTRIES_MAX + 1)


def rows_that_fit(sizes: Sequence[int], bytes_max: int) -> int:
    """How many rows of a list fit: the first always does."""
    return last_that_fits(enumerate(sizes, 1), bytes_max) or 0


def page_ranges(
    intervals: Sequence[Interval], after_seq: int, head_seq: int, limit: int
) -> list[tuple[int, int]]:
    """The inclusive ranges that hold the first `limit` visible entries after `after_seq`; the log is dense."""
    ranges = []
    left = max(1, limit)
    for first, last in ranges_after(intervals, after_seq, head_seq):
        last = min(last, first + left - 1)
        ranges.append((first, last))
        left -= last - first + 1
        if left == 0:
            break
    return ranges


def last_that_fits(sizes: Iterable[tuple[int, int]], bytes_max: int) -> int | None:
    """The last seq that fits into a page: of (seq, bytes) ascending, the first always does; None if there is none."""
    last, total = None, 0
    for seq, size in sizes:
        total += size
        if last is not None and total > bytes_max:
            break
        last = seq
    return last


def page_end(intervals: Sequence[Interval], last: int | None, head_seq: int) -> int:
    """How far a page reaches whose last entry is `last`: to the head, if nothing visible follows."""
    if last is None:
        return head_seq
    following = next_visible(intervals, last)
    return head_seq if following is None or following > head_seq else last


def role_of(user_id: str, granted: GrantedRole, owner_id: str, pair: str | None) -> Role:
    """What a current member is; of a SINGLE both are MEMBER."""
    return "OWNER" if pair is None and user_id == owner_id else granted


def member_of(
    user_id: str,
    owner_id: str,
    pair: str | None,
    granted: GrantedRole,
    joined_seq: int,
    silenced_until_ms: int,
) -> Member:
    """A current member as lists show them."""
    return Member(user_id, role_of(user_id, granted, owner_id, pair), joined_seq, silenced_until_ms)


def status_of(
    member_count: int, delivered_count: int, read_count: int
) -> Literal["SENT", "DELIVERED", "READ"]:
    """A message's state from the counts over the other members; SENT if there are none."""
    if member_count and read_count == member_count:
        return "READ"
    return "DELIVERED" if member_count and delivered_count == member_count else "SENT"


def state_ms(state: DeliveryState, server_ts: int, device_ms: int, read_ms: int) -> int:
    """When a message came into its state on a device, as near as cursors know: when the cursor last moved."""
    if state == "READ":
        return read_ms
    return device_ms if state == "DELIVERED" else server_ts
