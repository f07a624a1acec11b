"""What a power cut could have left on a disk, from the journal of what was done to it.

The model, all of it a superset of what file systems on one disk do:

* What was synced is there. Of everything later each 512-byte sector holds, independently of all others, one of the
  contents it had since its file's last sync. A sector is never torn itself, and keeps its own order.
* A file has one of the sizes it had since its last sync. Where it is longer than what was written to it, there are
  zeros or rubbish.
* Names are made and removed in order, and any number of the last ones may be missing: those since the folder's last
  sync. SQLite syncs the folder with the first sync of a journal or write-ahead log. To sync a file does not keep its
  name. A file whose removal was lost is back with what it held.
* After a failed sync nobody knows: a later sync of the file keeps only the sectors that were written again.

Not in the model: a disk that lies about a sync, and one that damages what it was not told to write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from chatkit.testing.rng import Stream

from .recording import Created, Deleted, Found, Operation, Synced, SyncFailed, Truncated, Wrote

SECTOR_BYTES: Final = 512
_KEPT_SHARES: Final = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
"""How likely a sector is to hold its newest content; one is drawn for each file of each state."""

_SECTORS_TOGETHER: Final = (1, 8)
"""Each sector on its own, or pages of 4 KiB as a whole, as a page cache writes them."""


class DiskModel:
    """A disk as it was at one point of a journal: what is durable, and what may be."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names_since_sync: list[dict[str, int]] = [{}]

    def apply(self, operation: Operation) -> None:
        """Go on by one operation."""
        match operation:
            case Found(number, name, content):
                self._files[number] = _File(content)
                self._names_since_sync = [{**names, name: number} for names in self._names_since_sync]
            case Created(number, name):
                self._files[number] = _File()
                self._names_since_sync.append({**self._names_since_sync[-1], name: number})
            case Deleted(name, folder):
                names = self._names_since_sync[-1]
                self._names_since_sync.append({it: names[it] for it in names if it != name})
                self._sync_folder(folder)
            case Synced(number, folder):
                self._files[number].sync()
                self._sync_folder(folder)
            case SyncFailed(number):
                self._files[number].fail_sync()
            case Wrote(number, offset, data):
                self._files[number].write(offset, data)
            case Truncated(number, size):
                self._files[number].truncate(size)

    def cut_power(self, rng: Stream) -> dict[str, bytes]:
        """One of the states that a power cut leaves now: each file's content by its name. Changes nothing."""
        names = rng.choice(self._names_since_sync)
        return {name: self._files[number].cut_power(rng) for name, number in names.items()}

    def _sync_folder(self, folder: bool) -> None:
        if folder:
            del self._names_since_sync[:-1]


class _File:
    """One file: what a process reads from it, what is durable of it, and what its sectors held in between.

    Attributes:
        _latest: What a process reads; filled up with zeros, so that every sector is whole.
        _durable: What was synced.
        _sizes: The synced size, and every one since.
        _pending: Contents of each sector since the last sync, oldest first.
        _unsafe: Sectors whose newest content a sync failed to keep.
    """

    def __init__(self, content: bytes = b"") -> None:
        self._latest = bytearray(content)
        self._durable = bytearray(content)
        self._sizes = [len(content)]
        self._pending: dict[int, list[bytes]] = {}
        self._unsafe: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self._resize(max(end, self._sizes[-1]))
        self._latest[offset:end] = data
        self._changed(offset, end)

    def truncate(self, size: int) -> None:
        former = self._sizes[-1]
        self._latest[size:former] = bytes(max(0, former - size))
        self._resize(size)
        self._changed(size, former)

    def sync(self) -> None:
        kept = [sector for sector in self._pending if sector not in self._unsafe]
        for sector in kept:
            _put(self._durable, sector, self._pending.pop(sector)[-1])
        del self._sizes[:-1]
        del self._durable[self._sizes[0] :]

    def fail_sync(self) -> None:
        self._unsafe.update(self._pending)

    def cut_power(self, rng: Stream) -> bytes:
        size = self._sizes[-1] if rng.random() < 0.5 else rng.choice(self._sizes)
        content = self._durable[:size]
        content += _filling(rng, size - len(content))
        is_newest = _fate(rng, self._pending)
        for sector, contents in self._pending.items():
            if is_newest(sector):
                _put(content, sector, contents[-1])
            elif (older := rng.randrange(len(contents))) > 0:  # 0 is what is durable
                _put(content, sector, contents[older - 1])
        return bytes(content[:size])

    def _resize(self, size: int) -> None:
        if size != self._sizes[-1]:
            self._sizes.append(size)
        self._latest += bytes(max(0, size + SECTOR_BYTES - len(self._latest)))

    def _changed(self, start: int, end: int) -> None:
        """Note what the sectors of [start, end) hold now."""
        for sector in range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
            place = sector * SECTOR_BYTES
            content = bytes(self._latest[place : place + SECTOR_BYTES])
            self._pending.setdefault(sector, []).append(content)
            self._unsafe.discard(sector)


def _put(content: bytearray, sector: int, data: bytes) -> None:
    """Write a sector, with zeros before it if the content ends earlier."""
    place = sector * SECTOR_BYTES
    content += bytes(max(0, place - len(content)))
    content[place : place + SECTOR_BYTES] = data


def _filling(rng: Stream, count: int) -> bytes:
    """What a file holds where it grew and nothing was written."""
    return rng.randbytes(count) if count > 0 and rng.random() < 0.5 else bytes(max(0, count))


def _fate(rng: Stream, sectors: Collection[int]) -> Callable[[int], bool]:
    """Which sectors hold their newest content: those up to a place, or some at random."""
    if sectors and rng.random() < 0.25:
        last = rng.choice(list(sectors))
        return lambda sector: sector <= last
    share, together = rng.choice(_KEPT_SHARES), rng.choice(_SECTORS_TOGETHER)
    kept: dict[int, bool] = {}

    def is_newest(sector: int) -> bool:
        block = sector // together
        if block not in kept:
            kept[block] = rng.random() < share
        return kept[block]

    return is_newest
