"""A bus between the nodes of one process that does all that its contract allows: it loses, repeats and reorders."""

from __future__ import annotations

import msgspec

from ..bus.base import Message
from ..bus.local import LocalBus, LocalMember
from ..ports import Random


class BusFaults(msgspec.Struct, kw_only=True):
    """How a bus behaves; chances from 0 to 1, drawn for each message and member. May be changed at any time.

    Attributes:
        loss_chance: The member never gets it, and nobody says so.
        repeat_chance: The member gets it twice.
        reorder_chance: It is held back until later ones have passed.
    """

    loss_chance: float = 0.0
    repeat_chance: float = 0.0
    reorder_chance: float = 0.0


class FaultyBus(LocalBus):
    """`LocalBus` with faults.

    Args:
        faults: The weather.
        chance: Where they are drawn from.
    """

    def __init__(self, faults: BusFaults, chance: Random) -> None:
        super().__init__()
        self._faults = faults
        self._chance = chance
        self._held: list[tuple[LocalMember, Message]] = []

    def carry(self, member: LocalMember, message: Message) -> None:
        """Carry a message to one member, or lose it, or keep it for later; then maybe what was kept."""
        if self._happens(self._faults.loss_chance):
            return
        if self._happens(self._faults.reorder_chance):
            self._held.append((member, message))
            return
        member.offer(message)
        if self._happens(self._faults.repeat_chance):
            member.offer(message)
        if self._held and self._happens(0.5):
            self.release()

    def release(self) -> None:
        """Carry everything that was held back, the newest first."""
        held, self._held = self._held, []
        for member, message in reversed(held):
            member.offer(message)

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._chance.random() < chance
