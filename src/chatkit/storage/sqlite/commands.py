"""The hot commands on SQLite: append, recall, cursors, outbox.

Each function takes the batch and one command, and returns the outcome or raises a refusal. What can still be refused
has changed nothing; a confirmation may register its device first, since for a device that was not known nothing is
refused after that. The rare commands are in `members`. Called by `writer`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.visibility import Interval, ranges_after
from ...drivers.sqlite import Row
from ...wire.payload import RECALLED
from .. import rules
from ..base import (
    Advanced,
    AdvanceDelivered,
    AdvanceRead,
    Append,
    Appended,
    CloseOutbox,
    ConfirmMessage,
    Done,
    Entry,
    Recall,
    Recalled,
    message_id,
    message_place,
)
from .batch import INSERT_MESSAGE, Batch, DeviceCursors, Loaded
from .members import AUDIT, register_device

SELECT_BY_CLIENT_ID = """
SELECT e.seq, e.epoch, e.server_ts, e.payload, e.payload_mac, r.recalled_by_seq FROM message AS e
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
WHERE e.conversation_key = ? AND e.sender_id = ? AND e.client_msg_id = ?
"""
SELECT_BY_SEQ = """
SELECT e.epoch, e.kind, e.sender_id, e.server_ts, e.payload, r.recalled_by_seq FROM message AS e
LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
WHERE e.conversation_key = ? AND e.seq = ?
"""
UPDATE_BLANK = "UPDATE message SET payload = zeroblob(length(payload)) WHERE conversation_key = ? AND seq = ?"
INSERT_RECALL = "INSERT INTO recall (conversation_key, seq, recalled_by_seq) VALUES (?, ?, ?)"
SELECT_AUTHORS = (
    "SELECT DISTINCT sender_id FROM message "
    "WHERE conversation_key = ? AND seq BETWEEN ? AND ? AND sender_id <> ?"
)
SELECT_EXACT = (
    "SELECT seq FROM device_exact WHERE conversation_key = ? AND user_id = ? AND device_id = ? ORDER BY seq"
)
INSERT_EXACT = "INSERT INTO device_exact (conversation_key, user_id, device_id, seq) VALUES (?, ?, ?, ?)"
DELETE_EXACT = (
    "DELETE FROM device_exact WHERE conversation_key = ? AND user_id = ? AND device_id = ? AND seq <= ?"
)


def append(batch: Batch, command: Append) -> Appended:
    """Append a user's message, or find the one that this key already made."""
    loaded = batch.find(command.conversation_id)
    if loaded is None:
        raise rules.not_found()
    if not rules.is_current(batch.intervals(loaded.key, command.sender_id)):
        return _repeat(batch, loaded, command)
    seq = loaded.head_seq + 1
    epoch = loaded.epoch
    inserted = batch.connection.change(
        INSERT_MESSAGE,
        (
            loaded.key,
            seq,
            epoch,
            "USER",
            command.sender_id,
            command.client_msg_id,
            command.at_ms,
            command.payload_mac,
            command.payload,
        ),
    )
    if not inserted:
        return _repeat(batch, loaded, command)
    batch.took_place(loaded, seq, command.at_ms)
    return Appended(_own_entry(loaded, command, epoch, seq, command.at_ms, command.payload), False)


def _repeat(batch: Batch, loaded: Loaded, command: Append) -> Appended:
    """The stored answer to a key; who is no member and has none gets the same as a stranger."""
    place = (loaded.key, command.sender_id, command.client_msg_id)
    rows = batch.connection.execute(SELECT_BY_CLIENT_ID, place)
    if not rows:
        raise rules.not_found()
    ((seq, epoch, server_ts, payload, mac, recalled_by),) = rows
    rules.check_same_payload(command, mac)
    payload = payload if recalled_by is None else RECALLED
    return Appended(_own_entry(loaded, command, epoch, seq, server_ts, payload), True)


def _own_entry(
    loaded: Loaded, command: Append, epoch: str, seq: int, server_ts: int, payload: bytes
) -> Entry:
    return Entry(
        loaded.conversation_id,
        epoch,
        message_id(loaded.key, epoch, seq),
        seq,
        command.sender_id,
        server_ts,
        payload,
        command.client_msg_id,
    )


