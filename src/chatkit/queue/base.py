"""The queue port: work that is given out at least once, and again until somebody says that it is done.

Meant for delivery workers (offline inbox and push): an item says that a conversation has work. The outbox in the store
stays the truth, and what a queue loses is found there; losing a queue loses no message. Every implementation passes the
contract suite in `chatkit.testing.contracts.queue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from .._arguments import described
from ..errors import BadRequestError, TooLargeError

DATA_BYTES_MAX = 100_000
"""Nothing larger is put."""

KEY_CHARACTERS_MAX = 200

TAKE_MAX = 1_000
"""No more is given out at once, whatever limit was asked for."""


class Item(msgspec.Struct, frozen=True):
    """A piece of work as one worker holds it.

    Attributes:
        data: What was put.
        key: What it was put under.
        attempt: How often it has been given out, from 1, as far as the queue knows.
        ticket: Names this piece of work to the queue that gave it out, and to no other.
    """

    data: bytes
    key: str
    attempt: int
    ticket: int | str


class Queue(Protocol):
    """Work waiting for workers. An item that is neither done nor retried in time is given to somebody else.

    At least once: what is done never comes again, unless the worker or the server of the queue ended before the
    queue had noted it. Items of one key are given out for the first time in the order in which they were put, if
    each `put` was awaited before the next; a retried or forgotten one holds nobody up.
    """

    async def put(self, data: bytes, key: str) -> None:
        """Add a piece of work; when this returns, it will be given out.

        Args:
            data: At most DATA_BYTES_MAX bytes.
            key: The id of a conversation: 1 to KEY_CHARACTERS_MAX characters.

        Raises:
            OverloadedError: The queue is full; nothing was added. A retry is safe.
            UnavailableError: The queue's server does not answer; a retry may add the item twice.
            TooLargeError: There are too many bytes of data.
            BadRequestError: There are none, or no such key.
            ClosedError: The queue was closed.
        """

    async def take(self, limit: int) -> list[Item]:
        """Wait for work that is due; nobody else is given it for a while. Longest waiting first.

        While the queue's server is away it waits, and goes on when it is back. One `take` at a time is served.

        Args:
            limit: From 1; more than TAKE_MAX counts as TAKE_MAX.

        Returns:
            At least one item and at most `limit`: those that are there, without waiting for more.

        Raises:
            BadRequestError: No such limit.
            ClosedError: The queue was closed, also while this waited.
        """

    async def done(self, items: Sequence[Item]) -> None:
        """This work is finished and never given out again, whoever holds it now. Twice is once.

        Raises:
            UnavailableError: The queue's server does not answer; without a retry they come again.
        """

    async def retry(self, item: Item, delay_s: float) -> None:
        """Give this work out again, not before `delay_s` seconds. From one who no longer holds it: nothing happens.

        Raises:
            UnavailableError: The queue's server does not answer; the item comes again when the worker's time is over.
            BadRequestError: The delay is no finite number from 0.
        """

    async def lag(self) -> int:
        """How many pieces of work are put and not done: those that wait, those to be retried, those being held.

        Raises:
            UnavailableError: The queue's server does not answer. A retry is safe.
        """

    async def aclose(self) -> None:
        """Use the queue no more; what this worker holds comes again in its time. A second call does nothing."""


@runtime_checkable
class Connects(Protocol):
    """A queue whose work is on a server, and that is connected first so that a wrong address is noticed."""

    async def connect(self) -> None:
        """Make the connection. One that is cut later is made again by whatever needs it.

        Raises:
            ConfigurationError: The server cannot be reached, or refuses; said within seconds.
        """


def check_put(data: object, key: object) -> None:
    """Raises BadRequestError or TooLargeError for what cannot be put."""
    if not isinstance(data, bytes):
        raise BadRequestError(f"data must be bytes, not {described(data)}")
    if len(data) > DATA_BYTES_MAX:
        raise TooLargeError(f"{len(data)} bytes of data; a queue takes at most {DATA_BYTES_MAX}")
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise BadRequestError(f"the key must be a text of 1 to {KEY_CHARACTERS_MAX} characters")


def check_limit(limit: object) -> int:
    """How many items may be given out. Raises BadRequestError for no number from 1."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise BadRequestError("limit must be a whole number from 1")
    return min(limit, TAKE_MAX)


def check_delay(delay_s: object) -> float:
    """Seconds. Raises BadRequestError for no finite number from 0."""
    if not isinstance(delay_s, int | float) or isinstance(delay_s, bool) or not 0 <= delay_s < float("inf"):
        raise BadRequestError("delay_s must be seconds, from 0")
    return delay_s
