"""What entries say of others: loaded and written with a batch, and read for a page. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.marks import MarkRow, StoredMarks, edit_of, latest_edits, marks_of
from ...core.log.outcomes import message_id
from ...core.log.state import State, StreamRow
from ...core.visibility import Interval
from ..streams import IdleStream
from .tables import Conversation, MemoryState


def load(tables: MemoryState, keys: Keys, state: State) -> None:
    """Put what the keys name into the state."""
    for key, seq in keys.edited:
        if key in tables.by_key:
            log = tables.by_key[key]
            state.edits[key, seq].extend(log.edits.get(seq, ()))
            state.streams[key, seq] = log.streams[seq][0] if seq in log.streams else None
    for key, seq in keys.stream_texts:
        if key in tables.by_key and seq in tables.by_key[key].streams:
            state.stream_texts[key, seq] = "".join(tables.by_key[key].streams[seq][1])
    for user_id in keys.streamers:
        state.stream_counts[user_id] = sum(it.user_id == user_id for it, _ in _streams(tables))
    for key, seq, user_id in keys.reactions:
        if key in tables.by_key:
            found = tables.by_key[key].reactions.get(seq, {})
            state.reaction_counts[key, seq] = len(found)
            state.own_reactions[key, seq, user_id].update(it for user, it in found if user == user_id)
    for key, seq in keys.mentioned:
        if key in tables.by_key:
            log = tables.by_key[key]
            seqs = {seq, *log.edits.get(seq, ())}
            state.mentioned[key, seq].update(user for user, by_seq in log.mentions if by_seq in seqs)
    for key in keys.pins:
        if key in tables.by_key:
            log = tables.by_key[key]
            state.pins[key].update((seq, by) for seq, by in log.pins.items() if seq > log.floor_seq)
    state.descriptions.update((key, tables.by_key[key].description) for key in state.described(keys))


def write(tables: MemoryState, changes: Changes) -> None:
    """Write new edits and mentions, what is pinned and described, reactions, and streams. A recall takes the
    reactions to a message along, its pin, and whom it mentions."""
    for key, seq, edit_seq in changes.edits:
        tables.by_key[key].edits.setdefault(seq, []).append(edit_seq)
    for key, seq, user_id, reaction, by_seq in changes.reactions:
        tables.by_key[key].reactions.setdefault(seq, {})[user_id, reaction] = by_seq
    for key, seq, user_id, reaction in changes.ended_reactions:
        tables.by_key[key].reactions.get(seq, {}).pop(
            (user_id, reaction), None
        )  # it may have begun in this batch
    for key, user_id, seq in changes.mentions:
        tables.by_key[key].mentions.add((user_id, seq))
    for key, seq in changes.ended_pins:
        tables.by_key[key].pins.pop(seq, None)
    for key, seq, by_seq in changes.pins:
        tables.by_key[key].pins[seq] = by_seq
    for description, key in changes.descriptions:
        tables.by_key[key].description = description
    for key, seq, _ in changes.recalls:
        log = tables.by_key[key]
        log.reactions.pop(seq, None)
        log.pins.pop(seq, None)
        log.mentions = {it for it in log.mentions if it[1] != seq}
    for row in changes.streams:
        streams = tables.by_key[row.conversation_key].streams
        streams[row.seq] = (row, streams[row.seq][1] if row.seq in streams else [])
    for key, seq, _, text in changes.parts:
        tables.by_key[key].streams[seq][1].append(text)
    for key, seq in changes.ended_streams:
        tables.by_key[key].streams.pop(seq, None)
    for floor_seq, key in changes.floors:
        _drop_expired(tables.by_key[key], floor_seq)


def _drop_expired(log: Conversation, floor_seq: int) -> None:
    """Streams of messages that expired are open no more, and what was said of these messages goes with them."""
    said: tuple[dict[int, Any], ...] = (log.streams, log.reactions, log.pins)
    for by_seq in said:
        for seq in [seq for seq in by_seq if seq <= floor_seq]:
            del by_seq[seq]
    log.mentions = {it for it in log.mentions if it[1] > floor_seq}
    # a recall finds the words of edits by their rows: those stay until the words have left too
    wordless_seq = min(floor_seq, log.cold_seq)
    for seq in [seq for seq in log.edits if seq <= floor_seq]:
        log.edits[seq] = [edit_seq for edit_seq in log.edits[seq] if edit_seq > wordless_seq]


def marks_in(
    log: Conversation, ranges: Iterable[tuple[int, int]], intervals: Sequence[Interval]
) -> dict[int, StoredMarks]:
    """What is shown beside the entries of some ranges of a log."""
    seqs = {seq for first, last in ranges for seq in range(first, last + 1)} - log.recalled.keys()
    rows: list[MarkRow] = [
        (log.key, seq, edit_seq, None, None) for seq in seqs & log.edits.keys() for edit_seq in log.edits[seq]
    ]
    rows += [
        (log.key, seq, by_seq, reaction, user_id)
        for seq in seqs & log.reactions.keys()
        for (user_id, reaction), by_seq in log.reactions[seq].items()
    ]
    rows += [
        (log.key, seq, part, text, None)
        for seq in seqs & log.streams.keys()
        for part, text in enumerate(log.streams[seq][1])
    ]
    latest = latest_edits(rows, {log.key: intervals})
    edits = {
        (log.key, edit_seq): edit_of(
            edit_seq, log.rows[edit_seq - 1].server_ts, log.rows[edit_seq - 1].payload
        )
        for edit_seq in latest.values()
    }
    return {seq: it for (_, seq), it in marks_of(rows, latest, edits).items()}


def idle_streams(
    tables: MemoryState, before_ms: int, after_ms: int, limit: int, *, parts: bool
) -> list[IdleStream]:
    """Open streams of which nothing was heard since, the longest silent first."""
    idle = sorted(
        (it.at_ms, it.conversation_key, it.seq, it.parts, texts)
        for it, texts in _streams(tables)
        if not before_ms < it.at_ms <= after_ms
    )
    found = []
    for at_ms, key, seq, count, texts in idle[:limit]:
        log = tables.by_key[key]
        row = log.rows[seq - 1]
        text = "".join(texts) if parts else texts[0]
        name = message_id(key, row.epoch, seq)
        found.append(IdleStream(log.conversation_id, name, seq, row.sender_id, at_ms, count, text))
    return found


def _streams(tables: MemoryState) -> Iterator[tuple[StreamRow, list[str]]]:
    return (it for log in tables.by_key.values() for it in log.streams.values())
