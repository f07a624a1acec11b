"""L1, L2 and L5: in the end everybody who is connected has everything, and every call has returned."""

from __future__ import annotations

from collections import Counter

from chatkit.client.store.base import Record
from chatkit.wire import events as ev

from ..dumps import DeviceDump
from ..held import Count
from .index import Index
from .log_view import LogView
from .verdict import Breach, Findings
from .words import of_call, of_device

# --- L1, L2 ---


def online_devices_converge(index: Index) -> Findings:
    """Every connected device that never lost its connection holds each of its logs up to the head, confirmed."""
    return _converged(index, returned=False)


def returned_devices_converge(index: Index) -> Findings:
    """Every connected device that was away does, too."""
    return _converged(index, returned=True)


def _converged(index: Index, *, returned: bool) -> Findings:
    logins = Counter((it.frame.user_id, it.frame.device_id) for it in index.traffic.of(ev.Welcome))
    for dump in index.history.devices if index.quiescent else ():
        if dump.online and (logins[dump.user_id, dump.device_id] > 1) is returned:
            records = {record.conversation_id: record for record in dump.records}
            for log in index.logs.values():
                yield _converged_on(log, dump, records.get(log.name))


def _converged_on(log: LogView, dump: DeviceDump, record: Record | None) -> Breach | None:
    stay = log.current_stay(dump.user_id)
    if stay is None:
        stale = record is not None and not record.left
        return of_device(
            dump.user_id, dump.device_id, log, None, "it does not count as left" if stale else None
        )
    held_seq = record.prefix if record is not None else 0
    missing_seq = min(max(held_seq + 1, stay.first_seq), log.head_seq)
    return of_device(dump.user_id, dump.device_id, log, missing_seq, _lacks(log, dump, record))


def _lacks(log: LogView, dump: DeviceDump, record: Record | None) -> str | None:
    if record is None:
        return "it is not known there"
    if record.left:
        return "it counts as left, and he is a member"
    if record.epoch != log.epoch:
        return f"its epoch is {record.epoch} there, {log.epoch} in the store"
    if record.prefix < log.head_seq:
        return f"it is held up to {record.prefix}, the head is {log.head_seq}"
    cursor = log.cursors.get(dump.user_id)
    told_seq = cursor.delivered_seq if cursor is not None else 0
    return None if told_seq >= log.head_seq else f"it is held whole, the store was told {told_seq}"


# --- L5 ---

_LATE_S = 0.001
"""What rounding may add; a call notes `timeout_s` only where time is virtual."""


def everything_answered(index: Index) -> Findings:
    """Every call has returned, but for those of apps that were killed; no connected device has anything to send.

    A call whose deadline is known has returned by then, however the run ended. A server that drains and has the time
    answers what it accepted before it sends anybody away.
    """
    yield from (_unanswered(it) for it in index.history.counts if it.moment == "drained")
    for call in index.calls():
        if call.returned_s is not None and "timeout_s" in call.args:
            yield of_call(call, _late(call.returned_s - call.at_s, call.args["timeout_s"]))
    if not index.quiescent:
        return
    crashed = {(dump.user_id, dump.device_id) for dump in index.history.devices if dump.crashed}
    for call in index.history.calls:
        excused = (call.user_id, call.device_id) in crashed
        yield of_call(call, None if call.result is not None or excused else "it never returned")
    for dump in index.history.devices:
        if dump.online:
            yield _pending(dump)


def _late(lasted_s: float, timeout_s: float) -> str | None:
    in_time = lasted_s <= max(0.0, timeout_s) + _LATE_S
    return None if in_time else f"it lasted {lasted_s:g} s, its deadline was {timeout_s:g} s"


def _unanswered(it: Count) -> Breach | None:
    return None if it.right else Breach(what=f"{it.where} drained, and left {it.count:g} {it.what}")


def _pending(dump: DeviceDump) -> Breach | None:
    if not dump.pending:
        return None
    return Breach(
        what=f"{dump.user_id}/{dump.device_id} has {len(dump.pending)} messages unanswered, {dump.pending[0]!r} first",
        client_msg_id=dump.pending[0],
        user_id=dump.user_id,
        device_id=dump.device_id,
    )
