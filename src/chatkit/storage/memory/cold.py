"""The archived part of the log in memory: what `storage.cold.ColdStore` says, over the tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import anyio.lowlevel
from msgspec.structs import replace

from ...core.log.cold import ColdConversation, ColdEntry, ColdRange
from ...core.log.rules import SERVER_KINDS
from ...errors import UnavailableError
from ..cold import (
    EXPIRE_MAX,
    OWNER_MARKS_MAX,
    RESTORE_MAX,
    SCAN_MAX,
    Blanks,
    ColdTerms,
    ColdTotals,
    Due,
    Expiring,
    Space,
    first_cold,
)
from .tables import Conversation, MemoryState, Ranged


class MemoryCold:
    """`storage.cold.ColdStore` in memory.

    Args:
        tables: The log.
        is_open: Whether the store takes anything now.
    """

    def __init__(self, tables: MemoryState, is_open: Callable[[], bool]) -> None:
        self._tables = tables
        self._is_open = is_open

    async def owner_marks(self) -> list[str]:
        """The newest marks."""
        await self._turn()
        return self._tables.owner_marks[-OWNER_MARKS_MAX:]

    async def add_owner_mark(self, mark: str) -> None:
        """Keep a mark."""
        await self._turn()
        self._tables.owner_marks = [*self._tables.owner_marks, mark][-OWNER_MARKS_MAX:]

    async def due(self, terms: ColdTerms, after_key: int) -> Due:
        """Conversations with work."""
        await self._turn()
        keys = sorted(key for key in self._tables.by_key if key > after_key)[:SCAN_MAX]
        looked_at = [self._tables.by_key[key] for key in keys]
        found = tuple(_described(log) for log in looked_at if _is_due(log, terms))
        return Due(found, keys[-1] if len(keys) == SCAN_MAX else 0)

    async def entries(
        self, conversation_key: int, after_seq: int, terms: ColdTerms, limit: int, bytes_max: int
    ) -> list[ColdEntry]:
        """Cold entries after a seq."""
        await self._turn()
        log = self._tables.by_key[conversation_key]
        last_seq = min(after_seq + limit, log.head_seq - terms.keep_entries)
        return first_cold(_entries(log, after_seq + 1, last_seq), terms.before_ms, bytes_max)

    async def entries_of(self, it: ColdRange) -> list[ColdEntry]:
        """The entries of a range."""
        await self._turn()
        return list(_entries(self._tables.by_key[it.conversation_key], it.first_seq, it.last_seq))

    async def claim(self, it: ColdRange, now_ms: int, taken_before_ms: int) -> bool:
        """Say that an object is being written."""
        await self._turn()
        ranges = self._tables.by_key[it.conversation_key].ranges
        found = ranges.get(it.first_seq)
        if found is None:
            if it.name or any(other.held.last_seq >= it.first_seq for other in ranges.values()):
                return False
            ranges[it.first_seq] = Ranged(it, now_ms)
            return True
        is_same = (found.held.name, found.held.last_seq) == (it.name, it.last_seq)
        if not is_same or (found.held.next_name and found.next_ms >= taken_before_ms):
            return False
        found.held, found.next_ms = replace(found.held, next_name=it.next_name), now_ms
        return True

    async def confirm(self, it: ColdRange, blanks: Blanks) -> bool:
        """Put a written object into its place."""
        await self._turn()
        log = self._tables.by_key[it.conversation_key]
        found = log.ranges.get(it.first_seq)
        if found is None or found.held.next_name != it.name:
            return False
        reached = min(log.floor_seq, it.last_seq) if log.floor_seq >= it.first_seq else 0
        is_stale = _blanks(log, it).seqs != blanks.seqs or blanks.floor_seq < reached
        found.held, found.next_ms = replace(it, next_name="", is_stale=is_stale), 0
        log.manifest_version += 1
        return True

    async def move(self, conversation_key: int, limit: int) -> int:
        """Take some bodies out of the tables."""
        await self._turn()
        log = self._tables.by_key.get(conversation_key)
        if log is None:
            return 0
        end = min(log.cold_seq + limit, _described(log).movable_seq)
        count = max(0, end - log.cold_seq)
        for row in log.rows[log.cold_seq : log.cold_seq + count]:
            if row.kind not in SERVER_KINDS:
                log.rows[row.seq - 1] = row._replace(payload=b"")
        log.cold_seq += count
        return count

    async def expiring(self, now_ms: int, keep_ms: int, after_key: int) -> Expiring:
        """Conversations with entries whose time is over."""
        await self._turn()
        keys = sorted(key for key in self._tables.by_key if key > after_key)[:SCAN_MAX]
        found = [_expired(self._tables.by_key[key], now_ms, keep_ms) for key in keys]
        return Expiring(tuple(it for it in found if it is not None), keys[-1] if len(keys) == SCAN_MAX else 0)

    async def unfinished(self, taken_before_ms: int, limit: int) -> list[ColdRange]:
        """Ranges whose object has to be written."""
        await self._turn()
        return [
            it.held
            for log in self._logs()
            for _, it in sorted(log.ranges.items())
            if (it.held.is_stale or it.held.next_name)
            and (not it.held.next_name or it.next_ms < taken_before_ms)
        ][:limit]

    async def blanks(self, it: ColdRange) -> Blanks:
        """Which bodies must not be in an object."""
        await self._turn()
        return _blanks(self._tables.by_key[it.conversation_key], it)

    async def expired(self, limit: int) -> list[ColdRange]:
        """Ranges that nobody may read any more."""
        await self._turn()
        return [
            it.held
            for log in self._logs()
            for _, it in sorted(log.ranges.items())
            if it.held.last_seq <= log.floor_seq
        ][:limit]

    async def forget(self, it: ColdRange) -> bool:
        """Drop a range."""
        await self._turn()
        log = self._tables.by_key[it.conversation_key]
        found = log.ranges.get(it.first_seq)
        is_needed = it.last_seq > log.floor_seq and log.cold_seq >= it.first_seq
        if found is None or (found.held.name, found.held.next_name) != (it.name, it.next_name) or is_needed:
            return False
        del log.ranges[it.first_seq]
        log.manifest_version += 1
        return True

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of these objects that a range names."""
        await self._turn()
        held = {
            name
            for log in self._logs()
            for it in log.ranges.values()
            for name in (it.held.name, it.held.next_name)
        }
        return held & {*names} - {""}

    async def covering(self, conversation_id: str, first_seq: int, last_seq: int) -> list[ColdRange]:
        """The ranges that hold any of these entries."""
        await self._turn()
        log = self._tables.by_id.get(conversation_id)
        held = [it.held for _, it in sorted(log.ranges.items())] if log is not None else []
        return [it for it in held if it.name and it.first_seq <= last_seq and it.last_seq >= first_seq]

    async def ranges(self, after: tuple[int, int], limit: int) -> list[ColdRange]:
        """All ranges after a place."""
        await self._turn()
        held = [it.held for log in self._logs() for _, it in sorted(log.ranges.items())]
        return [it for it in held if it.name and (it.conversation_key, it.first_seq) > after][:limit]

    async def manifests_due(self, limit: int) -> list[tuple[int, str, int]]:
        """Conversations whose manifest has to be written."""
        await self._turn()
        return [
            (log.key, log.conversation_id, log.manifest_version)
            for log in self._logs()
            if log.manifest_version
        ][:limit]

    async def manifest_written(self, conversation_key: int, version: int) -> None:
        """The manifest of this version is written."""
        await self._turn()
        log = self._tables.by_key[conversation_key]
        if log.manifest_version == version:
            log.manifest_version = 0

    async def totals(self) -> ColdTotals:
        """Counts over the archived part."""
        all_of_them = [it.held for log in self._logs() for it in log.ranges.values()]
        held = await self.ranges((0, 0), len(all_of_them))
        return ColdTotals(
            len({it.conversation_key for it in held}),
            sum(it.last_seq - it.first_seq + 1 for it in held),
            len(held),
            sum(it.size for it in held),
            sum(it.is_stale for it in held),
            sum(bool(it.next_name) for it in all_of_them),
        )

    async def restore(self, it: ColdRange, bodies: Mapping[int, bytes]) -> int:
        """Put bodies back."""
        await self._turn()
        log = self._tables.by_key[it.conversation_key]
        if log.cold_seq > it.last_seq:
            raise UnavailableError("a newer range of this conversation has to be restored first")
        first = max(it.first_seq, log.cold_seq - RESTORE_MAX + 1)
        count = max(0, log.cold_seq - first + 1)
        for row in log.rows[first - 1 : first - 1 + count]:
            if (
                not row.payload
                and row.seq in bodies
                and row.seq > log.floor_seq
                and row.seq not in log.recalled
            ):
                log.rows[row.seq - 1] = row._replace(payload=bodies[row.seq])
        log.cold_seq -= count
        return count

    async def space(self) -> Space:
        """Nothing that is kept on a disk."""
        await self._turn()
        return Space(0, 0, False)

    async def shrink(self, bytes_max: int) -> int:
        """Nothing to give back."""
        await self._turn()
        return 0

    def _logs(self) -> Iterator[Conversation]:
        return iter([log for _, log in sorted(self._tables.by_key.items())])

    async def _turn(self) -> None:
        await anyio.lowlevel.checkpoint()
        if not self._is_open():
            raise UnavailableError("the store is not open", retry_after_s=1.0)


