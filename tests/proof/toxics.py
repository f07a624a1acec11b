"""What a `FaultyProxy` can do to a connection: one small value per toxic, about those of Toxiproxy.

A toxic only decides: how many bytes go next, when, and when the connection is to end. The proxy asks each toxic in
force in the order of their adding, waits, and moves the bytes, so that they stay in order whatever is asked of them.
Nothing here waits or touches a socket.
"""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec

from chatkit.errors import ConfigurationError
from chatkit.ports import Random

__all__ = [
    "Bandwidth",
    "BlackHole",
    "Flow",
    "Freeze",
    "Latency",
    "LimitData",
    "Reset",
    "Slicer",
    "SlowClose",
    "Toxic",
]

_SMOOTH_S = 0.05
"""A slow link hands on what it carries in so long, not a whole chunk after a long silence."""


class Flow(msgspec.Struct):
    """What one toxic has seen of one direction of one connection.

    Attributes:
        rng: Its own stream, drawn from the proxy's seed.
        since_s: When it began to act there.
        passed_bytes: How much went on, or vanished, since.
        last_s: When the last of it was due by this toxic; `since_s` before the first.
    """

    rng: Random
    since_s: float
    passed_bytes: int
    last_s: float


class Toxic(msgspec.Struct, frozen=True):
    """Base of all: everything goes on at once. Another toxic overrides what it needs."""

    drops: ClassVar[bool] = False
    """Whether what is due vanishes instead of going on."""

    @property
    def resets(self) -> bool:
        """Whether a connection that it ends is reset rather than closed."""
        return False

    def size(self, waiting_bytes: int, flow: Flow) -> int:
        """How many of the bytes that wait make the next piece."""
        return waiting_bytes

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """When a piece that is due at `at_s` may go on; never is `math.inf`. The end of the stream has size 0."""
        return at_s

    def ends_s(self, flow: Flow) -> float:
        """When the connection is to end; never is `math.inf`."""
        return math.inf


class Latency(Toxic, frozen=True):
    """Everything arrives later, the end of the stream too. Bytes never overtake each other.

    Attributes:
        delay_s: How much later.
        jitter_s: So much more or less, drawn evenly for each piece; at most `delay_s`.

    Raises:
        ConfigurationError: A wait is negative or not finite, or the jitter is above the delay.
    """

    delay_s: float
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("delay_s", self.delay_s)
        _check_seconds("jitter_s", self.jitter_s)
        if self.jitter_s > self.delay_s:
            raise ConfigurationError("jitter_s must be at most delay_s")

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """Later by the delay, and by a draw of the jitter."""
        return at_s + self.delay_s + _spread(self.jitter_s, flow.rng)


class Bandwidth(Toxic, frozen=True):
    """A link that carries so much and no more; each connection has one of its own.

    Attributes:
        bytes_per_s: Its rate, in each direction that the toxic is added to.

    Raises:
        ConfigurationError: The rate is not above 0.
    """

    bytes_per_s: float

    def __post_init__(self) -> None:
        _check_seconds("bytes_per_s", self.bytes_per_s)
        if self.bytes_per_s == 0:
            raise ConfigurationError("bytes_per_s must be above 0")

    def size(self, waiting_bytes: int, flow: Flow) -> int:
        """What the link carries in a moment."""
        return min(waiting_bytes, max(1, int(self.bytes_per_s * _SMOOTH_S)))

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """Once the link is free and has carried it."""
        return max(at_s, flow.last_s) + size / self.bytes_per_s


class Slicer(Toxic, frozen=True):
    """Bytes go on in small pieces.

    Attributes:
        average_bytes: Size of a piece, at least 1.
        variation_bytes: So much more or less, drawn evenly for each piece; below `average_bytes`.
        delay_s: Least time between two pieces.

    Raises:
        ConfigurationError: A size is no whole number or out of its range, or the delay is negative or not finite.
    """

    average_bytes: int
    variation_bytes: int = 0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        _check_count("average_bytes", self.average_bytes, 1)
        _check_count("variation_bytes", self.variation_bytes, 0)
        _check_seconds("delay_s", self.delay_s)
        if self.variation_bytes >= self.average_bytes:
            raise ConfigurationError("variation_bytes must be below average_bytes")

    def size(self, waiting_bytes: int, flow: Flow) -> int:
        """The average, and a draw of the variation."""
        return min(waiting_bytes, self.average_bytes + round(_spread(self.variation_bytes, flow.rng)))

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """Not too soon after the piece before."""
        return at_s if flow.passed_bytes == 0 else max(at_s, flow.last_s + self.delay_s)


