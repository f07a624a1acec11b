"""S1 to S5: what the log must hold, and nothing else."""

from __future__ import annotations

from chatkit.storage.base import Entry
from chatkit.testing.history import Call
from chatkit.wire import events as ev
from chatkit.wire.payload import RECALLED

from .facts import Ack
from .index import Index
from .log_view import LogView
from .streams import is_server_made_end
from .verdict import Findings
from .words import of_ack, of_call, of_event, of_log, of_row

# --- S1 ---


def no_acked_loss(index: Index) -> Findings:
    """Whatever was acknowledged is a row with that id, sender and key; a conversation that was created is there."""
    for ack in index.acks:
        log = index.logs.get(ack.key[0])
        if log is not None and log.binds(ack.epoch):
            yield of_ack(ack, _lost(log, ack))
    for it in index.traffic.of(ev.MsgAck):
        log = index.logs.get(it.event.conversation_id)
        if log is not None and log.binds(it.event.epoch):
            row = log.rows.get(it.event.seq)
            there = row is not None and row.message_id == it.event.message_id
            yield of_event(it, log.name, None if there else "the log has no such row", it.event.seq)
    for call in index.answered("create") if index.has_store else ():
        name = call.answer["conversation_id"]
        yield of_call(call, None if name in index.logs else "it was created and is gone", name)


def _lost(log: LogView, ack: Ack) -> str | None:
    row = log.rows.get(ack.seq)
    if row is None:
        return f"the log has no such row ({_part(log, ack.seq)})"
    found = (row.sender_id, row.client_msg_id, row.message_id, row.server_ts)
    return None if found == (*ack.key[1:], ack.message_id, ack.server_ts) else "another entry is there"


def _part(log: LogView, seq: int) -> str:
    """Which part of the log a missing seq is in: a lost tail has other causes than a lost middle."""
    if not log.rows:
        return "nothing is left of it"
    if seq > max(log.rows):
        return "it is above the last one"
    return "it is below the first one" if seq < min(log.rows) else "it is amid others"


# --- S2 ---


def no_resurrection(index: Index) -> Findings:
    """What was refused for good has no row."""
    for (name, sender_id, key), calls in index.sends.items():
        log = index.logs.get(name)
        if log is None:
            continue
        row = log.by_key.get((sender_id, key))
        for call in calls:
            if call.result == "fail":
                why = None if row is None else _resurrected(index, row, call, calls)
                yield of_call(call, why, seq=row.seq if row is not None else None)


def _resurrected(index: Index, row: Entry, call: Call, calls: list[Call]) -> str | None:
    """A refused send is in the log all the same, and no other call under its key put it there."""
    body = index.body_sent(call)
    others = [other for other in calls if other.result != "fail"]
    if row.payload == RECALLED:
        stored = not others
    else:
        stored = row.payload == body and all(index.body_sent(other) != body for other in others)
    return f"it was refused with {call.error}, yet it is seq {row.seq}" if stored else None


# --- S3 ---


def no_phantom(index: Index) -> Findings:
    """Every row was asked for, by its sender and with this body."""
    for log in index.logs.values():
        for row in log.dump.entries:
            made = row.client_msg_id is None
            yield of_row(log, row, _made_up(index, log, row) if made else _never_sent(index, log, row))


def _never_sent(index: Index, log: LogView, row: Entry) -> str | None:
    assert row.client_msg_id is not None
    calls = index.sends.get((log.name, row.sender_id, row.client_msg_id), [])
    if not calls:
        made = is_server_made_end(index, log, row)
        return None if made else f"{row.sender_id} never sent {row.client_msg_id!r}"
    if row.payload == RECALLED or any(row.payload == index.body_sent(call) for call in calls):
        return None
    if row.payload in index.rewrites((log.name, row.sender_id, row.client_msg_id)):
        return None
    return f"its body is not what {row.sender_id} sent"


def _made_up(index: Index, log: LogView, row: Entry) -> str | None:
    """Entries of the server need a cause too; what began a conversation may be older than the history."""
    match log.made.get(row.seq):
        case {"type": "MEMBER", "op": "CREATED", "userIds": list()}:
            return None
        case {"type": "MEMBER", "op": "ADDED" | "REMOVED" | "LEFT" as op, "userIds": list(user_ids)}:
            asked = index.asked_members(log.name, "add" if op == "ADDED" else "remove")
            return None if asked.issuperset(user_ids) else f"nobody asked for {op} of {user_ids}"
        case {"type": "RECALL", "messageId": str(message_id)}:
            asked = index.asked_recalls.get(row.sender_id, set())
            return None if message_id in asked else f"{row.sender_id} never recalled {message_id}"
    return "it is no entry that the server makes"


# --- S4 ---


def unique(index: Index) -> Findings:
    """One row per place, per id, and per sender's key."""
    taken: set[tuple[object, ...]] = set()
    for log in index.logs.values():
        for row in log.dump.entries:
            names = {("the id", row.message_id), ("the seq", log.name, row.seq)}
            if row.client_msg_id is not None:
                names.add(("the key", log.name, row.sender_id, row.client_msg_id))
            twice = names & taken
            taken |= names
            why = f"{min(map(str, twice))} is given twice" if twice else None
            yield of_row(log, row, why)


# --- S5 ---


def dense(index: Index) -> Findings:
    """The seqs are 1 to the head, and the counter says so; a recalled entry keeps its place."""
    for log in index.logs.values():
        last = max(log.rows, default=0)
        for seq in range(1, last + 1):
            yield of_log(log, seq, None if seq in log.rows else "there is no such row")
        counted = last == log.head_seq
        yield of_log(log, last, None if counted else f"it is the last row, the counter says {log.head_seq}")
