"""What became of one message, in the order of time: what is known of it, since when, and from where.

No time is made up. A cursor knows only when it last moved: what it covers happened then or before (AT_LATEST). What
nobody noted has no time at all. Pure functions over values; called by `server.explain` and `chatkit explain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Final

import msgspec

from ...types import Explanation, Fact, FactTime
from ..cursors import delivery_state
from .trail import MessageTrail, OpenDelivery, PushRecord, Reader, ReaderDevice

NAMES_SHOWN_MAX: Final = 20

NOT_KEPT: Final = (
    "which of the sender's devices it came from",
    "when the transaction that stored it ended: the stamp is from right before it, the acknowledgement left after it",
    "when a socket was written to, and what another node offers its sessions",
    "each single confirmation: a cursor keeps when it last moved, and that may have been for a later message",
    "who may read it by an open history: readers are those who were members when it was written",
    "pushes that are older than the record reaches, or whose worker ended before it noted them",
)
"""What the account cannot say, whatever the message."""


class LiveSession(msgspec.Struct, frozen=True):
    """A session of the node that is asked.

    Attributes:
        offered_seq: Everything up to here was offered to it; None: nothing of this conversation.
        is_behind: Whether pushes were dropped, and it has to pull.
    """

    user_id: str
    device_id: str
    session_id: str
    offered_seq: int | None
    is_behind: bool


def explain(trail: MessageTrail, now_ms: int, live: Sequence[LiveSession] = ()) -> Explanation:
    """The account of an entry.

    Args:
        trail: What is stored.
        now_ms: The time, for what has a due time.
        live: Sessions of its readers on this node.
    """
    facts = [
        *_of_entry(trail),
        *_of_worker(trail, now_ms),
        *_of_pushes(trail),
        *_of_deliveries(trail, now_ms),
    ]
    devices: dict[str, list[ReaderDevice]] = {}
    for it in trail.devices:
        devices.setdefault(it.user_id, []).append(it)
    for reader in trail.readers:
        facts += _of_reader(trail, reader, devices.get(reader.user_id, []), now_ms)
    facts += [_offered(trail, it) for it in live]
    return Explanation(
        trail.message_id,
        trail.conversation_id,
        trail.conversation_type,
        trail.seq,
        trail.epoch,
        trail.kind,
        trail.sender_id,
        trail.client_msg_id,
        tuple(sorted(facts, key=lambda it: inf if it.at_ms is None else it.at_ms)),  # stable: NOW comes last
        NOT_KEPT,
        len(trail.readers),
        trail.has_more,
    )


# --- the entry ---


def _of_entry(trail: MessageTrail) -> Iterator[Fact]:
    yield Fact("STORED", trail.server_ts, "EXACT", "message", _stored(trail), trail.sender_id)
    recall = trail.recall
    if recall is not None:
        place = f"entry {recall.seq}, {recall.message_id}"
        words = f"recalled by {recall.by}, as {place}: nobody is given its body any more"
        yield Fact("RECALLED", recall.at_ms, "EXACT", "message", words, recall.by)
    elif trail.body != "LOG":
        words = "in the archive" if trail.body == "ARCHIVE" else "gone: they were kept as long as was to be"
        yield Fact("ARCHIVED", None, "NOT_KNOWN", "conversation", f"its words are {words}")
    if trail.epoch != trail.log_epoch:
        words = (
            f"the log has a new epoch since, {trail.log_epoch}: every client has fetched it afresh or will"
        )
        yield Fact("LOG_RENEWED", None, "NOT_KNOWN", "conversation", words)


def _stored(trail: MessageTrail) -> str:
    place = f"as seq {trail.seq} of {trail.conversation_id}, epoch {trail.epoch}"
    if trail.change is not None:
        op, user_ids = trail.change
        more = f" and {len(user_ids) - NAMES_SHOWN_MAX} more" if len(user_ids) > NAMES_SHOWN_MAX else ""
        names = ", ".join(user_ids[:NAMES_SHOWN_MAX]) + more
        return f"an entry of the server, caused by {trail.sender_id}: {op} {names}; stored {place}"
    if trail.recalls_id is not None:
        return f"an entry of the server: {trail.sender_id} recalled {trail.recalls_id}; stored {place}"
    return f"taken in from {trail.sender_id} under the key {trail.client_msg_id}, and stored {place}"


# --- delivery workers ---


def _of_worker(trail: MessageTrail, now_ms: int) -> Iterator[Fact]:
    work = trail.work
    if work is None or work.first_seq > trail.seq:
        yield Fact("DELIVERED", None, "NOW", "outbox", "every device of every member has confirmed it")
    elif work.handled_seq >= trail.seq:
        words = "delivery workers are done with it, though not every device has confirmed it"
        yield Fact("HANDLED", None, "NOT_KNOWN", "outbox", words)
    elif work.ready_ms is not None:
        late_s = (now_ms - work.ready_ms) // 1000
        waits = f"it has waited for a delivery worker for {late_s} s"
        yield Fact("WAITING", None, "NOW", "outbox", waits if late_s >= 0 else "a delivery worker has it")


def _of_pushes(trail: MessageTrail) -> Iterator[Fact]:
    by_device: dict[tuple[str, str], list[PushRecord]] = {}
    for it in trail.pushes:
        by_device.setdefault((it.user_id, it.device_id), []).append(it)
    for records in by_device.values():
        own = [it for it in records if it.seq == trail.seq]
        yield from (_pushed(trail, it) for it in (*own, *_later(trail, records)))


def _later(trail: MessageTrail, records: Sequence[PushRecord]) -> list[PushRecord]:
    """Of the pushes about later entries those that matter: the recall's, and the first one, which told of this too."""
    later = [it for it in records if it.seq > trail.seq]
    first = [] if any(it.seq == trail.seq for it in records) else later[:1]
    recall_seq = None if trail.recall is None else trail.recall.seq
    return first + [it for it in later if it.seq == recall_seq and it not in first]


