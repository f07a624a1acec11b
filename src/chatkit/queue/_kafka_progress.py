"""How far a worker is in one partition: Kafka knows a single number, below which everything is done. No I/O."""

from __future__ import annotations

from collections import OrderedDict


class Progress:
    """From the first offset read on: which are not done, and up to where all are.

    Offsets that are left out hold no work: a partition may have holes, and old ends are removed.

    Args:
        first: The offset that was read first.

    Attributes:
        read_to: The next offset to be read.
    """

    def __init__(self, first: int) -> None:
        self.read_to = first
        self._undone: OrderedDict[int, int] = OrderedDict()  # offsets by tickets, in their order

    @property
    def done_to(self) -> int:
        """All below it are done: what may be committed."""
        return next(iter(self._undone.values()), self.read_to)

    @property
    def span(self) -> int:
        """How far what was read is ahead of what may be committed: so much is read again after a crash."""
        return self.read_to - self.done_to

    @property
    def undone(self) -> int:
        """How many are read and not done."""
        return len(self._undone)

    @property
    def tickets(self) -> list[int]:
        """Of the work that is not done."""
        return list(self._undone)

    def read(self, offset: int, ticket: int) -> None:
        """This offset has been read; none that is smaller comes after it."""
        self._undone[ticket] = offset
        self.read_to = offset + 1

    def done(self, ticket: int) -> None:
        """This work is finished."""
        self._undone.pop(ticket, None)
