"""S13: the outbox covers what some device of a member has not confirmed, and nothing once all have."""

from __future__ import annotations

from collections import defaultdict

from chatkit.storage.base import OutboxEntry
from chatkit.wire import events as ev

from .index import Index
from .log_view import LogView
from .verdict import Findings
from .words import of_log

Place = tuple[str, str, str]
"""(conversation, user, device)."""


def outbox_covers(index: Index) -> Findings:
    """What any member's device has not confirmed since he joined is covered, up to the head; in the end no more is.

    Where `quiescent` is not given, an outbox that covers more is no fault.
    """
    devices, confirmed = _devices(index), _confirmed(index)
    opened = _by_log(index)
    for log in index.logs.values():
        found = opened[log.name]
        for place, entry in enumerate(found):
            sound = place == 0 and 1 <= entry.first_seq <= entry.last_seq == log.head_seq
            yield of_log(log, entry.first_seq, None if sound else f"outbox row {place + 1}: {entry}")
        for user_id in log.members():
            places = [(log.name, user_id, device_id) for device_id in devices[user_id]]
            reached = [confirmed[place] for place in places if place in confirmed]
            yield of_log(log, None, _not_covered(log, user_id, found, reached))
        if index.quiescent and _all_have_all(index, log, devices):
            yield of_log(log, None, "the outbox is open, and every device has everything" if found else None)


def _by_log(index: Index) -> dict[str, list[OutboxEntry]]:
    found: dict[str, list[OutboxEntry]] = defaultdict(list)
    for entry in index.history.store.outbox if index.history.store is not None else ():
        found[entry.conversation_id].append(entry)
    return found


def _devices(index: Index) -> dict[str, set[str]]:
    """The devices of each user that the server let in. One whose WELCOME was lost may be missing."""
    found: dict[str, set[str]] = defaultdict(set)
    for it in index.traffic.of(ev.Welcome):
        found[it.event.user_id].add(it.event.device_id)
    return found


def _confirmed(index: Index) -> dict[Place, int]:
    """How far each device can have confirmed each log: what it said, and what the server told it."""
    found: dict[Place, int] = {}
    for ack in index.traffic.of(ev.DeliveredAck):
        place = (ack.event.conversation_id, ack.frame.user_id, ack.frame.device_id)
        found[place] = max(found.get(place, 0), index.confirmed_seq(ack.event))
    for heads in index.traffic.of(ev.Heads):
        for head in heads.event.conversations:
            place = (head.conversation_id, heads.frame.user_id, heads.frame.device_id)
            found[place] = max(found.get(place, 0), head.delivered_seq)
    return found


def _not_covered(log: LogView, user_id: str, found: list[OutboxEntry], reached: list[int]) -> str | None:
    """Whether what a member's least device lacks is covered. What he missed in an earlier membership stays missed."""
    stay, cursor = log.current_stay(user_id), log.cursors.get(user_id)
    if stay is None or cursor is None:
        return None
    first = max(min([cursor.delivered_seq, *reached]) + 1, stay.first_seq)
    covered = first > log.head_seq or (found and found[0].first_seq <= first)
    return None if covered else f"the outbox does not cover seq {first}, which a device of {user_id} lacks"


def _all_have_all(index: Index, log: LogView, devices: dict[str, set[str]]) -> bool:
    """Whether every device that any member ever used is connected and holds everything."""
    members = set(log.members())
    whole = {
        (dump.user_id, dump.device_id)
        for dump in index.history.devices
        for record in dump.records
        if dump.online and record.conversation_id == log.name and record.prefix >= log.head_seq
    }
    used = {(it.frame.user_id, it.frame.device_id) for it in index.traffic.hellos.values()}
    of_members = {device for device in used if device[0] in members}
    return bool(members) and all(devices[user_id] for user_id in members) and of_members <= whole
