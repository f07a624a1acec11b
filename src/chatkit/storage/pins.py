"""What is pinned, as a reader of a conversation sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ..core.log.outcomes import Entry


class PinRow(NamedTuple):
    """A pinned message: its seq, that of the PINNED entry, who pinned it and when, and the message as pages show it,
    with an empty body where that is in the archive; None where there was no room for it."""

    seq: int
    pinned_by_seq: int
    by_id: str
    at_ms: int
    entry: Entry | None = None


class PinReader(Protocol):
    """Reads of what is pinned."""

    async def pins(self, conversation_id: str, user_id: str, bytes_max: int) -> list[PinRow]:
        """What is pinned of what the user may read, pinned last first; at most `PINS_MAX`. Nothing of it has expired.

        Args:
            conversation_id: Where.
            user_id: A member.
            bytes_max: Messages come along until there are about so many bytes of them; with 0 none does.

        Raises:
            NotFoundError: No such conversation, or `user_id` is no member now.
        """


def seqs_that_fit(rows: Sequence[PinRow], sizes: Mapping[int, int], bytes_max: int) -> list[int]:
    """Which of the messages come along, by their sizes; the last one may be larger than what is left of the room."""
    found = []
    for row in rows:
        if bytes_max <= 0:
            break
        found.append(row.seq)
        bytes_max -= sizes.get(row.seq, 0)
    return found
