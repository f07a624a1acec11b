"""What became of one message, in memory: the read for operators. Called by `reads`."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.log import trail as rules
from ...core.log.rules import SERVER_KINDS
from ...core.log.state import MessageRow
from ...wire.payload import EVERYBODY
from ..base import (
    READERS_MAX,
    MessageTrail,
    OpenDelivery,
    OpenWork,
    PushRecord,
    Reader,
    ReaderDevice,
    RecallMark,
    message_id,
    message_place,
)
from .tables import Conversation, MemoryState


def trail(tables: MemoryState, name: str, user_id: str | None, limit: int) -> MessageTrail:
    """An entry and what is stored around it."""
    log, row = _found(tables, name)
    limit = min(limit, READERS_MAX)
    readers = [it for it in _readers(log, row.seq) if user_id in (None, it.user_id)]
    shown = {it.user_id for it in readers[:limit]}
    return MessageTrail(
        log.conversation_id,
        log.type,
        log.key,
        row.seq,
        row.epoch,
        log.epoch,
        log.head_seq,
        log.member_count,
        row.kind,
        row.sender_id,
        row.client_msg_id,
        row.server_ts,
        **rules.said_by_server(row.payload if row.kind in SERVER_KINDS else None),
        recall=_recall(log, row.seq),
        body=rules.body_place(row.kind, row.seq, log.cold_seq, log.floor_seq),
        work=_work(log),
        readers=tuple(readers[:limit]),
        has_more=len(readers) > limit,
        devices=tuple(it for user in sorted(shown) for it in _devices(tables, log, user, row.seq)),
        pushes=tuple(_pushes(log, shown, row.seq)),
        deliveries=tuple(it for it in _open(log) if it.user_id in {"", *shown} and it.after_seq < row.seq),
    )


def _found(tables: MemoryState, name: str) -> tuple[Conversation, MessageRow]:
    place = message_place(name)
    if place is None:
        raise rules.no_such_id()
    key, epoch, seq = place
    log = tables.by_key.get(key)
    row = None if log is None else log.row(seq)
    if log is None or row is None or row.epoch != epoch:
        conversation = None if log is None else (log.conversation_id, log.head_seq)
        raise rules.not_held(seq, conversation, None if row is None else row.epoch)
    return log, row


def _readers(log: Conversation, seq: int) -> Iterator[Reader]:
    for user_id, intervals in sorted(log.members.items()):
        for it in intervals:
            if it.holds(seq):
                cursors, muted_ms = log.cursors[user_id], _muted_ms(log, user_id, seq)
                yield Reader(user_id, it.join_seq, it.leave_seq, cursors.read_seq, cursors.read_ms, muted_ms)


def _muted_ms(log: Conversation, user_id: str, seq: int) -> int:
    """Until when a member is not woken for an entry; 0 where it mentions them, and mentions do."""
    if user_id in log.but_mentions and not log.mentions.isdisjoint({(user_id, seq), (EVERYBODY, seq)}):
        return 0
    return log.muted.get(user_id, 0)


def _devices(tables: MemoryState, log: Conversation, user_id: str, seq: int) -> Iterator[ReaderDevice]:
    for device_id, (first_seen_ms, _) in sorted(tables.devices.get(user_id, {}).items()):
        device = log.devices.get(user_id, {}).get(device_id)
        push = tables.push_tokens.get((user_id, device_id))
        yield ReaderDevice(
            user_id,
            device_id,
            first_seen_ms,
            log.cursors[user_id].device_seq if device is None else device.delivered_seq,
            None if device is None else device.updated_ms,
            device is not None and seq in device.exact,
            None if push is None else push.provider,
            None if push is None else push.at_ms,
        )


def _pushes(log: Conversation, user_ids: set[str], seq: int) -> Iterator[PushRecord]:
    """Those about the entry, about its recall, and the first later one of each device."""
    later = set[tuple[str, str]]()
    for (user_id, device_id, about_seq), push in sorted(log.pushes.items()):
        if user_id in user_ids and about_seq >= seq:
            is_first = about_seq > seq and (user_id, device_id) not in later
            if is_first:
                later.add((user_id, device_id))
            if is_first or about_seq in (seq, log.recalled.get(seq)):
                yield push


def _recall(log: Conversation, seq: int) -> RecallMark | None:
    row = log.row(log.recalled.get(seq, 0))
    if row is None:
        return None
    return RecallMark(row.seq, message_id(log.key, row.epoch, row.seq), row.sender_id, row.server_ts)


def _work(log: Conversation) -> OpenWork | None:
    if log.outbox is None or log.work is None:
        return None
    return OpenWork(log.outbox[0], log.work.handled_seq, log.work.ready_ms)


def _open(log: Conversation) -> Iterator[OpenDelivery]:
    for place, it in sorted(log.later.items()):
        yield OpenDelivery(*place, it.after_seq, it.ready_ms, it.attempt, it.since_ms, it.reason)
