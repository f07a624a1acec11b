"""The bounded buffer between the reader, which never waits, and the app, which may take its time.

`put` never waits. From `events_max` events on the queue is `paused`: the inbox leaves pushes to a later SYNC and no
page is pulled, until the app has taken it down to `events_low`. What is in hand at that moment (a frame, and the pages
under way, for which there was room when they were asked for) still gets its place. Of what the server says of a
conversation itself (ConversationChanged) only the newest waits then, so that part is bounded by the number of
conversations. While it is paused, ephemeral events are dropped; the newest connection state takes the place
of the one before it; outcomes of sends that nobody waits for are kept up to twice the bound, then dropped (`send` with
the same key gives them again).
"""

from __future__ import annotations

from collections import OrderedDict

import anyio.lowlevel

from .._auto_reset_event import AutoResetEvent
from .events import (
    ChatEvent,
    ConnectionEvent,
    ConversationChanged,
    EphemeralEvent,
    MessageSent,
    SendFailed,
)

_EVENTS_PER_TURN = 64


class EventQueue:
    """Events for the app, in order.

    Args:
        events_max: From so many on the queue is paused.
        events_low: Down to so few it stays paused.
    """

    def __init__(self, events_max: int, events_low: int) -> None:
        self._events: OrderedDict[int, ChatEvent] = OrderedDict()
        self._count = 0
        self._since_turn = 0
        self._newest: dict[str, int] = {}  # put while paused, and still waiting
        self._events_max = events_max
        self._events_low = min(events_low, events_max - 1)
        self._filled = AutoResetEvent()
        self._drained = AutoResetEvent()
        self.paused = False
        self.closed = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def room(self) -> int:
        """How many events more until it is paused."""
        return max(0, self._events_max - len(self._events))

    def put(self, event: ChatEvent, *, droppable: bool = False) -> None:
        """Add an event; while the queue is paused, ephemeral and droppable ones are left out."""
        if self.paused:
            if droppable or isinstance(event, EphemeralEvent) or self._overflows(event):
                return
            if isinstance(event, ConnectionEvent) and isinstance(self._last(), ConnectionEvent):
                self._events.popitem()
            if isinstance(event, ConversationChanged) and self._replaces(event):
                return
        self._count += 1
        self._events[self._count] = event
        if not self.paused and len(self._events) >= self._events_max:
            self.paused = True
        self._filled.set()

    def _last(self) -> ChatEvent:
        return self._events[next(reversed(self._events))]

    def _replaces(self, event: ConversationChanged) -> bool:
        """Drop what `event` overtakes. Returns whether the one that waits says all of it already."""
        id_ = event.conversation_id
        earlier = self._events.get(self._newest.get(id_, 0))
        if event.change == "UPDATED" and getattr(earlier, "change", "LEFT") != "LEFT":
            return True
        if earlier is not None:
            del self._events[self._newest[id_]]
        self._newest[id_] = self._count + 1
        return False

    def _overflows(self, event: ChatEvent) -> bool:
        """Outcomes of sends are the one kind that an app can make without end and without looking."""
        return isinstance(event, MessageSent | SendFailed) and len(self._events) >= 2 * self._events_max

    def close(self) -> None:
        """No more events follow; those in the queue can still be taken."""
        self.closed = True
        self._filled.set()

    async def take(self) -> ChatEvent | None:
        """The next event; None once the queue is closed and empty. One caller at a time.

        Can be cancelled before each event without losing one, and lets the other tasks run every few of them,
        however many wait.
        """
        await self._checkpoint()
        while not self._events:
            if self.closed:
                return None
            await self._filled.wait()
        _, event = self._events.popitem(last=False)
        if self.paused and len(self._events) <= self._events_low:
            self.paused = False
            self._newest.clear()
            self._drained.set()
        return event

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
