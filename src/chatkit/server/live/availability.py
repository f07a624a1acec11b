"""Who is online anywhere, as one node knows it: its own users, and what the other nodes say of theirs. Values only.

What another node says holds for a lease, so that its users go offline when it dies. What is due to be told is held
back a little: a user who changes connections is not told of at all, and nobody more than once in a few seconds.
Used by `server.presence`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from ...types import PresenceState

OFFLINE_AFTER_S: Final = 10.0
"""So long somebody must be gone until that is told: reconnecting takes less, also in a rolling restart."""

EACH_S: Final = 5.0
"""Least time between two changes of one user that are told."""

_GONE_MAX: Final = 50_000
"""Users who went offline and are remembered, the newest."""


class Change(NamedTuple):
    """What is to be told of a user."""

    user_id: str
    state: PresenceState
    last_seen_ms: int | None


class _Place(msgspec.Struct):
    """A user at a node, and until when that is believed."""

    away: bool
    until_s: float


class _Gone(msgspec.Struct):
    """When somebody went, by the monotonic clock and by the calendar."""

    at_s: float
    at_ms: int


class Availability:
    """Users and their states, announced and not announced yet."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, _Place]] = {}
        self._gone: dict[str, _Gone] = {}
        self._announced: dict[str, PresenceState] = {}
        self._announced_at_s: dict[str, float] = {}
        self._open: dict[str, None] = {}

    def here(self, node_id: str, user_id: str, *, away: bool, until_s: float = math.inf) -> None:
        """A user is at a node until then."""
        self._places.setdefault(user_id, {})[node_id] = _Place(away, until_s)
        self._gone.pop(user_id, None)
        self._changed(user_id)

    def gone(self, node_id: str, user_id: str, now_s: float, now_ms: int) -> None:
        """A user is not at a node any more."""
        places = self._places.get(user_id, {})
        if places.pop(node_id, None) is None:
            return
        if not places:
            del self._places[user_id]
            self._gone[user_id] = _Gone(now_s, now_ms)
            if len(self._gone) > _GONE_MAX:
                del self._gone[next(iter(self._gone))]
        self._changed(user_id)

    def expire(self, now_s: float, now_ms: int) -> None:
        """Give up what was not renewed in time."""
        ended = [
            (node_id, user_id)
            for user_id, places in self._places.items()
            for node_id, place in places.items()
            if place.until_s <= now_s
        ]
        for node_id, user_id in ended:
            self.gone(node_id, user_id, now_s, now_ms)

    def state(self, user_id: str) -> PresenceState:
        """ONLINE if they are at any device, AWAY if away from all that are connected."""
        places = self._places.get(user_id)
        if not places:
            return "OFFLINE"
        return "AWAY" if all(place.away for place in places.values()) else "ONLINE"

    def last_seen_ms(self, user_id: str) -> int | None:
        """When they went offline; None if they are not, or if that is not known here."""
        gone = self._gone.get(user_id)
        return None if gone is None else gone.at_ms

    def due(self, now_s: float, limit: int) -> list[Change]:
        """What is to be told now; it is due until `announced`."""
        self._forget_times(now_s)
        found: list[Change] = []
        for user_id in list(self._open):
            state = self.state(user_id)
            if state == self._announced.get(user_id, "OFFLINE"):
                del self._open[user_id]
            elif now_s >= self._due_s(user_id, state):
                found.append(Change(user_id, state, self.last_seen_ms(user_id)))
                if len(found) == limit:
                    break
        return found

    def announced(self, change: Change, now_s: float) -> None:
        """A change was announced."""
        self._known(change.user_id, change.state)
        self._announced_at_s.pop(change.user_id, None)
        self._announced_at_s[change.user_id] = now_s
        self._open.pop(change.user_id, None)  # who has changed again meanwhile waits behind the others
        self._changed(change.user_id)

    def take_as_announced(self, user_id: str) -> None:
        """Tell nobody how it is with this user now: others have told it."""
        self._known(user_id, self.state(user_id))

    def _known(self, user_id: str, state: PresenceState) -> None:
        if state == "OFFLINE":
            self._announced.pop(user_id, None)
        else:
            self._announced[user_id] = state

    def _changed(self, user_id: str) -> None:
        if self.state(user_id) != self._announced.get(user_id, "OFFLINE"):
            self._open[user_id] = None

    def _due_s(self, user_id: str, state: PresenceState) -> float:
        due_s = self._announced_at_s.get(user_id, -EACH_S) + EACH_S
        gone = self._gone.get(user_id)
        if state == "OFFLINE" and gone is not None:
            due_s = max(due_s, gone.at_s + OFFLINE_AFTER_S)
        return due_s

    def _forget_times(self, now_s: float) -> None:
        for user_id, announced_s in list(self._announced_at_s.items()):
            if announced_s + EACH_S > now_s:
                break
            del self._announced_at_s[user_id]
