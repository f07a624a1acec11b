"""A page of the list of conversations out of its rows, the same for both SQL stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ..core.log import reads as rules
from ..core.log.marks import Place, StoredMarks, preview_bytes
from .base import Entry, ListedConversation, RecentPage

Last = tuple[int, int, int | str | None]
"""Of a conversation's last message (seq, size, who recalled it)."""


def rows_shown(
    keys: Sequence[int], last: Mapping[int, Last], said: Mapping[Place, StoredMarks], bytes_max: int
) -> int:
    """How many of these conversations one page shows, each with its last message: the first always."""
    return rules.rows_that_fit([preview_bytes(key, last.get(key), said) for key in keys], bytes_max)


def page_of(rows: Sequence[ListedConversation], last: Mapping[str, Entry], *, more: bool) -> RecentPage:
    """Rows with their last messages, by id; `more`: another page follows."""
    shown = tuple(replace(it, last=last.get(it.head.conversation_id)) for it in rows)
    return RecentPage(shown, (rows[-1].last_activity_ms, rows[-1].head.conversation_id) if more else None)
