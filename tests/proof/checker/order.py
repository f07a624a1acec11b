"""S8 to S10: the log keeps real-time order and each sender's, and every device is told it in that order, once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from chatkit.client.events import (
    EpochChanged,
    MessageEdited,
    MessageRecalled,
    MessageReceived,
    MessageSent,
    ReactionChanged,
)
from chatkit.storage.base import Entry
from chatkit.testing.history import AppEvent, Call
from chatkit.wire import events as ev

from ..dumps import DeviceDump
from .index import Index
from .log_view import LogView
from .resends import refused_come_again
from .verdict import Findings
from .words import of_call, of_device

Queue = tuple[str, str, str]
"""(user, device, conversation)."""

# --- S8 ---


def real_time_order(index: Index) -> Findings:
    """What was sent after anybody had seen a seq has a greater one."""
    for (name, sender_id, key), calls in index.sends.items():
        log = index.logs.get(name)
        row = log.by_key.get((sender_id, key)) if log is not None and not log.restored else None
        known = index.known_head(name, calls[0].at_s)
        if row is not None and known:
            why = f"it began when seq {known} was known already, and got seq {row.seq}"
            yield of_call(calls[0], None if row.seq > known else why, seq=row.seq)


# --- S9 ---


def session_order(index: Index) -> Findings:
    """Two sends of a device to a conversation are stored in the order in which they were called, if both are; and what
    was refused for now comes again in it."""
    refused_s = _refused_s(index)
    for queue, calls in _queues(index).items():
        log = index.logs.get(queue[2])
        if log is None or log.restored:
            continue
        stored = sorted(_stored(index, log, queue, calls, refused_s), key=lambda it: it[0].number)
        for (earlier, above), (later, below) in pairwise(stored):
            if _may_have_been_refused(index, log, queue[0], earlier, below):
                continue
            why = f"it is seq {below.seq}; call {earlier.number} of the same device, made before, is {above.seq}"
            yield of_call(later, None if above.seq < below.seq else why, seq=below.seq)
    yield from refused_come_again(index)


def _may_have_been_refused(index: Index, log: LogView, user_id: str, call: Call, later: Entry) -> bool:
    """Whether its sender was no member at first, but was one again before the later message was stored.

    Then it may have been refused for good by an answer that was lost with the connection. Nobody knows of that, so it
    came again, was judged anew, and is behind the later one.
    """
    known = index.known_head(log.name, call.at_s)
    return any(known < stay.first_seq <= later.seq for stay in log.stays.get(user_id, ()))


def _queues(index: Index) -> dict[Queue, list[list[Call]]]:
    """By device and conversation, the calls of each key that only this device used."""
    found: dict[Queue, list[list[Call]]] = defaultdict(list)
    for (name, user_id, _), calls in index.sends.items():
        devices = {call.device_id for call in calls}
        if len(devices) == 1 and "" not in devices:
            found[user_id, devices.pop(), name].append(calls)
    return found


def _stored(
    index: Index,
    log: LogView,
    queue: Queue,
    of_keys: Iterable[list[Call]],
    refused_s: dict[tuple[Queue, str], float],
) -> Iterator[tuple[Call, Entry]]:
    """Each stored message with the call that queued it: the first one since its key was last refused for good."""
    for calls in of_keys:
        key = calls[0].args["client_msg_id"]
        row = log.by_key.get((queue[0], key))
        if row is None:
            continue
        body, since_s = log.bodies.get(row.seq), refused_s.get((queue, key), 0.0)
        for call in calls:
            if call.result != "fail" and call.at_s >= since_s and body in (None, index.body_sent(call)):
                yield call, row
                break


def _refused_s(index: Index) -> dict[tuple[Queue, str], float]:
    """When each key of a device was last refused for good. CONFLICT says that it is stored, and ends nothing."""
    found: dict[tuple[Queue, str], float] = {}
    for it in index.traffic.of(ev.ErrorEvent):
        event, frame = it.event, it.frame
        if event.retryable or event.code == "CONFLICT":
            continue
        if isinstance(event.client_msg_id, str) and isinstance(event.conversation_id, str):
            queue = (frame.user_id, frame.device_id, event.conversation_id)
            found[queue, event.client_msg_id] = frame.at_s
    return found


# --- S10 ---


def equal_order(index: Index) -> Findings:
    """Every device is told the log in order, each entry once and without holes, and holds what the log holds."""
    for (user_id, device_id), told in index.app_events.items():
        for log, of_log in _by_log(index, told):
            yield from _told_in_order(index, log, of_log)
            for run in _runs(of_log):
                yield from _told_whole(index, log, user_id, device_id, run)
    for dump in index.history.devices:
        for log in index.logs.values():
            yield from _held_whole(log, dump)


def _by_log(index: Index, told: Iterable[AppEvent]) -> Iterator[tuple[LogView, list[AppEvent]]]:
    """What a device was told of each log that was not replaced. A new epoch of a whole log changes nothing of it."""
    found: dict[str, list[AppEvent]] = defaultdict(list)
    for it in told:
        found[_conversation_of(it)].append(it)
    for name, of_log in found.items():
        log = index.logs.get(name)
        if log is not None and not log.restored:
            yield log, of_log


def _runs(told: Iterable[AppEvent]) -> list[list[AppEvent]]:
    """Parts without a break: an app that ends may leave events untaken."""
    runs: list[list[AppEvent]] = [[]]
    incarnation = 0
    for it in told:
        if it.incarnation != incarnation:
            runs.append([])
            incarnation = it.incarnation
        runs[-1].append(it)
    return runs


class _Progress:
    """How far one app was told one log."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.received: set[int] = set()
        self.sent: dict[int, int] = {}  # in which start of the app
        self.sent_first: set[int] = set()  # before anything was received
        self.sent_count: dict[str, int] = defaultdict(int)