def _pushed(trail: MessageTrail, push: PushRecord) -> Fact:
    name = f" as {push.provider_id}" if push.provider_id else ""
    if push.seq == trail.seq:
        about = "a push about it"
    elif trail.recall is not None and push.seq == trail.recall.seq:
        about = "a push that withdrew it"
    else:
        about = f"a push about a later entry, seq {push.seq}, which stands for all that the device missed"
    tries = f", after {push.tries} tries" if push.tries > 1 else ""
    why = f": {push.reason}" if push.reason else ""
    said = {
        "TAKEN": f"{push.provider} took {about}{name}{tries}",
        "RETRY": f"{push.provider} did not take {about}, which is tried again{tries}{why}",
        "DEAD": f"{push.provider} says that the device's token reaches nothing any more{why}",
        "REFUSED": f"{push.provider} refused {about} for good{tries}{why}",
        "UNKNOWN": f"{push.provider} did not answer {about}, which may have arrived{tries}{why}",
    }[push.answer]
    event: Final = "PUSHED" if push.answer == "TAKEN" else "PUSH_FAILED"
    return Fact(event, push.at_ms, "EXACT", "push_record", said, push.user_id, push.device_id)


def _of_deliveries(trail: MessageTrail, now_ms: int) -> Iterator[Fact]:
    for it in trail.deliveries:
        yield _open(it, now_ms)


def _open(it: OpenDelivery, now_ms: int) -> Fact:
    user_id, device_id = it.user_id or None, it.device_id or None
    whom = "" if user_id else " for the whole conversation"
    if it.ready_ms is None:
        words = f"pushes were given up{whom}: {it.reason}; the first failure was then"
        return Fact("PUSH_GIVEN_UP", it.since_ms, "EXACT", "delivery", words, user_id, device_id)
    when = "now" if it.ready_ms <= now_ms else f"in {(it.ready_ms - now_ms + 999) // 1000} s"
    words = f"a push waits{whom} to be tried again {when}; tries so far: {it.attempt}; {it.reason}"
    return Fact("PUSH_WAITS", None, "NOW", "delivery", words, user_id, device_id)


# --- who may read it ---


def _of_reader(
    trail: MessageTrail, reader: Reader, devices: Sequence[ReaderDevice], now_ms: int
) -> Iterator[Fact]:
    user_id = reader.user_id
    has_read = reader.read_seq >= trail.seq and user_id != trail.sender_id
    if has_read:
        words = f"{user_id} has read up to seq {reader.read_seq}, this one among them"
        yield Fact("READ", *_at_latest(trail, reader.read_ms), "member_cursor", words, user_id)
    if reader.leave_seq is not None:
        words = f"{user_id} is no member any more: they left, or were removed, at seq {reader.leave_seq}"
        yield Fact("LEFT", None, "NOT_KNOWN", "conversation_member", words, user_id)
    if reader.muted_until_ms > now_ms and not has_read:
        yield Fact("MUTED", None, "NOW", "mute", f"{user_id} is not woken for this conversation", user_id)
    if not devices:
        words = f"{user_id} has no device: nobody logged in there yet"
        yield Fact("PENDING", None, "NOW", "device", words, user_id)
    for device in devices:
        yield _on_device(trail, reader, device)


def _on_device(trail: MessageTrail, reader: Reader, device: ReaderDevice) -> Fact:
    state = delivery_state(trail.seq, device.delivered_seq, (trail.seq,) if device.is_exact else (), 0)
    if state == "PENDING":
        return _pending(trail, reader, device)
    user_id, device_id = device.user_id, device.device_id
    if device.first_seen_ms > trail.server_ts:
        how = "the device is newer than the message: its cursor began beyond it, or went over it"
    else:
        how = (
            "this one was confirmed by itself"
            if device.is_exact
            else f"confirmed, up to seq {device.delivered_seq}"
        )
    time = _at_latest(trail, device.updated_ms)
    return Fact("CONFIRMED", *time, "device_cursor", how, user_id, device_id)


def _at_latest(trail: MessageTrail, at_ms: int | None) -> tuple[int | None, FactTime]:
    """When a cursor had got there; a time before the message is that of a clock that was behind, and says nothing."""
    return (None, "NOT_KNOWN") if at_ms is None or at_ms < trail.server_ts else (at_ms, "AT_LATEST")


def _pending(trail: MessageTrail, reader: Reader, device: ReaderDevice) -> Fact:
    if device.provider is None:
        push = "it has no push token"
    else:
        since = "" if (device.registered_ms or 0) <= trail.server_ts else ", since after this message"
        push = f"it can be pushed to by {device.provider}{since}"
    read = ", which its user has read elsewhere" if reader.read_seq >= trail.seq else ""
    words = f"not confirmed{read}: the device's cursor is at seq {device.delivered_seq}; {push}"
    return Fact("PENDING", None, "NOW", "device_cursor", words, device.user_id, device.device_id)


def _offered(trail: MessageTrail, it: LiveSession) -> Fact:
    if it.offered_seq is not None and it.offered_seq >= trail.seq:
        words = f"online here; its session {it.session_id} was offered everything up to seq {it.offered_seq}"
    else:
        how = "pushes to it were dropped, so it has to pull" if it.is_behind else "it has to pull it"
        words = f"online here; its session {it.session_id} was not offered this: {how}"
    return Fact("ONLINE", None, "NOW", "this node", words, it.user_id, it.device_id)
