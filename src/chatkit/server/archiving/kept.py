"""Bodies that were read from the archive, kept in memory: the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

Bodies = Mapping[int, bytes]
"""By seq."""

_ENTRY_BYTES: Final = 120  # of memory that an entry takes beside its body


class KeptBodies:
    """Bodies by the name of their object.

    Args:
        bytes_max: About how much memory they may take.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, Bodies] = OrderedDict()
        self.size = 0

    def get(self, name: str) -> Bodies | None:
        """Those of an object, if they are here."""
        bodies = self._kept.get(name)
        if bodies is not None:
            self._kept.move_to_end(name)
        return bodies

    def put(self, name: str, bodies: Bodies) -> None:
        """Keep those of an object, unless there are none, or they alone are too many."""
        self.drop(name)
        if not bodies or _size(bodies) > self._bytes_max:
            return
        self._kept[name] = bodies
        self.size += _size(bodies)
        while self.size > self._bytes_max:
            self.drop(next(iter(self._kept)))

    def drop(self, name: str) -> None:
        """Keep nothing of an object."""
        bodies = self._kept.pop(name, None)
        if bodies is not None:
            self.size -= _size(bodies)


def _size(bodies: Bodies) -> int:
    return sum(map(len, bodies.values())) + _ENTRY_BYTES * len(bodies)
