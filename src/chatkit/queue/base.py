"""The queue port: work that is given out at least once, and again until somebody says that it is done.

Meant for delivery workers (offline inbox and push), which are not built yet: nothing in the server uses it so far. The
outbox in the store stays the truth; losing a queue loses no message. Every implementation passes the contract suite in
`chatkit.testing.contracts.queue`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Item(msgspec.Struct, frozen=True):
    """A piece of work as one worker holds it.

    Attributes:
        data: What was put.
        attempt: How often it has been given out, from 1.
        ticket: Names this piece of work to the queue.
    """

    data: bytes
    attempt: int
    ticket: int | str


class Queue(Protocol):
    """Work waiting for workers. An item that is neither done nor retried in time is given to somebody else."""

    async def put(self, data: bytes) -> None:
        """Add a piece of work; when this returns, it will be given out.

        Raises:
            OverloadedError: The queue is full; nothing was added. A retry is safe.
        """

    async def take(self) -> Item:
        """Wait for the next piece of work that is due: the longest waiting one. Nobody else is given it for a while."""

    async def done(self, item: Item) -> None:
        """This work is finished and never given out again, whoever holds it now. Twice is once."""

    async def retry(self, item: Item, delay_s: float) -> None:
        """Give this work out again, not before `delay_s` seconds. From one who no longer holds it: nothing happens."""

    async def lag(self) -> int:
        """How many pieces of work are put and not done: those that wait, those to be retried, those being held."""
