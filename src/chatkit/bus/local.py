"""The bus inside one process: joins the nodes that run on one event loop. For tests, simulation and small hosts.

Called by whoever makes the nodes: `bus = LocalBus()`, and `ChatServer(..., bus=bus.join())` for each.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ._inbox import QUEUE_MAX, Inbox
from .base import BusEvent, Message


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
        self._topics: set[str] = set()
        self._inbox = Inbox(queue_max)
        self._left = False

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
        self._inbox.offer(message)

    def lose(self) -> None:
        """Tell the reader that something may have been lost."""
        self._inbox.lose()

    def events(self) -> AsyncGenerator[BusEvent, None]:
        """What arrives, until `aclose`."""
        return self._inbox.events()

    async def aclose(self) -> None:
        """Leave the bus; `events` ends."""
        self.leave()

    def leave(self) -> None:
        """As `aclose`, at once: what a crashed node still publishes reaches nobody."""
        self._left = True
        self._topics.clear()
        self._bus.leave(self)
        self._inbox.close()