class LimitData(Toxic, frozen=True):
    """The connection ends as soon as so many bytes have gone on: in the middle of a frame, say.

    Attributes:
        bytes_max: How many, counted from when the toxic began to act, in each direction on its own; at least 1.
        reset: End it by RST instead of closing it.

    Raises:
        ConfigurationError: The bound is no whole number above 0.
    """

    bytes_max: int
    reset: bool = False

    def __post_init__(self) -> None:
        _check_count("bytes_max", self.bytes_max, 1)

    @property
    def resets(self) -> bool:
        """As it was made."""
        return self.reset

    def size(self, waiting_bytes: int, flow: Flow) -> int:
        """At most what is left."""
        return min(waiting_bytes, max(0, self.bytes_max - flow.passed_bytes))

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """Never, once nothing is left."""
        return math.inf if self._spent(flow) else at_s

    def ends_s(self, flow: Flow) -> float:
        """At once, when nothing is left."""
        return flow.since_s if self._spent(flow) else math.inf

    def _spent(self, flow: Flow) -> bool:
        return flow.passed_bytes >= self.bytes_max


class _Hang(Toxic, frozen=True):
    """Nothing arrives, and the connection may be closed after a while."""

    close_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.close_after_s is not None:
            _check_seconds("close_after_s", self.close_after_s)

    def ends_s(self, flow: Flow) -> float:
        """After its time, if it has one."""
        return math.inf if self.close_after_s is None else flow.since_s + self.close_after_s


class BlackHole(_Hang, frozen=True):
    """Everything vanishes, the end of the stream too, and the connection stays open: half-open, as after a pulled plug.

    A direction that has lost something stays silent for good, also once the toxic is removed: no TCP stream goes on
    behind a hole. For a partition that heals, use `Freeze`.

    Attributes:
        close_after_s: Close the connection so long after the toxic began to act; None leaves it open.

    Raises:
        ConfigurationError: The wait is negative or not finite.
    """

    drops: ClassVar[bool] = True


class Freeze(_Hang, frozen=True):
    """Everything waits until the toxic is removed and arrives then: a partition that heals.

    Attributes:
        close_after_s: Close the connection so long after the toxic began to act; None leaves it open.

    Raises:
        ConfigurationError: The wait is negative or not finite.
    """

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """Never."""
        return math.inf


class Reset(Toxic, frozen=True):
    """The connection is reset (RST) on both sides, new ones as soon as they are made.

    Attributes:
        after_s: How long after the toxic began to act.

    Raises:
        ConfigurationError: The wait is negative or not finite.
    """

    after_s: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("after_s", self.after_s)

    @property
    def resets(self) -> bool:
        """Always."""
        return True

    def ends_s(self, flow: Flow) -> float:
        """After its time."""
        return flow.since_s + self.after_s


class SlowClose(Toxic, frozen=True):
    """The end of the stream arrives late; the bytes before it do not.

    Attributes:
        delay_s: How much later.

    Raises:
        ConfigurationError: The wait is negative or not finite.
    """

    delay_s: float

    def __post_init__(self) -> None:
        _check_seconds("delay_s", self.delay_s)

    def due_s(self, at_s: float, size: int, flow: Flow) -> float:
        """Later, if it is the end."""
        return at_s if size else at_s + self.delay_s


def _spread(width: float, rng: Random) -> float:
    """Even in [-width, width]; nothing is drawn if there is nothing to draw."""
    return width * (2 * rng.random() - 1) if width else 0.0


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be a number, finite and not negative")


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be a whole number, at least {least}")
