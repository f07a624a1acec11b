"""S6 and S11: a place in the log never changes what it says, and a key never changes its answer."""

from __future__ import annotations

from chatkit.testing.history import Call
from chatkit.wire.payload import RECALLED

from .facts import Ack, Key, Seen
from .gather import returned_s
from .index import Index
from .log_view import LogView
from .verdict import Findings
from .words import of_ack, of_call, of_seen

# --- S6 ---


def immutable_slot(index: Index) -> Findings:
    """Every sight of an entry shows the same id, sender, time and body, or the tombstone of a recalled one.

    Sights are held against the log; where that was not read, or was replaced since, against the first sight.
    """
    first: dict[tuple[str, str, int], Seen] = {}
    for seen in index.seen:
        log = index.logs.get(seen.conversation_id)
        if log is not None and log.binds(seen.epoch):
            yield of_seen(seen, _differs_from_log(log, seen))
        else:
            place = (seen.conversation_id, seen.epoch, seen.seq)
            yield of_seen(seen, _differs(first.setdefault(place, seen), seen))


def _differs_from_log(log: LogView, seen: Seen) -> str | None:
    row = log.rows.get(seen.seq)
    if row is None:
        return "the log has no such row"
    if seen.message_id != row.message_id:
        return f"its id is {seen.message_id}, in the log {row.message_id}"
    if seen.sender_id != row.sender_id or seen.server_ts != row.server_ts:
        return "its sender or time is not the log's"
    if seen.client_msg_id is not None and seen.client_msg_id != row.client_msg_id:
        return f"its key is {seen.client_msg_id!r}, in the log {row.client_msg_id!r}"
    if seen.body == RECALLED:
        return None if seen.seq in log.recalls else "it is shown as recalled, and was not"
    return None if seen.body == log.bodies.get(seen.seq, seen.body) else "its body is not the log's"


def _differs(first: Seen, seen: Seen) -> str | None:
    one = (first.message_id, first.sender_id, first.server_ts)
    if one != (seen.message_id, seen.sender_id, seen.server_ts):
        return "its id, sender or time is not what was seen first"
    same = RECALLED in (first.body, seen.body) or first.body == seen.body
    return None if same else "its body is not what was seen first"


# --- S11 ---


def identical_replay(index: Index) -> Findings:
    """A key has one answer for ever, for one body; any other body under it is refused with CONFLICT."""
    first: dict[Key, Ack] = {}
    epochs: dict[Key, str] = {}
    for ack in sorted((ack for ack in index.acks if _binds(index, ack)), key=lambda ack: ack.at_s):
        why = _other_answer(first.setdefault(ack.key, ack), ack)
        if ack.first_hand and ack.epoch:
            earlier = epochs.setdefault(ack.key, ack.epoch)
            why = why or (
                None if earlier == ack.epoch else f"in epoch {ack.epoch}, and not {earlier} as before"
            )
        yield of_ack(ack, why)
    for key, answered in first.items():
        yield from _calls_after(index, index.sends.get(key, []), answered)


def _binds(index: Index, ack: Ack) -> bool:
    """Whether an answer is of the log as it is, not of one that was replaced."""
    log = index.logs.get(ack.key[0])
    return log is None or log.binds(ack.epoch)


def _other_answer(earlier: Ack, ack: Ack) -> str | None:
    before = (earlier.seq, earlier.message_id, earlier.server_ts)
    now = (ack.seq, ack.message_id, ack.server_ts)
    return None if before == now else f"{now} now, {before} in {earlier.how}"


def _calls_after(index: Index, calls: list[Call], answered: Ack) -> Findings:
    """How the calls under one key ended."""
    log = index.logs.get(answered.key[0])
    accepted = sorted((call for call in _ended(calls) if call.result == "ok"), key=returned_s)
    stored = index.body_sent(accepted[0]) if accepted else None
    if log is not None and log.binds(answered.epoch) and not index.rewrites(answered.key):
        stored = log.bodies.get(answered.seq, stored)
    recalled = log is not None and answered.seq in log.recalls
    for call in _ended(calls) if stored is not None else ():
        if recalled and call.device_id and call.result == "ok":
            continue  # a client that finds its key in a page cannot compare the body any more
        later = call.at_s > answered.at_s
        why = _wrong_outcome(call, same_body=index.body_sent(call) == stored, later=later)
        yield of_call(call, why, seq=answered.seq)


def _ended(calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.result in ("ok", "fail")]


def _wrong_outcome(call: Call, *, same_body: bool, later: bool) -> str | None:
    """What is wrong with how a call under a known key ended; `later`: the key was answered before it began."""
    if not same_body and call.result == "ok":
        return "it has another body under a known key, and was accepted"
    if not later or call.result == "ok":
        return None
    if same_body and call.error in ("ConflictError", "NotFoundError", "ForbiddenError"):
        return f"it repeats an answered send, and was refused with {call.error}"
    if not same_body and call.error in ("NotFoundError", "ForbiddenError"):
        return f"it has another body under a known key, and was refused with {call.error}, not CONFLICT"
    return None
