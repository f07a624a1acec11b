"""How long messages take to devices that are online: from when a node took them to when the device confirmed them.

Only while an instrument listens. Of what is published so many entries a second are timed, and noted in their audience
(`Audience.timed`): all of them on a server that is not busy, and enough of them on one that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from ...storage.base import Entry
from ..session import Session
from .audience import Audience

TIMED_PER_SECOND: Final = 200
"""Entries that are timed, by their `serverTs`; what comes beyond in that second is not."""


class DeliveryTimes:
    """Which entries are timed, and how far each session has confirmed them.

    Args:
        audiences: Those of the hub, by conversation.
    """

    def __init__(self, audiences: Mapping[str, Audience]) -> None:
        self._audiences = audiences
        self._confirmed: dict[Session, dict[str, int]] = {}
        self._found_ms: dict[int, int] = {}
        self._left = 0
        self._until_ms = 0

    def published(self, audience: Audience, entries: Sequence[Entry]) -> None:
        """Entries in a row, all of one sender, are offered to whoever is online, and to be timed."""
        first = entries[0]
        if not self._until_ms - 1000 <= first.server_ts < self._until_ms:  # a clock may have been ahead
            self._until_ms, self._left = first.server_ts + 1000, TIMED_PER_SECOND
        if not self._left:
            return
        stamps = [it.server_ts for it in entries[: self._left]]
        self._left -= len(stamps)
        seq = first.seq
        for server_ts, same in groupby(stamps):
            behind = seq + len(list(same))
            audience.timed.append((seq, behind - 1, server_ts, first.sender_id))
            seq = behind

    def confirmed(self, session: Session, conversation_id: str, up_to_seq: int, at_ms: int) -> None:
        """Time what a session confirms with this for the first time; nothing if it is not of the audience."""
        audience = self._audiences.get(conversation_id)
        if audience is None or session not in audience.sessions or not audience.timed:
            return
        before, timed = self._confirmed.get(session), audience.timed
        from_seq = None if before is None else before.get(conversation_id)
        if from_seq is None:
            from_seq = audience.sessions[session]
        pushed_seq = session.last_pushed_seq[conversation_id]
        if up_to_seq > pushed_seq:
            up_to_seq = pushed_seq
        if timed[-1][1] <= from_seq or up_to_seq <= from_seq:
            return
        if before is None:
            before = self._confirmed[session] = {}
        before[conversation_id] = up_to_seq
        user_id, found_ms = session.user_id, self._found_ms
        for first_seq, last_seq, server_ts, sender_id in reversed(timed):
            if last_seq <= from_seq:
                break
            if first_seq <= up_to_seq and sender_id != user_id:
                after_seq = from_seq if from_seq >= first_seq else first_seq - 1
                count = (last_seq if last_seq < up_to_seq else up_to_seq) - after_seq
                took_ms = at_ms - server_ts if at_ms > server_ts else 0
                found_ms[took_ms] = found_ms.get(took_ms, 0) + count

    def take(self) -> dict[float, int]:
        """The times that were found since the last call, in seconds, and how many entries took so long."""
        found_ms, self._found_ms = self._found_ms, {}
        return {took_ms / 1000: count for took_ms, count in found_ms.items()}

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._confirmed.pop(session, None)
