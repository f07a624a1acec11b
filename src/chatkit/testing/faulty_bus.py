"""A bus between the nodes of one process that does all that its contract allows: it loses, repeats and reorders."""

from __future__ import annotations

import msgspec

from ..bus.base import Message
from ..bus.local import LocalBus, LocalMember
from ..ports import Random


class BusFaults(msgspec.Struct, kw_only=True):
    """How a bus behaves; probabilities from 0 to 1, drawn for each message and member. May be changed at any time.

    Attributes:
        loss_probability: The member never gets it, and nobody says so.
        repeat_probability: The member gets it twice.
        reorder_probability: It is held back until later ones have passed.
    """

    loss_probability: float = 0.0
    repeat_probability: float = 0.0
    reorder_probability: float = 0.0


class FaultyBus(LocalBus):
    """`LocalBus` with faults.

    Args:
        faults: What goes wrong, and how often.
        rng: Where they are drawn from.
    """

    def __init__(self, faults: BusFaults, rng: Random) -> None:
        super().__init__()
        self._faults = faults
        self._rng = rng
        self._held: list[tuple[LocalMember, Message]] = []

    def carry(self, member: LocalMember, message: Message) -> None:
        """Carry a message to one member, or lose it, or keep it for later; then maybe what was kept."""
        if self._happens(self._faults.loss_probability):
            return
        if self._happens(self._faults.reorder_probability):
            self._held.append((member, message))
            return
        member.offer(message)
        if self._happens(self._faults.repeat_probability):
            member.offer(message)
        if self._held and self._happens(0.5):
            self.release()

    def release(self) -> None:
        """Carry everything that was held back, the newest first."""
        held, self._held = self._held, []
        for member, message in reversed(held):
            member.offer(message)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability
