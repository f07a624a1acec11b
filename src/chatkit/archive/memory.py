"""The archive in memory, for tests and examples; it goes with the process."""

from __future__ import annotations

from bisect import bisect_right

import anyio.lowlevel

from . import base


class MemoryArchive:
    """`archive.base.ArchiveStore` in a dictionary.

    Attributes:
        objects: What is in it, for tests that look and spoil.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._closed = False

    async def put(self, name: str, data: bytes) -> None:
        """Keep an object."""
        base.check_name(name)
        base.check_size(len(data))
        await self._turn()
        self.objects[name] = bytes(data)

    async def get(self, name: str) -> bytes:
        """The bytes of an object."""
        base.check_name(name)
        await self._turn()
        try:
            return self.objects[name]
        except KeyError:
            raise base.missing(name) from None

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names that begin with a prefix, ascending."""
        base.check_prefix(prefix)
        await self._turn()
        names = sorted(name for name in self.objects if name.startswith(prefix))
        return names[bisect_right(names, after) :][: min(limit, base.LIST_MAX)]

    async def delete(self, name: str) -> None:
        """Remove an object."""
        base.check_name(name)
        await self._turn()
        self.objects.pop(name, None)

    async def aclose(self) -> None:
        """Take nothing more."""
        self._closed = True

    async def _turn(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise base.closed()
