"""S20: a recall takes its own place, by the author, in time, once; and from then on nothing shows the body."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from chatkit.storage.base import Entry
from chatkit.testing.history import Call
from chatkit.wire.payload import RECALLED

from ..dumps import DeviceDump
from .facts import Page, Seen
from .gather import returned_s
from .index import Index
from .log_view import LogView
from .verdict import Findings
from .words import of_call, of_device, of_row, of_seen


def recalls_hold(index: Index) -> Findings:
    """In the log, in answers, in pages made after it, in pushes on newer connections, on devices that passed it."""
    for log in index.logs.values():
        yield from _log_sound(index, log)
    yield from _answers_sound(index)
    for page in index.pages:
        yield from _page_sound(index, page)
    for seen in _pushed_later(index):
        yield of_seen(seen, _still_shown(seen))
    for dump in index.history.devices:
        yield from _device_sound(index, dump)


def _still_shown(seen: Seen) -> str | None:
    return None if seen.body == RECALLED else "its body is shown after the recall"


def _log_sound(index: Index, log: LogView) -> Findings:
    made = [row for row in log.dump.entries if log.made.get(row.seq, {}).get("type") == "RECALL"]
    times = Counter(log.made[row.seq].get("seq") for row in made)
    for recall in made:
        twice = times[log.made[recall.seq].get("seq")] > 1
        yield of_row(log, recall, "the message was recalled twice" if twice else _unsound(index, log, recall))
    for row in log.rows.values():
        if row.payload == RECALLED:
            yield of_row(log, row, None if row.seq in log.recalls else "a tombstone that nothing recalls")


def _unsound(index: Index, log: LogView, recall: Entry) -> str | None:
    payload = log.made[recall.seq]
    target = log.rows.get(payload.get("seq", 0))
    if target is None or target.seq >= recall.seq or target.client_msg_id is None:
        return "it recalls no message before it"
    if payload.get("messageId") != target.message_id:
        return f"it names {payload.get('messageId')}, seq {target.seq} is {target.message_id}"
    standings = index.standings[log.name]
    if payload.get("by") != recall.sender_id or not standings.may_recall(recall, target):
        return f"{recall.sender_id} recalls a message of {target.sender_id}"
    if target.payload != RECALLED:
        return f"seq {target.seq} still has its body"
    if recall.sender_id != target.sender_id or recall.seq in standings.by_host:
        return None
    written_ms = _written_ms(log, target, payload)
    if written_ms is None or index.recall_window_ms is None:
        return None
    late_ms = recall.server_ts - written_ms
    return None if late_ms <= index.recall_window_ms else f"seq {target.seq} was {late_ms} ms old"


def _written_ms(log: LogView, target: Entry, recall: dict[str, Any]) -> int | None:
    """When the author had written it: a stream is written at its end, which is its first edit; None: it was open."""
    if b'"type":"STREAM"' not in log.bodies.get(target.seq, b""):
        return target.server_ts
    edits = recall.get("edits")
    return log.rows[min(edits)].server_ts if edits else None


def _answers_sound(index: Index) -> Findings:
    """Each answer names the RECALL entry of the message, so it is the same one every time."""
    for call in index.answered("recall"):
        log = index.logs.get(call.answer["conversation_id"])
        if log is not None and log.binds(call.answer.get("epoch", "")):
            yield of_call(call, _wrong_answer(log, call), log.name, call.answer["seq"])


def _wrong_answer(log: LogView, call: Call) -> str | None:
    target = log.by_message_id.get(call.args["message_id"])
    recall = log.recalls.get(target.seq) if target is not None else None
    if recall is None:
        return f"{call.args['message_id']} was recalled, and the log does not know it"
    same = (recall.seq, recall.message_id) == (call.answer["seq"], call.answer["message_id"])
    return None if same else f"it was told seq {call.answer['seq']}, the recall is seq {recall.seq}"


def _page_sound(index: Index, page: Page) -> Findings:
    """A page is one snapshot: if its head is at the recall or above, the body is gone."""
    log = index.logs.get(page.conversation_id)
    for entry in page.entries if log is not None and log.binds(page.epoch) else ():
        recall = log.recalls.get(entry.seq) if log is not None else None
        if recall is not None and recall.seq <= page.head_seq:
            yield of_seen(entry, _still_shown(entry))


def _pushed_later(index: Index) -> Iterator[Seen]:
    """A push that left before the recall may still arrive, but not on a connection that was opened after it."""
    recalled_s: dict[str, float] = {}
    for call in index.answered("recall"):
        recalled_s.setdefault(call.args["message_id"], returned_s(call))
    for seen in index.pushes if recalled_s else ():
        hello = index.traffic.hellos.get(seen.frame.connection) if seen.frame is not None else None
        if hello is not None and hello.frame.at_s > recalled_s.get(seen.message_id, hello.frame.at_s):
            yield seen


def _device_sound(index: Index, dump: DeviceDump) -> Findings:
    """A device that has passed the RECALL entry, or came back after it, holds no body."""
    for record in dump.records:
        log = index.logs.get(record.conversation_id)
        if log is None or not log.binds(record.epoch):
            continue
        for message in dump.messages[log.name] if log.recalls else ():
            recall = log.recalls.get(message.seq)
            if recall is not None and recall.seq <= record.prefix:
                why = f"its body is held, though everything up to {record.prefix} is"
                gone = message.type == "RECALLED"
                yield of_device(dump.user_id, dump.device_id, log, message.seq, None if gone else why)
