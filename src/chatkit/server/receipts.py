"""Receipts on their way out: coalesced per batch, named in small groups, counted once a second in large ones.

Fed by `publisher` with every cursor that moved; tells the user's other devices and the authors of what was newly
covered. A receipt may be lost: HEADS and `GET .../receipts` carry the same facts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.receipts import RECEIPT_MEMBERS_MAX
from ..storage.base import Advanced, CursorReader, ReadCounts
from ..wire import events as ev
from .doubts import Doubts
from .hub import Hub
from .session import Session

_EARLY_MAX = 1000  # receipts that wait for entries which are not applied here yet; further ones are dropped
_COUNTED_ENTRIES = 200  # in large groups the authors of this many newest covered entries are told


class Receipts:
    """Collects moved cursors and turns them into RECEIPT events."""

    def __init__(self, hub: Hub, doubts: Doubts, cursors: CursorReader) -> None:
        self._hub = hub
        self._doubts = doubts
        self._cursors = cursors
        self._moved: dict[tuple[str, str], tuple[Advanced, set[str], Session | None]] = {}
        self._large: dict[str, int] = {}

    def note(self, advanced: Advanced, origin: Session | None) -> None:
        """Remember a cursor that moved, until `flush`."""
        key = (advanced.conversation_id, advanced.user_id)
        known = self._moved.get(key)
        if known is None:
            self._moved[key] = (advanced, set(advanced.authors), origin)
            return
        earlier, authors, first_origin = known
        authors.update(advanced.authors)
        furthest = max(earlier, advanced, key=lambda it: (it.delivered_seq, it.read_seq))
        self._moved[key] = (furthest, authors, origin if origin is first_origin else None)

    def flush(self) -> None:
        """Send what was noted: one RECEIPT per user and conversation.

        One about entries that this node has not applied yet waits for them: they may remove whom it would tell.
        """
        if not self._moved:
            return
        moved, self._moved = self._moved, {}
        for key, (advanced, authors, origin) in moved.items():
            if not self._is_early(advanced):
                self._tell(advanced, sorted(authors), origin)
            elif len(self._moved) < _EARLY_MAX:
                self._moved[key] = (advanced, authors, origin)

    async def flush_counts(self) -> None:
        """Send the counts of large groups to the authors who are online; called about once a second."""
        while self._large:
            conversation_id, seq = self._large.popitem()
            authors = self._hub.online(conversation_id)
            rows = await self._cursors.read_counts(
                conversation_id, max(0, seq - _COUNTED_ENTRIES), seq, authors
            )
            self._tell_counts(conversation_id, rows)

    def _is_early(self, advanced: Advanced) -> bool:
        audience = self._hub.audience(advanced.conversation_id)
        if audience is None or max(advanced.delivered_seq, advanced.read_seq) <= audience.position:
            return False
        self._doubts.log(advanced.conversation_id)
        return True

    def _tell(self, advanced: Advanced, authors: Sequence[str], origin: Session | None) -> None:
        conversation_id, user_id = advanced.conversation_id, advanced.user_id
        audience = self._hub.audience(conversation_id)
        if audience is None:
            return
        if advanced.member_count > RECEIPT_MEMBERS_MAX:
            covered_seq = max(advanced.delivered_seq, self._large.get(conversation_id, 0))
            self._large[conversation_id] = covered_seq
        users = (user_id, *(author for author in authors if author != user_id))
        sessions = self._hub.in_conversation(conversation_id, users, but=origin)
        delivered_seq, read_seq = audience.furthest(user_id, advanced.delivered_seq, advanced.read_seq)
        if sessions:
            self._hub.tell(
                sessions,
                ev.ReceiptOut(
                    conversation_id=conversation_id,
                    user_id=user_id,
                    delivered_seq=delivered_seq,
                    read_seq=read_seq,
                ),
            )

    def _tell_counts(self, conversation_id: str, rows: Sequence[ReadCounts]) -> None:
        for row in rows:
            sessions = self._hub.in_conversation(conversation_id, (row.user_id,))
            self._hub.tell(
                sessions,
                ev.ReceiptOut(
                    conversation_id=conversation_id,
                    seq=row.seq,
                    delivered_count=row.delivered_count,
                    read_count=row.read_count,
                    member_count=row.member_count,
                ),
            )