def _told_in_order(index: Index, log: LogView, told: Iterable[AppEvent]) -> Findings:
    progress = _Progress()
    for it in told:
        if type(it.event) is EpochChanged:
            yield (
                None
                if it.event.kept_seq >= progress.last_seq
                else of_device(
                    it.user_id,
                    it.device_id,
                    log,
                    progress.last_seq,
                    f"a new epoch of the same log keeps only {it.event.kept_seq}",
                    it.at_s,
                )
            )
        else:
            why = _out_of_order(index, log, progress, it)
            yield of_device(it.user_id, it.device_id, log, _seq_of(log, it), why, it.at_s)


def _conversation_of(told: AppEvent) -> str:
    event = told.event
    kind = type(event)
    if kind is MessageReceived:
        return str(event.message.conversation_id)
    if kind is MessageSent:
        return str(event.sent.conversation_id)
    of_log = (MessageRecalled, MessageEdited, ReactionChanged, EpochChanged)
    return str(event.conversation_id) if kind in of_log else ""


def _seq_of(log: LogView, told: AppEvent) -> int | None:
    """The place of the entry that an event tells of; None for a recall that the log does not have."""
    event = told.event
    kind = type(event)
    if kind is MessageReceived:
        return int(event.message.seq)
    if kind is MessageSent:
        return int(event.sent.seq)
    if kind is MessageEdited:
        return int(event.edit.seq)
    if kind is ReactionChanged:
        return int(event.reaction_seq)
    recall = log.recalls.get(event.seq) if kind is MessageRecalled else None
    return recall.seq if recall is not None else None


def _out_of_order(index: Index, log: LogView, progress: _Progress, told: AppEvent) -> str | None:
    seq = _seq_of(log, told)
    if seq is None:
        return f"a recall of seq {told.event.seq} was told, and the log has none"
    if isinstance(told.event, MessageSent):
        return _sent_too_often(index, progress, told, told.event)
    # that an own message was answered is not kept over a restart while it has no place: after a new epoch, or before
    # anything else was heard of its conversation
    may_be_told_again = log.renewals or seq in progress.sent_first
    sent_in = told.incarnation if may_be_told_again else progress.sent.get(seq)
    twice = seq in progress.received or (seq in progress.sent and progress.sent[seq] == sent_in)
    last_seq, progress.last_seq = progress.last_seq, max(progress.last_seq, seq)
    progress.received.add(seq)
    if twice:
        return "it was told before"
    return None if seq > last_seq else f"it was told after seq {last_seq}"


def _sent_too_often(index: Index, progress: _Progress, told: AppEvent, event: MessageSent) -> str | None:
    """Each `send` of a message is answered once."""
    sent = event.sent
    progress.sent[sent.seq] = told.incarnation
    if not progress.received:
        progress.sent_first.add(sent.seq)
    progress.sent_count[sent.client_msg_id] += 1
    calls = index.sends.get((sent.conversation_id, told.user_id, sent.client_msg_id), [])
    asked = sum(call.device_id == told.device_id for call in calls)
    count = progress.sent_count[sent.client_msg_id]
    return None if count <= asked else f"MessageSent was told {count} times, asked for {asked} times"


def _told_whole(
    index: Index, log: LogView, user_id: str, device_id: str, run: Sequence[AppEvent]
) -> Findings:
    """Between two entries that an app was told, it was told every one that it may see; its own by their answers."""
    told = {seq for it in run if (seq := _seq_of(log, it)) is not None}
    placed = [
        seq for it in run if type(it.event) is not MessageSent and (seq := _seq_of(log, it)) is not None
    ]
    if not placed:
        return
    for seq in log.visible_seqs(user_id, min(placed) - 1, max(placed)):
        if _may_be_passed_over(log, seq, user_id):
            continue
        if seq in told or not _sent_from(index, log, seq, user_id, device_id):
            yield None if seq in told else of_device(user_id, device_id, log, seq, "it was never told")


def _may_be_passed_over(log: LogView, seq: int, user_id: str) -> bool:
    """An own message of another device that was not taken before its user left and came back: what is fetched again
    then cannot be told from what this device sent."""
    row = log.rows.get(seq)
    return row is not None and row.sender_id == user_id and len(log.stays.get(user_id, ())) > 1


def _sent_from(index: Index, log: LogView, seq: int, user_id: str, device_id: str) -> bool:
    row = log.rows.get(seq)
    if row is None or row.client_msg_id is None or row.sender_id != user_id:
        return False
    calls = index.sends.get((log.name, row.sender_id, row.client_msg_id), [])
    return any(call.device_id == device_id for call in calls)


def _held_whole(log: LogView, dump: DeviceDump) -> Findings:
    """What a device says it has completely, it has."""
    record = next((it for it in dump.records if it.conversation_id == log.name), None)
    if record is None or record.epoch != log.epoch:
        return
    held = {message.seq for message in dump.messages[log.name]}
    for seq in log.visible_seqs(dump.user_id, dump.floors[log.name], record.prefix):
        yield None if seq in held else of_device(dump.user_id, dump.device_id, log, seq, "it is not held")
