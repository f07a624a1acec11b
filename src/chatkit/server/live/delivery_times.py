"""How long messages take to devices that are online: from when a node took them to when the device confirmed them.

Only while an instrument listens. Bounded: of each conversation with somebody online the newest entries are remembered.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ...storage.base import Entry
from ..session import Session

ENTRIES_MAX: Final = 100
"""Entries of a conversation that are remembered; a device that confirms more at once is timed for these."""


class DeliveryTimes:
    """What was published lately, and how far each session has confirmed it."""

    def __init__(self) -> None:
        self._published: dict[str, deque[tuple[int, int, str]]] = {}
        self._confirmed: dict[Session, dict[str, int]] = {}

    def published(self, entry: Entry) -> None:
        """An entry is offered to whoever is online."""
        recent = self._published.get(entry.conversation_id)
        if recent is None:
            recent = self._published[entry.conversation_id] = deque(maxlen=ENTRIES_MAX)
        recent.append((entry.seq, entry.server_ts, entry.sender_id))

    def forget(self, conversation_id: str) -> None:
        """Nobody of this conversation is online any more."""
        self._published.pop(conversation_id, None)

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._confirmed.pop(session, None)

    def confirmed(
        self, session: Session, conversation_id: str, online_from_seq: int, up_to_seq: int, at_ms: int
    ) -> list[float]:
        """The times of what a session confirms with this for the first time, in seconds.

        Args:
            session: Whose confirmation it is.
            conversation_id: Of which log.
            online_from_seq: Entries up to here were stored before the session was there.
            up_to_seq: What it confirms.
            at_ms: When it came.
        """
        recent = self._published.get(conversation_id)
        up_to_seq = min(up_to_seq, session.last_pushed_seq.get(conversation_id, 0))
        if not recent or up_to_seq <= online_from_seq:
            return []
        before = self._confirmed.setdefault(session, {})
        from_seq = max(before.get(conversation_id, 0), online_from_seq)
        if up_to_seq <= from_seq:
            return []
        before[conversation_id] = up_to_seq
        found = []
        for seq, server_ts, sender_id in reversed(recent):
            if seq <= from_seq:
                break
            if seq <= up_to_seq and sender_id != session.user_id:
                found.append(max(0, at_ms - server_ts) / 1000)
        return found
