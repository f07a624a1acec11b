"""What is moderated and reported, in memory: loaded and written with a batch, and read. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.log.changes import Changes
from ...core.log.keys import Keys
from ...core.log.state import ModeratedRow, State
from ..base import HeldRecord, ReportRecord, message_id
from .tables import Conversation, MemoryState, Reported


def load(tables: MemoryState, keys: Keys, state: State) -> None:
    """Put what the keys name of it into the state."""
    for name in keys.moderated:
        conversation = tables.by_id.get(name[0])
        row = None if conversation is None else tables.moderated.get((conversation.key, *name[1:]))
        if row is not None:
            state.moderated[name] = row._replace(payload=b"")
    held = [it for it in tables.moderated.values() if it.state != "REFUSED"]
    waiting = {(tables.by_id[name].key, user) for name, user in keys.waiting if name in tables.by_id}
    for row in held:
        if (row.conversation_key, row.sender_id) in waiting:
            state.held.setdefault(row.sender_id, {})[row.held_id] = row
        elif row.sender_id in keys.holders:
            state.held.setdefault(row.sender_id, {})[row.held_id] = row._replace(payload=b"")
    state.held_total = len(held)
    last = tables.last_held_id
    state.new_held_ids.extend(range(last + 1, last + 1 + keys.new_held))
    for place in keys.reported:
        state.open_reports[place] = sum(it.is_open for key, it in tables.reports.items() if key[:2] == place)


def write(tables: MemoryState, changes: Changes) -> None:
    """Write what a batch changed of it."""
    for user_id, _ in changes.ended_erasures:
        erase(tables, user_id)
    for place in changes.unmoderated:
        tables.moderated.pop(place, None)
    for row in changes.moderated:
        tables.moderated[row.conversation_key, row.sender_id, row.client_msg_id] = row
        tables.last_held_id = max(tables.last_held_id, row.held_id)
    for key, seq, reporter_id, reason, note, at_ms, body in changes.reports:
        if (key, seq, reporter_id) not in tables.reports:
            tables.last_report_id += 1
            made = Reported(tables.last_report_id, reason, note, at_ms, body)
            tables.reports[key, seq, reporter_id] = made
    for _, _, _, key, seq in changes.resolved_reports:
        for reported, it in tables.reports.items():
            if reported[:2] == (key, seq):
                it.is_open, it.body = False, None


def erase(tables: MemoryState, user_id: str) -> None:
    """Nothing of a user who was erased is left to be reviewed: see `erase` on SQLite."""
    for place, row in list(tables.moderated.items()):
        if row.sender_id == user_id and row.state != "REFUSED":
            del tables.moderated[place]
    for reported, it in list(tables.reports.items()):
        log = tables.by_key[reported[0]]
        if reported[2] == user_id:
            del tables.reports[reported]
        elif log.rows[reported[1] - 1].sender_id == user_id and _is_gone(log, reported[1]):
            it.body = None


def _is_gone(log: Conversation, seq: int) -> bool:
    """Whether nobody reads a body any more: it was recalled, or has expired."""
    return seq in log.recalled or seq <= log.floor_seq


def to_moderate(tables: MemoryState, sends: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Which of these a moderator need see."""
    return [_is_new(tables, *it) for it in sends]


def _is_new(tables: MemoryState, conversation_id: str, sender_id: str, client_msg_id: str) -> bool:
    it = tables.by_id.get(conversation_id)
    if it is None or not it.is_member(sender_id):
        return False
    is_stored = (sender_id, client_msg_id) in it.by_client_id
    return not is_stored and (it.key, sender_id, client_msg_id) not in tables.moderated


def held_messages(tables: MemoryState, after: int, limit: int) -> list[HeldRecord]:
    """What is to be reviewed, from a number on."""
    rows = [it for it in tables.moderated.values() if it.state == "REVIEW" and it.held_id > after]
    return [_held(tables, row) for row in sorted(rows)[:limit]]


def _held(tables: MemoryState, row: ModeratedRow) -> HeldRecord:
    conversation_id = tables.by_key[row.conversation_key].conversation_id
    return HeldRecord(
        row.held_id, conversation_id, row.sender_id, row.client_msg_id, row.at_ms, row.reason, row.payload
    )


def reports(tables: MemoryState, after: int, limit: int) -> list[ReportRecord]:
    """Open reports, from a number on."""
    found = []
    for (key, seq, reporter_id), it in tables.reports.items():
        if it.is_open and it.report_id > after:
            log = tables.by_key[key]
            row = log.rows[seq - 1]
            body = it.body if it.body is not None or _is_gone(log, seq) else row.payload or None
            name = message_id(key, row.epoch, seq)
            found.append(
                ReportRecord(
                    it.report_id,
                    name,
                    log.conversation_id,
                    row.sender_id,
                    reporter_id,
                    it.reason,
                    it.note,
                    it.at_ms,
                    body,
                )
            )
    return sorted(found, key=lambda it: it.report_id)[:limit]
