"""Cursor arithmetic: monotone merge, acknowledgements out of order, and a message's state from cursors.

Used by every store (delivered and read cursors) and by the client (what to confirm).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..types import DeliveryState
from .visibility import Interval, next_visible

EXACT_MAX = 1000
"""Most single confirmations kept above one device's cursor; beyond it the oldest gap must close first."""

RECEIPT_MEMBERS_MAX = 100
"""In larger groups receipts are counts and there is no TYPING.

Source: docs/protocol.md, RECEIPT and TYPING.
"""


def absorb(cursor: int, exact: Collection[int], intervals: Sequence[Interval]) -> tuple[int, list[int]]:
    """Move a cursor over the single confirmations that have become contiguous in what the user may see.

    Args:
        cursor: Everything visible up to here is confirmed.
        exact: Seqs confirmed one by one.
        intervals: The user's memberships, ascending.

    Returns:
        The new cursor, and the confirmations that remain above it, ascending.
    """
    remaining = sorted({seq for seq in exact if seq > cursor})
    while remaining and remaining[0] == next_visible(intervals, cursor):
        cursor = remaining.pop(0)
    return cursor, remaining


def delivery_state(seq: int, delivered_seq: int, exact: Collection[int], read_seq: int) -> DeliveryState:
    """The state of the entry at `seq` on a device, from the device's and the user's cursors."""
    if read_seq >= seq:
        return "READ"
    if delivered_seq >= seq or seq in exact:
        return "DELIVERED"
    return "PENDING"
