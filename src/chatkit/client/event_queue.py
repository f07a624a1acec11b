"""The bounded buffer between the reader, which never waits, and the app, which may take its time.

`put` never waits. From `events_max` events or `bytes_max` bytes on the queue is `paused`: the inbox leaves pushes to a
later SYNC and no page is pulled, until the app has taken it down to `events_low` events and half the bytes. What is in
hand at that moment (a frame, and the pages under way, for which there was room when they were asked for) still gets its
place. Of what the server says of a conversation itself (ConversationChanged) only the newest waits then, so that part
is bounded by the number of conversations; that their list changed waits once. While it is paused, ephemeral events are
dropped; the newest connection state takes the place of the one before it; outcomes of sends that nobody waits for are
kept up to twice the bound, then dropped (`send` with the same key gives them again). Of a streamed message one
StreamGrew waits at most, paused or not: it has all of the text, so a newer one takes its place.

Who takes may pass over conversations that are busy: their events wait aside, in order, and count all the same, so the
bounds hold for both together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from sys import getsizeof

import anyio
import anyio.lowlevel

from .._auto_reset_event import AutoResetEvent
from ..core.sizes import size_of, size_of_payload
from .events import (
    ChatEvent,
    ConnectionEvent,
    ConversationChanged,
    ConversationListChanged,
    Delivery,
    EphemeralEvent,
    MessageEdited,
    MessageReceived,
    MessageSent,
    SendFailed,
    StreamGrew,
)

_EVENTS_PER_TURN = 64

EVENT_BYTES = 500
"""What an event without a payload counts."""

EVENTS_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of events that wait for the app."""


Place = tuple[str, int]
"""(conversation id, seq)."""

_Events = OrderedDict[int, tuple[Delivery, int]]
_NONE: _Events = OrderedDict()


def _is_never_busy(conversation_id: str) -> bool:
    return False


