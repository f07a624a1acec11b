"""Which devices of a user stay when one more comes: never one that is online is forgotten.

A node knows its own sessions; of those at other nodes the store knows when they were last seen, which every node
refreshes for its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from ..ports import Clock
from ..storage.base import ConfirmMessage, DeviceRule, OpenSession, RegisterPush, SeeDevices
from .limits import Limits
from .live.presence import Presence
from .pending import PendingCommand

SEEN_EVERY_S: Final = 600.0
"""How often online devices are noted as seen: 33 rows a second for 20,000 of them."""

_DEVICES_PER_COMMAND: Final = 500
_MAKES_DEVICES: Final = (OpenSession, ConfirmMessage, RegisterPush)


class Devices:
    """The devices that are here, and what that means for those that come.

    Args:
        clustered: Whether a user's devices may be online at other nodes.
    """

    def __init__(self, presence: Presence, limits: Limits, clock: Clock, *, clustered: bool) -> None:
        self._presence = presence
        self._devices_max = limits.devices_per_user
        self._clock = clock
        self._seen_ms = int(2 * SEEN_EVERY_S * 1000) if clustered else None
        self._opening: dict[str, Counter[str]] = {}

    def spare_online(self, batch: Iterable[PendingCommand]) -> None:
        """A transaction begins: have its commands forget no device that is online now, or logs in with them."""
        for pending in batch:
            command = pending.command
            if isinstance(command, _MAKES_DEVICES):
                pending.command = replace(command, rule=self._rule(command.user_id))

    def _rule(self, user_id: str) -> DeviceRule:
        online = (*self._presence.device_ids(user_id), *self._opening.get(user_id, ()))
        return DeviceRule(self._devices_max, online, self._seen_ms)

    @contextmanager
    def opening(self, user_id: str, device_id: str) -> Iterator[None]:
        """While a device logs in it counts as online."""
        opening = self._opening.setdefault(user_id, Counter())
        opening[device_id] += 1
        try:
            yield
        finally:
            opening[device_id] -= 1
            if not opening[device_id]:
                del opening[device_id]
            if not opening:
                self._opening.pop(user_id, None)

    def online(self) -> Iterator[SeeDevices]:
        """Commands that note everybody here as seen."""
        places = [(it.user_id, it.device_id) for it in self._presence.all_sessions()]
        for start in range(0, len(places), _DEVICES_PER_COMMAND):
            yield SeeDevices(tuple(places[start : start + _DEVICES_PER_COMMAND]), self._clock.now_ms())
