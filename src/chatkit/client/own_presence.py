"""Whether the user is at this device, as the app says, and whether the server was told on this connection."""

from __future__ import annotations

from typing import Literal

from .._auto_reset_event import AutoResetEvent
from ..wire import events as ev


class OwnPresence:
    """Outlives connections: each new one begins as ONLINE for the server, and is told again if that is not so."""

    def __init__(self, wake: AutoResetEvent) -> None:
        self._state: Literal["ONLINE", "AWAY"] = "ONLINE"
        self._sent: Literal["ONLINE", "AWAY"] = "ONLINE"
        self._wake = wake

    def set(self, state: Literal["ONLINE", "AWAY"]) -> None:
        """The app says so. It is told at once, or with the next connection."""
        self._state = state
        self._wake.set()

    def connected(self) -> None:
        """A connection has begun."""
        self._sent = "ONLINE"

    def take(self) -> list[ev.PresenceCommand]:
        """What is to be told now."""
        if self._sent == self._state:
            return []
        self._sent = self._state
        return [ev.PresenceCommand(self._state)]