def _described(log: Conversation) -> ColdConversation:
    ranged_seq = max((it.held.last_seq for it in log.ranges.values()), default=0)
    claimed = [first - 1 for first, it in log.ranges.items() if not it.held.name]
    movable_seq = max(log.floor_seq, min(claimed, default=ranged_seq))
    return ColdConversation(
        log.key, log.conversation_id, log.cold_seq, max(log.floor_seq, ranged_seq), movable_seq
    )


def _is_due(log: Conversation, terms: ColdTerms) -> bool:
    it = _described(log)
    if it.cold_seq < it.movable_seq:
        return True
    following = log.row(it.ranged_seq + 1) if it.ranged_seq < log.head_seq - terms.keep_entries else None
    return following is not None and following.server_ts < terms.before_ms


def _entries(log: Conversation, first_seq: int, last_seq: int) -> Iterator[ColdEntry]:
    for row in log.rows[first_seq - 1 : max(0, last_seq)]:
        yield ColdEntry(
            row.seq,
            row.epoch,
            row.kind,
            row.sender_id,
            row.client_msg_id,
            row.server_ts,
            None if row.seq in log.recalled else row.payload,
        )


def _blanks(log: Conversation, it: ColdRange) -> Blanks:
    return Blanks(
        tuple(seq for seq in sorted(log.recalled) if it.first_seq <= seq <= it.last_seq), log.floor_seq
    )


def _expired(log: Conversation, now_ms: int, default_ms: int) -> tuple[str, int] | None:
    keep_ms = default_ms if log.keep_ms is None else log.keep_ms
    rows = log.rows[log.floor_seq : min(log.floor_seq + EXPIRE_MAX, log.head_seq - 1)] if keep_ms else []
    young = next((row.seq for row in rows if row.server_ts >= now_ms - keep_ms), None)
    floor_seq = young - 1 if young is not None else log.floor_seq + len(rows)
    return (log.conversation_id, floor_seq) if floor_seq > log.floor_seq else None
