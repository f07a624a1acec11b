"""From the rows of SQLite and PostgreSQL to what became of a message; the columns are those of their statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from ..core.log import trail as rules
from ..core.log.outcomes import message_id, message_place
from .base import MessageTrail, OpenDelivery, OpenWork, PushRecord, Reader, ReaderDevice, RecallMark

Row = Sequence[Any]
Place = tuple[int, str, int]
"""(conversation key, epoch, seq)."""

_LAST_ID: Final = "~"
"""Behind every id."""


def place_of(name: str) -> Place:
    """The place that an id names. Raises NotFoundError if it is none."""
    place = message_place(name)
    if place is None:
        raise rules.no_such_id()
    return place


def span_of(user_id: str | None) -> tuple[str, str]:
    """The first and the last id that may be read."""
    return ("", _LAST_ID) if user_id is None else (user_id, user_id)


def recall_seq_of(entry: MessageTrail) -> int:
    """The place of the entry that recalled this one; 0 if it was not."""
    return 0 if entry.recall is None else entry.recall.seq


def entry_at(place: Place, rows: Sequence[Row]) -> MessageTrail:
    """The entry alone. Raises NotFoundError: the place holds none, or another one."""
    key, epoch, seq = place
    if not rows or rows[0][5] != epoch:
        conversation = (rows[0][0], rows[0][3]) if rows else None
        raise rules.not_held(seq, conversation, rows[0][5] if rows else None)
    name, type_, log_epoch, head_seq, members, _, kind, by, client_msg_id, at_ms, payload, *rest = rows[0]
    recall_seq, recall_epoch, recalled_by, recalled_ms, *work, cold_seq, floor_seq = rest
    return MessageTrail(
        name,
        type_,
        key,
        seq,
        epoch,
        log_epoch,
        head_seq,
        members,
        kind,
        by,
        client_msg_id,
        at_ms,
        **rules.said_by_server(payload),
        recall=None
        if recall_seq is None
        else RecallMark(recall_seq, message_id(key, recall_epoch, recall_seq), recalled_by, recalled_ms),
        body=rules.body_place(kind, seq, cold_seq, floor_seq),
        work=None if work[0] is None else OpenWork(*work),
    )


def trail_of(
    entry: MessageTrail,
    readers: Sequence[Row],
    limit: int,
    devices: Iterable[Row],
    pushes: Iterable[Row],
    deliveries: Iterable[Row],
) -> MessageTrail:
    """The entry with everything around it.

    Args:
        entry: By itself.
        readers: By user, one more than `limit` if there are more.
        limit: Most readers.
        devices: Of those within the limit, in any order; so are the others.
        pushes: To their devices.
        deliveries: Of their devices, or of the conversation.
    """
    return replace(
        entry,
        readers=tuple(Reader(*row) for row in readers[:limit]),
        has_more=len(readers) > limit,
        devices=tuple(_device(*row) for row in sorted(devices, key=_by_device)),
        pushes=tuple(PushRecord(*row) for row in sorted(pushes, key=lambda row: (*_by_device(row), row[2]))),
        deliveries=tuple(OpenDelivery(*row) for row in sorted(deliveries, key=_by_device)),
    )


def _by_device(row: Row) -> tuple[str, str]:
    return row[0], row[1]


def _device(
    user_id: str, device_id: str, first_seen_ms: int, delivered_seq: int, updated_ms: int | None, *rest: Any
) -> ReaderDevice:
    is_exact, provider, registered_ms = rest
    return ReaderDevice(
        user_id, device_id, first_seen_ms, delivered_seq, updated_ms, bool(is_exact), provider, registered_ms
    )