def recall(batch: Batch, command: Recall) -> Recalled:
    """Blank a message's body in place and append the RECALL entry, or find the first recall's entry."""
    loaded, seq, row = _place(batch, command.message_id)
    _, kind, sender_id, server_ts, _, recalled_by = row
    if recalled_by is not None and sender_id == command.user_id:
        return Recalled(_made_entry(batch, loaded, recalled_by), True)
    rules.check_visible(batch.intervals(loaded.key, command.user_id), seq)
    rules.check_author(command, kind, sender_id)
    rules.check_window(command, server_ts)
    payload = rules.recall_payload(command.message_id, seq, command.user_id)
    entry = batch.append_made(loaded, "RECALL", command.user_id, payload, command.at_ms)
    batch.connection.change(UPDATE_BLANK, (loaded.key, seq))
    batch.connection.change(INSERT_RECALL, (loaded.key, seq, entry.seq))
    audit = (command.at_ms, loaded.key, command.user_id, "RECALLED", entry.seq, command.message_id)
    batch.connection.change(AUDIT, audit)
    return Recalled(entry, False)


def _visible_place(batch: Batch, name: str, user_id: str) -> tuple[Loaded, int, Row]:
    """As `_place`, for a current member who sees it. Raises NotFoundError also if there is no such message for him."""
    loaded, seq, row = _place(batch, name)
    rules.check_visible(batch.intervals(loaded.key, user_id), seq)
    return loaded, seq, row


def _place(batch: Batch, name: str) -> tuple[Loaded, int, Row]:
    """The conversation, seq and row (of SELECT_BY_SEQ) that a message id names. Raises NotFoundError."""
    place = message_place(name)
    loaded = batch.find_by_key(place[0]) if place else None
    if place is None or loaded is None:
        raise rules.not_found()
    rows = batch.connection.execute(SELECT_BY_SEQ, (loaded.key, place[2]))
    if not rows or rows[0][0] != place[1]:
        raise rules.not_found()
    return loaded, place[2], rows[0]


def _made_entry(batch: Batch, loaded: Loaded, seq: int) -> Entry:
    rows = batch.connection.execute(SELECT_BY_SEQ, (loaded.key, seq))
    ((epoch, _, sender_id, server_ts, payload, _),) = rows
    place = message_id(loaded.key, epoch, seq)
    return Entry(loaded.conversation_id, epoch, place, seq, sender_id, server_ts, payload, None)


def advance_delivered(batch: Batch, command: AdvanceDelivered) -> Advanced:
    """Move a device's cursor up to a seq."""
    loaded, intervals = batch.joined(command.conversation_id, command.user_id)
    rules.check_up_to(command.up_to_seq, loaded.head_seq)
    device = _device(batch, loaded, command)
    if command.up_to_seq > device.delivered_seq:
        exact = _exact(batch, loaded, command, device)
        _move_device(batch, loaded, command, device, command.up_to_seq, exact, intervals)
    return _after_delivery(batch, loaded, command, device, intervals)


def confirm_message(batch: Batch, command: ConfirmMessage) -> Advanced:
    """Keep one confirmation, and move the device's cursor over it once nothing is missing before it."""
    loaded, seq, _ = _visible_place(batch, command.message_id, command.user_id)
    rules.check_conversation(command, loaded.conversation_id)
    intervals = batch.intervals(loaded.key, command.user_id)
    device = _device(batch, loaded, command)
    exact = _exact(batch, loaded, command, device)
    if seq > device.delivered_seq and seq not in exact:
        cursor, above = rules.advanced(device.delivered_seq, [*exact, seq], intervals)
        rules.check_exact_count(len(above))
        if seq in above:
            batch.connection.change(INSERT_EXACT, (loaded.key, command.user_id, command.device_id, seq))
            device.exact_count = len(above)
            device.updated_ms = command.at_ms
            device.dirty = True
        else:
            _move_device(batch, loaded, command, device, cursor, exact, intervals)
    return _after_delivery(batch, loaded, command, device, intervals)


