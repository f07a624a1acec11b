"""How long messages take to devices that are online: from when a node took them to when the device confirmed them.

Only while an instrument listens. Of what is published so many entries a second are timed, and noted in their audience
(`Audience.timed`): all of them on a server that is not busy, and enough of them on one that is.
"""

from __future__ import annotations

from typing import Final

from ...storage.base import Entry
from ..session import Session
from .audience import Audience

TIMED_PER_SECOND: Final = 200
"""Entries that are timed, by their `serverTs`; what comes beyond in that second is not."""


class DeliveryTimes:
    """Which entries are timed, and how far each session has confirmed them.

    Attributes:
        from_ms: Entries from then on are timed; those before belong to a second that has had enough.
    """

    def __init__(self) -> None:
        self._confirmed: dict[Session, dict[str, int]] = {}
        self._found_ms: list[int] = []
        self._left = TIMED_PER_SECOND
        self._until_ms = 0
        self.from_ms = 0

    def published(self, audience: Audience, entry: Entry) -> None:
        """An entry is offered to whoever is online, and to be timed."""
        if entry.server_ts >= self._until_ms:
            self._until_ms, self._left = entry.server_ts + 1000, TIMED_PER_SECOND
        self._left -= 1
        self.from_ms = 0 if self._left else self._until_ms
        audience.timed.append((entry.seq, entry.server_ts, entry.sender_id))

    def confirmed(self, session: Session, audience: Audience, up_to_seq: int, at_ms: int) -> None:
        """Time what a session, one of the audience, confirms with this for the first time."""
        timed, name = audience.timed, audience.conversation_id
        before = self._confirmed.get(session)
        from_seq = (
            audience.sessions[session] if before is None else before.get(name, audience.sessions[session])
        )
        up_to_seq = min(up_to_seq, session.last_pushed_seq[name])
        if not timed or timed[-1][0] <= from_seq or up_to_seq <= from_seq:
            return
        if before is None:
            before = self._confirmed[session] = {}
        before[name] = up_to_seq
        user_id, note = session.user_id, self._found_ms.append
        for seq, server_ts, sender_id in reversed(timed):
            if seq <= from_seq:
                break
            if seq <= up_to_seq and sender_id != user_id:
                note(at_ms - server_ts)

    def take(self) -> list[float]:
        """The times, in seconds, that were found since the last call."""
        found_ms, self._found_ms = self._found_ms, []
        return [it / 1000 if it > 0 else 0.0 for it in found_ms]

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._confirmed.pop(session, None)
