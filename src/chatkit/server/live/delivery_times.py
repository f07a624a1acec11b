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
        left: How many more are timed before `until_ms`.
        until_ms: Entries from then on begin another second.
    """

    def __init__(self) -> None:
        self._confirmed: dict[Session, dict[str, int]] = {}
        self._found: list[float] = []
        self.left = TIMED_PER_SECOND
        self.until_ms = 0

    def published(self, audience: Audience, entry: Entry) -> None:
        """An entry is offered to whoever is online, and to be timed."""
        if entry.server_ts >= self.until_ms:
            self.until_ms, self.left = entry.server_ts + 1000, TIMED_PER_SECOND
        self.left -= 1
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
        for seq, server_ts, sender_id in reversed(timed):
            if seq <= from_seq:
                break
            if seq <= up_to_seq and sender_id != session.user_id:
                self._found.append(max(0, at_ms - server_ts) / 1000)

    def take(self) -> list[float]:
        """The times, in seconds, that were found since the last call."""
        found, self._found = self._found, []
        return found

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._confirmed.pop(session, None)
