"""One connection of the faulty network: two directions that delay, fill up, hang and break, and what travels on them.

Knows neither clients nor servers: `network` puts one of each at the ends. Every draw comes from the random stream
that is handed in, and nothing depends on addresses, so a seed decides everything that happens here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import msgspec

from ..errors import ConfigurationError
from ..ports import Random
from ..transport.base import ABNORMAL
from ..wire.codec import close_reason

_TICK_S = 1e-6
"""What is due within this has arrived: sums of floats do not meet exactly."""

_NAP_S = 0.05
"""A shorter wait is slept through: a wait that can be woken costs twice as much, and most delays are short."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """How the whole network behaves. New ones hold at once, also for what is under way.

    Attributes:
        latency_s: Least and greatest delay of a frame, drawn for each; the order within a direction is kept.
        bytes_per_s: Bandwidth of each direction of each line; None has no bound.
        refuse_probability: That opening a connection fails.
        cut_probability: Per frame, that of opening and closing included, that its line is cut just then.

    Raises:
        ConfigurationError: The delays are not two numbers, one is negative or the greatest is below the least, a
            bandwidth is not above 0, or a probability is not within 0 and 1.
    """

    latency_s: tuple[float, float] = (0.001, 0.02)
    bytes_per_s: float | None = None
    refuse_probability: float = 0.0
    cut_probability: float = 0.0

    def __post_init__(self) -> None:
        if not _is_range(self.latency_s):
            raise ConfigurationError(
                "latency_s must be a least and a greatest number of seconds, as in (0.05, 0.8)"
            )
        if self.bytes_per_s is not None and not (_is_number(self.bytes_per_s) and self.bytes_per_s > 0):
            raise ConfigurationError("bytes_per_s must be a number above 0, or None for no bound")
        for probability in (self.refuse_probability, self.cut_probability):
            if not (_is_number(probability) and 0 <= probability <= 1):
                raise ConfigurationError("a probability must be a number within 0 and 1")

    def latency(self, share: float) -> float:
        """The delay in seconds that lies at this share of the range."""
        least_s, greatest_s = self.latency_s
        return least_s + share * (greatest_s - least_s)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_range(value: object) -> bool:
    """Whether it is two finite numbers of seconds, the least first."""
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    least_s, greatest_s = map(float, value)
    return 0 <= least_s <= greatest_s < math.inf


class Opened(msgspec.Struct, frozen=True):
    """The first message of each end: the subprotocol that is asked for, and then the one that was chosen, if any."""

    subprotocol: str | None


class Closed(msgspec.Struct, frozen=True):
    """The last message: with the WebSocket close code."""

    code: int
    reason: str = ""


LOST = Closed(ABNORMAL, "the connection was lost")

Message = bytes | str | Opened | Closed
"""What one end says and the other hears: a frame, or the beginning or end of them."""


class Carrier(Protocol):
    """How one end's messages become parcels that travel, and parcels messages again. Never waits."""

    def say(self, message: Message) -> None:
        """Take in a message; nothing of it once the connection is closing."""

    def parcels(self) -> Sequence[Message]:
        """What is to travel now, each time something was said or heard. It is handed out once."""

    def hear(self, parcel: Message | None) -> Sequence[Message]:
        """The messages that this parcel completes, possibly none.

        Args:
            parcel: None for the end of all parcels; the last message is a Closed then.
        """


class Frames:
    """The plain carrier: each message travels whole, as itself."""

    def __init__(self) -> None:
        self._said: list[Message] = []

    def say(self, message: Message) -> None:
        """Take in a message."""
        self._said.append(message)

    def parcels(self) -> Sequence[Message]:
        """What was said since the last call."""
        said, self._said = self._said, []
        return said

    def hear(self, parcel: Message | None) -> Sequence[Message]:
        """The message itself."""
        return (LOST if parcel is None else parcel,)


class _Parcel(msgspec.Struct):
    """Something under way. `share` places its delay in the range of the conditions."""

    content: Message | None
    size_bytes: int
    sent_at_s: float
    share: float