class EventQueue:
    """Events for the app, in order.

    Args:
        events_max: From so many on the queue is paused.
        events_low: Down to so few it stays paused.
        bytes_max: From so many bytes on the queue is paused too, down to half of it.

    Attributes:
        size_bytes: What the events that wait hold, as counted here.
        list_is_shown: Whether the app wants to hear that the list of conversations changed.
    """

    def __init__(self, events_max: int, events_low: int, bytes_max: int = EVENTS_BYTES_MAX) -> None:
        self._events: _Events = OrderedDict()
        self._aside: dict[str, _Events] = {}  # passed over, by conversation
        self._aside_count = 0
        self._released: dict[str, None] = {}  # conversations that may have become free, in order
        self._count = 0
        self._since_turn = 0
        self._newest: dict[str, int] = {}  # put while paused, and still waiting
        self._grew: dict[Place, int] = {}  # the one that waits, of each stream
        self._events_max = events_max
        self._events_low = min(events_low, events_max - 1)
        self._bytes_max = bytes_max
        self.size_bytes = 0
        self._filled = AutoResetEvent()
        self._drained = AutoResetEvent()
        self._while_open: anyio.CancelScope | None = None
        self.paused = False
        self.closed = False
        self.stopped = False
        self.list_is_shown = False
        self._list_number = 0

    def __len__(self) -> int:
        return len(self._events) + self._aside_count

    @property
    def ended(self) -> bool:
        """Whether `take` gives nothing any more."""
        return self.stopped or (self.closed and not len(self))

    @property
    def ending(self) -> bool:
        """Whether nothing may be waited for any more."""
        return self.stopped or self.closed

    @property
    def room(self) -> int:
        """How many events more until it is paused."""
        return max(0, self._events_max - len(self))

    @property
    def room_bytes(self) -> int:
        """How many bytes more until it is paused."""
        return max(0, self._bytes_max - self.size_bytes)

    def put(self, given: ChatEvent | Delivery, *, droppable: bool = False) -> None:
        """Add an event; while the queue is paused, ephemeral and droppable ones are left out."""
        delivery = given if isinstance(given, Delivery) else Delivery(given)
        if type(delivery.event) is StreamGrew and self._grows(delivery.event, delivery):
            return
        if not (self.paused and self._left_out(delivery.event, droppable)):
            self._add(delivery)

    def list_changed(self) -> None:
        """The list of conversations reads differently now. Of these events one waits at most, and none is left out."""
        if self.list_is_shown and self._event(self._list_number) is None:
            self._list_number = self._count + 1
            self._add(Delivery(ConversationListChanged()))

    def forget_above(self, conversation_id: str, seq: int) -> None:
        """Drop what waits of a log that was replaced by another one, which is the same up to a seq."""
        for events in (self._events, self._aside.get(conversation_id, _NONE)):
            for number, (delivery, _) in list(events.items()):
                if delivery.conversation_id == conversation_id and delivery.seq > seq:
                    self._remove(number, conversation_id)

    def _left_out(self, event: ChatEvent, droppable: bool) -> bool:
        """Whether a paused queue does without `event`; it may take the place of an earlier one."""
        if droppable or isinstance(event, EphemeralEvent) or self._overflows(event):
            return True
        number = self._last()
        if isinstance(event, ConnectionEvent) and isinstance(self._event(number), ConnectionEvent):
            self._remove(number)
        return isinstance(event, ConversationChanged) and self._replaces(event)

    def _add(self, delivery: Delivery) -> None:
        self._count += 1
        size_bytes = _size_of(delivery.event)
        self._events[self._count] = delivery, size_bytes
        if type(delivery.event) is StreamGrew:
            self._grew[_place(delivery.event)] = self._count
        self._counted(size_bytes)
        self._filled.set()

    def _grows(self, event: StreamGrew, delivery: Delivery) -> bool:
        """Put what a stream says now where an earlier text of it waits. Returns whether one did."""
        number = self._grew.get(_place(event))
        if number is None:
            return False
        events = self._events if number in self._events else self._aside[delivery.conversation_id]
        size_bytes = _size_of(event)
        self._counted(size_bytes - events[number][1])
        events[number] = delivery, size_bytes
        return True

    def _counted(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if len(self) >= self._events_max or self.size_bytes >= self._bytes_max:
            self.paused = True

    def _remove(self, number: int, conversation_id: str = "") -> Delivery:
        if number in self._events:
            delivery, size_bytes = self._events.pop(number)
        else:
            aside = self._aside[conversation_id]
            delivery, size_bytes = aside.pop(number)
            self._aside_count -= 1
            if not aside:
                del self._aside[conversation_id]
        self.size_bytes -= size_bytes
        if type(delivery.event) is StreamGrew:
            del self._grew[_place(delivery.event)]
        return delivery

    def _last(self) -> int:
        """The number of the newest event of no conversation, or of the newest of all; 0 if there is none."""
        return next(reversed(self._events or self._aside.get("", _NONE)), 0)

    def _event(self, number: int) -> ChatEvent | None:
        """The event with this number, if it waits among all, or aside and is of no conversation."""
        found = self._events.get(number) or self._aside.get("", _NONE).get(number)
        return None if found is None else found[0].event

    def _replaces(self, event: ConversationChanged) -> bool:
        """Drop what `event` overtakes. Returns whether the one that waits says all of it already."""
        id_ = event.conversation_id
        number = self._newest.get(id_, 0)
        earlier = self._event(number)
        if event.change == "UPDATED" and getattr(earlier, "change", "LEFT") != "LEFT":
            return True
        if earlier is not None:
            self._remove(number)
        self._newest[id_] = self._count + 1
        return False

    def _overflows(self, event: ChatEvent) -> bool:
        """Outcomes of sends are the one kind that an app can make without end and without looking."""
        return isinstance(event, MessageSent | SendFailed) and len(self) >= 2 * self._events_max

    def close(self) -> None:
        """No more events follow; those in the queue can still be taken."""
        self.closed = True
        self._filled.set()
        if self._while_open is not None:
            self._while_open.cancel()

    @contextmanager
    def while_open(self) -> Iterator[None]:
        """The body is cut short where it waits once the queue is closed or stopped. One caller at a time: who takes."""
        with anyio.CancelScope() as self._while_open:
            try:
                yield
            finally:
                self._while_open = None

    def stop(self) -> None:
        """Hand nothing out until `resume`; what comes waits."""
        self.stopped = True
        self._filled.set()
        if self._while_open is not None:
            self._while_open.cancel()

    def resume(self) -> None:
        """Hand out again, also what was passed over, each in its place."""
        self.stopped = False
        if self._aside:
            waiting = [
                *self._events.items(),
                *(each for aside in self._aside.values() for each in aside.items()),
            ]
            self._events = OrderedDict(sorted(waiting, key=lambda each: each[0]))
            self._aside.clear()
            self._aside_count = 0
        self._released.clear()

    def release(self, conversation_id: str) -> None:
        """A conversation may not be busy any more: its events have their turn, and whoever takes looks again."""
        self._released[conversation_id] = None
        self._filled.set()

    async def take(self, is_busy: Callable[[str], bool] = _is_never_busy) -> Delivery | None:
        """The next event of a conversation that is not busy. One caller at a time.

        Can be cancelled before each event without losing one, and lets the other tasks run every few of them,
        however many wait.

        Returns:
            None once `ended`; also after a `release`, if that gave no event.
        """
        await self._checkpoint()
        while True:
            was_released = bool(self._released)
            delivery = self._pop(is_busy)
            if delivery is not None or was_released or self.ended:
                return delivery
            await self._filled.wait()

    def _pop(self, is_busy: Callable[[str], bool]) -> Delivery | None:
        if self.stopped:
            return None
        while self._released:
            id_ = next(iter(self._released))
            del self._released[id_]
            if id_ in self._aside and not is_busy(id_):
                return self._handed_out(next(iter(self._aside[id_])), id_)
        while self._events:
            number = next(iter(self._events))
            id_ = self._events[number][0].conversation_id
            if id_ not in self._aside and not is_busy(id_):
                return self._handed_out(number)
            self._aside.setdefault(id_, OrderedDict())[number] = self._events.pop(number)
            self._aside_count += 1
        return None

    def _handed_out(self, number: int, conversation_id: str = "") -> Delivery:
        delivery = self._remove(number, conversation_id)
        if self.paused and self._is_low():
            self.paused = False
            self._newest.clear()
            self._drained.set()
        return delivery

    def _is_low(self) -> bool:
        return len(self) <= self._events_low and self.size_bytes <= self._bytes_max // 2

    async def _checkpoint(self) -> None:
        """Letting the others run at every event would cost more than the event: each turn of the loop is a frame."""
        self._since_turn += 1
        if self._since_turn < _EVENTS_PER_TURN:
            await anyio.lowlevel.checkpoint_if_cancelled()
            return
        self._since_turn = 0
        await anyio.lowlevel.checkpoint()

    async def wait_drained(self) -> None:
        """Return once the queue is not paused."""
        while self.paused:
            await self._drained.wait()


def _place(event: StreamGrew) -> Place:
    return event.conversation_id, event.seq


def _size_of(event: ChatEvent) -> int:
    if isinstance(event, MessageReceived):
        return size_of(event.message)
    if isinstance(event, StreamGrew):
        return EVENT_BYTES + getsizeof(event.text)
    return size_of_payload(event.edit.payload) if isinstance(event, MessageEdited) else EVENT_BYTES
