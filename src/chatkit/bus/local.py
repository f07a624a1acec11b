"""The bus inside one process: joins the nodes that run on one event loop. For tests, simulation and small hosts.

Called by whoever makes the nodes: `bus = LocalBus()`, and `ChatServer(..., bus=bus.join())` for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator

from .._auto_reset_event import AutoResetEvent
from .base import BusEvent, Lost, Message

QUEUE_MAX = 10_000
"""Messages that wait for one member's reader, by default."""


class LocalBus:
    """What the members have in common.

    Args:
        queue_max: Messages that may wait for one member's reader.
    """

    def __init__(self, queue_max: int = QUEUE_MAX) -> None:
        self._queue_max = queue_max
        self._members: list[LocalMember] = []

    def join(self) -> LocalMember:
        """A new place on the bus."""
        member = LocalMember(self, self._queue_max)
        self._members.append(member)
        return member

    def publish(self, sender: LocalMember, message: Message) -> None:
        """Carry a message to every other member that subscribed to its topic."""
        for member in self._members:
            if member is not sender and member.listens(message.topic):
                self.carry(member, message)

    def carry(self, member: LocalMember, message: Message) -> None:
        """Carry a message to one member; a bus with faults overrides this."""
        member.offer(message)

    def leave(self, member: LocalMember) -> None:
        """Forget a member."""
        if member in self._members:
            self._members.remove(member)


class LocalMember:
    """`bus.base.Bus` for one node; made by `LocalBus.join`."""

    def __init__(self, bus: LocalBus, queue_max: int) -> None:
        self._bus = bus
        self._queue_max = queue_max
        self._topics: set[str] = set()
        self._arrived: deque[Message] = deque()
        self._lost = False
        self._left = False
        self._woken = AutoResetEvent()

    def publish(self, topic: str, data: bytes) -> None:
        """Offer a message to the other members."""
        if not self._left:
            self._bus.publish(self, Message(topic, data))

    def subscribe(self, topic: str) -> None:
        """Get what is published on this topic from now on."""
        self._topics.add(topic)

    def unsubscribe(self, topic: str) -> None:
        """Get no more of this topic from now on."""
        self._topics.discard(topic)

    def listens(self, topic: str) -> bool:
        """Whether this topic is subscribed to."""
        return topic in self._topics

    def offer(self, message: Message) -> None:
        """Queue a message for the reader; drop it if the queue is full."""
        if len(self._arrived) >= self._queue_max:
            self.lose()
            return
        self._arrived.append(message)
        self._woken.set()

    def lose(self) -> None:
        """Tell the reader that something may have been lost."""
        self._lost = True
        self._woken.set()

    async def events(self) -> AsyncGenerator[BusEvent, None]:
        """What arrives, until `aclose`."""
        while not self._left:
            while self._arrived or self._lost:
                yield self._next()
            if not self._left:
                await self._woken.wait()

    def _next(self) -> BusEvent:
        """What was lost came after what waits, but comes first: a reader learns of it without delay."""
        if self._lost:
            self._lost = False
            return Lost()
        return self._arrived.popleft()

    async def aclose(self) -> None:
        """Leave the bus; `events` ends."""
        self.leave()

    def leave(self) -> None:
        """As `aclose`, at once: what a crashed node still publishes reaches nobody."""
        self._left = True
        self._topics.clear()
        self._arrived.clear()
        self._bus.leave(self)
        self._woken.set()
