"""How much that is small a peer of a WebSocket may send: control frames, and fragments of one message."""

from __future__ import annotations

from ..core.rate_limit import Rate, RateLimiter
from ..wire.events import CloseCode

FRAGMENTS_MAX = 1_024
"""Fragments in which a WebSocket message may come; an empty one counts as 64."""

CONTROL_FRAMES = Rate(10, 100)
"""Pings and pongs of a connection."""

_EMPTY_FRAGMENT_COST = 64

CONTROL_FLOOD = CloseCode.OVERLOADED, "too many pings and pongs"
FRAGMENT_FLOOD = CloseCode.TOO_BIG, f"a message in more than {FRAGMENTS_MAX} fragments"
"""How who is above a budget is closed."""


class SmallFrames:
    """Counts what one peer sends."""

    __slots__ = ("_control", "_fragments")

    def __init__(self) -> None:
        self._control: RateLimiter[None] | None = None  # most peers send none
        self._fragments = 0

    def control_frame(self, now_s: float) -> bool:
        """A ping or a pong has come. Returns whether it is within the budget."""
        if self._control is None:
            self._control = RateLimiter(CONTROL_FRAMES)
        return self._control.admit(None, now_s) == 0

    def first_fragment(self) -> None:
        """A message begins."""
        self._fragments = 0

    def fragment(self, size: int) -> bool:
        """A further fragment of this many bytes has come. Returns whether it is within the budget."""
        self._fragments += 1 if size else _EMPTY_FRAGMENT_COST
        return self._fragments <= FRAGMENTS_MAX