def _device(batch: Batch, loaded: Loaded, command: AdvanceDelivered | ConfirmMessage) -> DeviceCursors:
    """The device's cursor; a device that comes by HTTP may be seen here for the first time."""
    device = batch.device_cursors(loaded.key, command.user_id, command.device_id)
    if device is None:
        register_device(batch, command.user_id, command.device_id, command.at_ms)
        device = batch.device_cursors(loaded.key, command.user_id, command.device_id)
        assert device is not None, "a registered device has a cursor wherever its user is a member"
    return device


def _exact(
    batch: Batch, loaded: Loaded, command: AdvanceDelivered | ConfirmMessage, device: DeviceCursors
) -> list[int]:
    if not device.exact_count:
        return []
    place = (loaded.key, command.user_id, command.device_id)
    return [seq for (seq,) in batch.connection.execute(SELECT_EXACT, place)]


def _move_device(
    batch: Batch,
    loaded: Loaded,
    command: AdvanceDelivered | ConfirmMessage,
    device: DeviceCursors,
    up_to_seq: int,
    exact: Sequence[int],
    intervals: Sequence[Interval],
) -> None:
    cursor, above = rules.advanced(up_to_seq, exact, intervals)
    if len(above) < device.exact_count:
        batch.connection.change(DELETE_EXACT, (loaded.key, command.user_id, command.device_id, cursor))
    device.delivered_seq = cursor
    device.exact_count = len(above)
    device.updated_ms = command.at_ms
    device.dirty = True
    loaded.confirmed = True


def _after_delivery(
    batch: Batch,
    loaded: Loaded,
    command: AdvanceDelivered | ConfirmMessage,
    device: DeviceCursors,
    intervals: Sequence[Interval],
) -> Advanced:
    """Raise the user's delivered cursor to the device's."""
    member = batch.member_cursors(loaded.key, command.user_id)
    before = member.delivered_seq
    moved = device.delivered_seq > before
    if moved:
        member.delivered_seq = device.delivered_seq
        member.dirty = True
    return Advanced(
        loaded.conversation_id,
        command.user_id,
        command.device_id,
        member.delivered_seq,
        member.read_seq,
        moved,
        _authors(batch, loaded, command.user_id, intervals, before, member.delivered_seq),
        loaded.member_count,
    )


def advance_read(batch: Batch, command: AdvanceRead) -> Advanced:
    """Move the user's read cursor, and with it the delivered one, which is never below."""
    loaded, intervals = batch.joined(command.conversation_id, command.user_id)
    rules.check_up_to(command.up_to_seq, loaded.head_seq)
    member = batch.member_cursors(loaded.key, command.user_id)
    before = member.read_seq
    moved = command.up_to_seq > before
    if moved:
        member.read_seq = rules.settled(command.up_to_seq, intervals)
        member.delivered_seq = max(member.delivered_seq, member.read_seq)
        member.read_ms = command.at_ms
        member.dirty = True
    return Advanced(
        loaded.conversation_id,
        command.user_id,
        None,
        member.delivered_seq,
        member.read_seq,
        moved,
        _authors(batch, loaded, command.user_id, intervals, before, member.read_seq),
        loaded.member_count,
    )


def _authors(
    batch: Batch,
    loaded: Loaded,
    user_id: str,
    intervals: Sequence[Interval],
    after_seq: int,
    up_to_seq: int,
) -> tuple[str, ...]:
    """Who wrote the entries in (after_seq, up_to_seq] that the user sees."""
    if after_seq >= up_to_seq or not rules.tells_authors(loaded.member_count):
        return ()
    if loaded.pair is not None:
        return (rules.other_of(loaded.pair, user_id),)
    found: set[str] = set()
    for first, last in ranges_after(intervals, rules.author_range(after_seq, up_to_seq), up_to_seq):
        rows = batch.connection.execute(SELECT_AUTHORS, (loaded.key, first, last, user_id))
        found.update(sender_id for (sender_id,) in rows)
    return tuple(sorted(found))


def close_outbox(batch: Batch, command: CloseOutbox) -> Done:
    """Take entries out of the outbox; without such a conversation or row there is nothing to do."""
    loaded = batch.find(command.conversation_id)
    if loaded is not None and loaded.outbox_seq is not None:
        batch.close_outbox([(loaded, command.up_to_seq)])
    return Done()
