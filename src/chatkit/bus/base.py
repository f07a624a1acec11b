"""The bus port: what nodes tell each other. It may lose, repeat and reorder; who needs to be sure reads the log.

Every implementation passes the contract suite in `chatkit.testing.contracts.bus`. What the messages say is none of
the bus's business (`server.cluster.messages` knows).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

import msgspec

DATA_BYTES_MAX = 1_000_000
"""Nothing larger is published."""


class Message(msgspec.Struct, frozen=True):
    """Something that another member published on a topic subscribed to."""

    topic: str
    data: bytes


class Lost(msgspec.Struct, frozen=True):
    """The bus may have lost messages: its connection was cut, or this member read too slowly."""


BusEvent = Message | Lost


class Bus(Protocol):
    """One node's place on the bus. No method but `aclose` waits.

    Topics are 1-200 characters; what is lost, doubled or late is nobody's fault. A member does not get what it
    published itself.
    """

    def publish(self, topic: str, data: bytes) -> None:
        """Offer a message to every other member that subscribed to the topic. At most DATA_BYTES_MAX bytes."""

    def subscribe(self, topic: str) -> None:
        """Get what is published on this topic, soon from now on. Subscribing twice is subscribing once."""

    def unsubscribe(self, topic: str) -> None:
        """Get no more of this topic, soon from now on. One that was not subscribed to: nothing happens."""

    def events(self) -> AsyncGenerator[BusEvent, None]:
        """What arrives, until `aclose`; for one reader at a time, who closes it when they stop early.

        The queue between the bus and its reader is bounded: when it is full, what comes is dropped and the reader
        is given `Lost` before anything newer. It need not yield to the event loop: the reader does, by its work.
        """

    async def aclose(self) -> None:
        """Leave the bus; `events` ends. A second call does nothing."""


@runtime_checkable
class Connects(Protocol):
    """A bus that has to be connected first, for its members meet on a server; `ChatServer` does when it is entered."""

    async def connect(self) -> None:
        """Take the place on the bus, and keep it until `aclose`: a connection that is cut is made again, for ever.

        Raises:
            ConfigurationError: The server cannot be reached, or refuses; said within seconds.
        """