class _Bell:
    """Wakes all who wait now."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None


class Way:
    """One direction of a line: what is pushed at one end is got at the other, in order, later, or never.

    When something arrives is worked out while it is under way, so that new conditions apply to it.

    Args:
        conditions: The present ones.
        rng: Draws delays, and what is lost.
        window_bytes: So much may be under way before a sender has to wait.

    Attributes:
        under_way_bytes: So much is under way.
    """

    def __init__(self, conditions: Callable[[], Conditions], rng: Random, window_bytes: int) -> None:
        self._conditions = conditions
        self._rng = rng
        self._window_bytes = window_bytes
        self._under_way: deque[_Parcel] = deque()
        self.under_way_bytes = 0
        self._clear_at_s = 0.0
        self._stalled = False
        self._finished = False  # nothing is pushed any more
        self._abandoned = False  # nobody gets any more
        self._cut = False
        self._arrival = _Bell()
        self._room = _Bell()

    # --- for the end that sends ---

    async def room(self, size_bytes: int) -> None:
        """Return once so much more fits the window (or all before has arrived), or nothing arrives any more."""
        while not self._has_room(size_bytes):
            await self._room.wait()

    def push(self, content: Message, size_bytes: int) -> None:
        """Send something on its way; nothing once this direction has ended."""
        if not self._swallows:
            self._add(content, size_bytes)

    def finish(self) -> None:
        """The sender has ended in good order: what is under way still arrives, then the end."""
        if not self._finished:
            self._add(None, 0)
            self._finished = True
            self._room.ring()

    def abort(self) -> None:
        """The sender is gone without a word: what is under way is lost from a random point on, then comes the end."""
        if not self._cut:
            self._lose(int(self._rng.random() * (len(self._under_way) + 1)))
            self._finished = False
            self.finish()

    # --- for the end that receives ---

    async def get(self) -> Message | None:
        """What arrives next, once it does; None from the end on."""
        while (wait_s := self._wait_s()) > _TICK_S:
            await self._wait(wait_s)
        return self._take()

    def abandon(self) -> None:
        """The receiver is gone: `get` returns None. What hangs in a stalled direction still fills the window."""
        self._abandoned = True
        self._drop_unwanted()
        self._arrival.ring()

    # --- for those who make faults ---

    def cut(self) -> None:
        """Break it: what is under way is lost from a random point on (all, if it hung); the end comes at once."""
        if self._stalled:
            self._lose(0)
        self.abort()
        self._cut = True
        self._arrival.ring()

    def stall(self) -> None:
        """Nothing arrives until `release` or `cut`, and neither end notices."""
        self._stalled = True

    def release(self) -> None:
        """What hung arrives, and what follows it."""
        self._stalled = False
        self._drop_unwanted()
        self._arrival.ring()

    def conditions_changed(self) -> None:
        """Work out anew when what is under way arrives."""
        self._arrival.ring()

    # --- inside ---

    @property
    def _swallows(self) -> bool:
        return self._finished or (self._abandoned and not self._stalled)

    def _has_room(self, size_bytes: int) -> bool:
        fits = self.under_way_bytes + size_bytes <= self._window_bytes
        return fits or not self.under_way_bytes or self._swallows

    def _add(self, content: Message | None, size_bytes: int) -> None:
        parcel = _Parcel(content, size_bytes, anyio.current_time(), self._rng.random())
        self._under_way.append(parcel)
        self.under_way_bytes += size_bytes
        if len(self._under_way) == 1:
            self._arrival.ring()

    def _lose(self, keep: int) -> None:
        while len(self._under_way) > keep:
            self.under_way_bytes -= self._under_way.pop().size_bytes

    def _drop_unwanted(self) -> None:
        if self._abandoned and not self._stalled:
            self._lose(0)
            self._room.ring()

    async def _wait(self, wait_s: float) -> None:
        """Until then, or until something has changed that matters before."""
        if wait_s == math.inf:
            await self._arrival.wait()
        elif wait_s < _NAP_S:
            await anyio.sleep(wait_s)
        else:
            with anyio.move_on_after(wait_s):
                await self._arrival.wait()

    def _wait_s(self) -> float:
        if self._abandoned or self._cut:
            return 0.0
        if self._stalled:
            return math.inf
        if not self._under_way:
            return 0.0 if self._finished else math.inf
        return self._arrives_at_s(self._under_way[0]) - anyio.current_time()

    def _left_at_s(self, parcel: _Parcel) -> float:
        """When its last byte has left the sender, which sends one parcel after the other."""
        rate = self._conditions().bytes_per_s
        begun_at_s = max(parcel.sent_at_s, self._clear_at_s)
        return begun_at_s if rate is None else begun_at_s + parcel.size_bytes / rate

    def _arrives_at_s(self, parcel: _Parcel) -> float:
        return self._left_at_s(parcel) + self._conditions().latency(parcel.share)

    def _take(self) -> Message | None:
        if self._abandoned or not self._under_way:
            return None
        parcel = self._under_way.popleft()
        self._clear_at_s = self._left_at_s(parcel)
        self.under_way_bytes -= parcel.size_bytes
        self._room.ring()
        return parcel.content


class Line:
    """One connection between a client and a server, and what can be done to it. Made by `Network`.

    Attributes:
        number: Place in the order of opening, from 1; unique in its network.
        node: The server's name.
        user_id: Whose client it is.
        device_id: On which device.
        subprotocol: What the client asked to speak.
        up: From the client to the server.
        down: From the server to the client.
    """

    def __init__(
        self,
        number: int,
        node: str,
        user_id: str,
        device_id: str,
        subprotocol: str,
        *,
        conditions: Callable[[], Conditions],
        rng: Random,
        window_bytes: int,
    ) -> None:
        self.number = number
        self.node = node
        self.user_id = user_id
        self.device_id = device_id
        self.subprotocol = subprotocol
        self.up = Way(conditions, rng, window_bytes)
        self.down = Way(conditions, rng, window_bytes)
        self._conditions = conditions
        self._rng = rng
        self._cut = False

    def __repr__(self) -> str:
        return f"<Line {self.number} {self.user_id}/{self.device_id} to {self.node}>"

    def cut(self) -> None:
        """Break the connection: both ends see its end within 0.05 s, stalled or not. A second call does nothing.

        What is under way is lost from a random point on, in each direction; what hung in a stalled one, all of it.
        """
        if not self._cut:
            self._cut = True
            self.up.cut()
            self.down.cut()

    def stall(self, *, up: bool | None = None, down: bool | None = None) -> None:
        """Let nothing through in these directions until `release` or `cut`, not even the end of the connection.

        Neither end notices. One direction is a one-way partition; `up=True, down=True` is a half-open connection. The
        window fills meanwhile, as that of a socket does. A direction that is False, or not named, stays as it is.

        Raises:
            ConfigurationError: No direction was named.
        """
        if up is None and down is None:
            raise ConfigurationError("stall needs a direction: up=True, down=True or both")
        if up:
            self.up.stall()
        if down:
            self.down.stall()

    def release(self) -> None:
        """End every stall: what hung arrives, in order."""
        self.up.release()
        self.down.release()

    def strike(self) -> None:
        """A frame was just sent: the line is cut with the probability of the conditions."""
        if self._rng.random() < self._conditions().cut_probability:
            self.cut()


class End:
    """One end of a line: says and hears messages, whatever carries them.

    Args:
        line: The line.
        carrier: This end's.
        out: The direction in which it says.
        into: The direction from which it hears.

    Attributes:
        line: The line.
        ended: How this end came to its end; None while it is open.
    """

    def __init__(self, line: Line, carrier: Carrier, *, out: Way, into: Way) -> None:
        self.line = line
        self.ended: Closed | None = None
        self._carrier = carrier
        self._out = out
        self._into = into
        self._heard: deque[Message] = deque()

    def say(self, message: Message) -> None:
        """Send it without waiting; nothing, once nothing arrives any more."""
        self._carrier.say(message)
        self._carry()
        self.line.strike()

    async def say_frame(self, frame: bytes | str) -> None:
        """Send it once the window has room."""
        await self._out.room(_size_bytes(frame))
        if self.ended is None:
            self.say(frame)

    async def hear(self) -> Message:
        """What the other end said next. A Closed is the last of it."""
        while not self._heard:
            self._heard.extend(self._carrier.hear(await self._into.get()))
            self._carry()
        return self._heard.popleft()

    def close(self, code: int, reason: str) -> None:
        """Say so, and end. Nothing if it has ended."""
        if self.ended is None:
            closed = Closed(code, close_reason(reason))
            self.say(closed)
            self.end(closed)

    def end(self, closed: Closed) -> None:
        """Neither say nor hear any more; the other end sees a break if this one did. A second call does nothing."""
        if self.ended is None:
            self.ended = closed
            self._into.abandon()
            if closed.code == ABNORMAL:
                self._out.abort()
            else:
                self._out.finish()
            self.on_end()

    def on_end(self) -> None:
        """Called once, when this end has ended."""

    def _carry(self) -> None:
        for parcel in self._carrier.parcels():
            self._out.push(parcel, _size_bytes(parcel))


def _size_bytes(message: Message) -> int:
    if isinstance(message, str):
        return len(message) if message.isascii() else len(message.encode())
    return len(message) if isinstance(message, bytes) else 0
