"""Uploaded files in memory: loaded and written with a batch, and read. Nothing is decided here."""

from __future__ import annotations

from ...core.log.blob_rows import DROPPED_KEEP_MS, BlobChanges, BlobRow, DueBlob, charged
from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.state import State
from ...core.visibility import is_visible, readable
from .tables import MemoryState


def load(tables: MemoryState, keys: Keys, state: State) -> None:
    """Put what the keys name of it into the state."""
    wanted, blobs = keys.blobs, state.blobs
    by_id = {blob_id for blob_id, _ in wanted.named} | wanted.rows | wanted.collected
    for row in tables.blobs.values():
        if row.blob_id in by_id or (row.owner_id, row.upload_key) in wanted.uploads:
            blobs.add(row)
    blobs.seen.update(place for place in wanted.named if _is_seen(tables, *place))
    for owner_id in wanted.owners:
        blobs.usage[owner_id] = sum(
            charged(it.size)
            for it in tables.blobs.values()
            if it.owner_id == owner_id and it.state != "GOING"
        )
    held = [it.payload for it in tables.moderated.values() if it.state != "REFUSED"]
    named = set(tables.blob_references.values())
    blobs.kept.update(wanted.collected & named)
    blobs.held.update(it for it in wanted.collected if any(it.encode() in payload for payload in held))


def write(tables: MemoryState, changes: Changes) -> None:
    """Write what a batch changed of it."""
    if changes.blobs is not None:
        _write(tables, changes.blobs)
    _drop(tables, changes)


def _write(tables: MemoryState, blobs: BlobChanges) -> None:
    for blob_id, row in blobs.changed.items():
        if row is None:
            tables.blobs.pop(blob_id, None)
        else:
            tables.blobs[blob_id] = row
    for key, seq, blob_id in blobs.references:
        tables.blob_references[key, seq] = blob_id
    for place in blobs.dropped:
        _drop_reference(tables, place)
    for (due_id,) in blobs.dropped_due:
        tables.blob_due.pop(due_id, None)
    for due in blobs.due:
        _add_due(tables, *due)


def _drop(tables: MemoryState, changes: Changes) -> None:
    """What is expired names nothing any more, and what erased users uploaded goes."""
    floors = {key: floor_seq for floor_seq, key in changes.floors}
    for place in [*tables.blob_references] if floors else ():
        if place[1] <= floors.get(place[0], 0):
            _drop_reference(tables, place)
    for user_id, _ in changes.ended_erasures:
        for row in tables.blobs.values():
            if row.owner_id == user_id and row.state != "GOING":
                _add_due(tables, 0, row.blob_id, 0)


def _drop_reference(tables: MemoryState, place: tuple[int, int]) -> None:
    blob_id = tables.blob_references.pop(place, None)
    if blob_id is not None:
        _add_due(tables, 0, blob_id, DROPPED_KEEP_MS)


def _add_due(tables: MemoryState, due_ms: int, blob_id: str, keep_ms: int) -> None:
    tables.last_due_id += 1
    tables.blob_due[tables.last_due_id] = (due_ms, blob_id, keep_ms)


def _is_seen(tables: MemoryState, blob_id: str, user_id: str) -> bool:
    for (key, seq), named in tables.blob_references.items():
        log = tables.by_key[key]
        is_there = named == blob_id and seq > log.floor_seq and log.is_member(user_id)
        if is_there and is_visible(readable(log.members[user_id]), seq):
            return True
    return False


def blob(tables: MemoryState, blob_id: str, user_id: str) -> BlobRow | None:
    """A file as a user sees it in a message."""
    return tables.blobs.get(blob_id) if _is_seen(tables, blob_id, user_id) else None


def due_blobs(tables: MemoryState, now_ms: int, limit: int) -> list[DueBlob]:
    """What the collector is to look at, what is due for longest first."""
    due = sorted((due_ms, due_id) for due_id, (due_ms, _, _) in tables.blob_due.items() if due_ms <= now_ms)
    return [DueBlob(due_id, *tables.blob_due[due_id][1:]) for _, due_id in due[:limit]]
