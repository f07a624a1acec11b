"""What this node must ask the log about: noted by whoever sees a sign, taken by `reconcile`.

A sign may be wrong, late or repeated; it never says more than "look here". What is noted twice is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..._auto_reset_event import AutoResetEvent
from ...types import JoinReason


class Noted(msgspec.Struct):
    """Signs that were taken.

    Attributes:
        logs: Conversations whose log may go further than this node has applied, or be another one.
        joins: By conversation, users who may have become members of it, and how.
        devices: (user, device) that may have opened a session elsewhere.
        changes: Whether memberships may have changed anywhere.
        all_logs: Whether every log is to be looked at.
        all_devices: Whether every device is to be looked at.
    """

    logs: dict[str, None] = msgspec.field(default_factory=dict)
    joins: dict[str, dict[str, JoinReason]] = msgspec.field(default_factory=dict)
    devices: dict[tuple[str, str], None] = msgspec.field(default_factory=dict)
    changes: bool = False
    all_logs: bool = False
    all_devices: bool = False


class ReconcileQueue:
    """Collects signs until somebody takes them. Its bound: the conversations, members and devices that there are."""

    def __init__(self) -> None:
        self._noted = Noted()
        self._woken = AutoResetEvent()

    def log(self, conversation_id: str) -> None:
        """The log of this conversation must be looked at."""
        self._noted.logs[conversation_id] = None
        self._woken.set()

    def joined(self, conversation_id: str, user_ids: Iterable[str], reason: JoinReason) -> None:
        """These users may have become members."""
        users = self._noted.joins.setdefault(conversation_id, {})
        for user_id in user_ids:
            users.setdefault(user_id, reason)
        self._woken.set()

    def device(self, user_id: str, device_id: str) -> None:
        """This device may have opened a session on another node."""
        self._noted.devices[user_id, device_id] = None
        self._woken.set()

    def all_logs(self) -> None:
        """Every log must be looked at."""
        self._noted.all_logs = True
        self._woken.set()

    def changes(self) -> None:
        """Every change of memberships since the last look must be read."""
        self._noted.changes = True
        self._woken.set()

    def all_devices(self) -> None:
        """Every device with a session here must be looked at."""
        self._noted.all_devices = True
        self._woken.set()

    def everything(self) -> None:
        """All of it: messages of other nodes may have been lost."""
        self.all_logs()
        self.changes()
        self.all_devices()

    def again(self, noted: Noted) -> None:
        """Note once more what was taken and got no answer."""
        mine = self._noted
        mine.logs |= noted.logs
        mine.devices |= noted.devices
        for conversation_id, users in noted.joins.items():
            mine.joins[conversation_id] = users | mine.joins.get(conversation_id, {})
        mine.changes |= noted.changes
        mine.all_logs |= noted.all_logs
        mine.all_devices |= noted.all_devices
        if mine != Noted():
            self._woken.set()

    async def wait(self) -> None:
        """Return once something is noted."""
        while self._noted == Noted():
            await self._woken.wait()

    def take(self) -> Noted:
        """All that is noted, which is forgotten here."""
        noted, self._noted = self._noted, Noted()
        return noted
