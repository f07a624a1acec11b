"""S17 and S18: nobody is shown what lies outside his memberships, and who was removed hears nothing any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from chatkit.errors import ProtocolError
from chatkit.testing.history import Call, Frame
from chatkit.wire import events as ev

from .existence import existence_hidden, removals
from .facts import Seen
from .gather import head_of
from .index import Index
from .log_view import LogView
from .traffic import Arrived
from .verdict import Breach, Findings
from .words import of_call, of_event, of_frame, of_seen

CANARY_LENGTH_MIN = 8

_SPACE = ord(" ")
_WORDS = bytes(it if it < 128 and chr(it).isalnum() else _SPACE for it in range(256))
_TO_MEMBERS: tuple[type[Any], ...] = (ev.NewMsg, ev.SyncPage, ev.Behind, ev.ReceiptPush, ev.TypingPush)
"""What only members get, beside HEADS."""

Sent = tuple[Arrived[Any], str]
"""An event that only members get, and its conversation."""

Canaries = dict[bytes, tuple[LogView, int]]
"""Each canary, and the entry in which it stands."""

# --- S17 ---


def isolated(index: Index) -> Findings:
    """No entry that a user may not read is shown to him or held by him, nor its canary in any byte; none is pushed
    that is outside of his memberships.

    A canary is a word of a payload that is in no other payload, no id and no title: eight or more ASCII letters and
    digits, at least one of each. A sender's key is only for the sender; what only members get goes to no stranger; and
    no refusal tells him that there is something.
    """
    for seen in index.seen:
        log = index.logs.get(seen.conversation_id)
        if log is not None and not log.restored:
            yield of_seen(seen, _not_for_him(log, seen))
    for it, name in _to_members(index):
        log = index.logs.get(name)
        if log is not None:
            stranger = it.frame.user_id not in log.stays
            yield of_event(it, name, "he never was a member" if stranger else None)
    for call, name in _listed(index):
        log = index.logs.get(name)
        if log is not None:
            stranger = call.user_id not in log.stays
            yield of_call(call, "it is listed, and he never was a member" if stranger else None, name)
    yield from existence_hidden(index)
    yield from _canaries_out(index)


def _not_for_him(log: LogView, seen: Seen) -> str | None:
    if not (log.visible if seen.where == "push" else log.readable)(seen.user_id, seen.seq):
        return "it is not visible to this user"
    foreign = seen.client_msg_id is not None and seen.sender_id != seen.user_id
    return "it shows another one's clientMsgId" if foreign else None


def _to_members(index: Index) -> Iterator[Sent]:
    for kind in _TO_MEMBERS:
        for it in index.traffic.of(kind):
            yield it, it.event.conversation_id
    for heads in index.traffic.of(ev.Heads):
        for head in heads.event.conversations:
            yield heads, head.conversation_id


def _listed(index: Index) -> Iterator[tuple[Call, str]]:
    """Every conversation in a list, with the call that brought it."""
    for call in index.answered("list"):
        for row in call.answer["items"]:
            yield call, head_of(row).conversation_id


def _canaries_out(index: Index) -> Findings:
    """The bytes of every frame that went down."""
    canaries = _canaries(index)
    hidden = {
        user_id: _hidden_from(canaries, user_id) for user_id in {it.user_id for it in index.history.frames}
    }
    searched = set[bytes]().union(*hidden.values())
    known: dict[bytes, set[bytes]] = {}
    for frame in index.history.frames if searched else ():
        if frame.up:
            continue
        found = known.get(frame.data)
        if found is None:
            found = known[frame.data] = searched.intersection(_as_json(frame).translate(_WORDS).split())
        leaked = found & hidden[frame.user_id] if found else None
        yield _leak(frame, *canaries[min(leaked)]) if leaked else None


def _canaries(index: Index) -> Canaries:
    count = Counter[bytes]()
    for calls in index.sends.values():
        count.update({word for call in calls for word in _words(index.body_sent(call))})
    in_names = {word for it in _names(index) for word in _words(it.encode())}
    return {
        word: (log, seq)
        for log in index.logs.values()
        for seq, body in log.bodies.items()
        if seq not in log.made and not log.restored
        for word in _words(body)
        if count[word] == 1 and word not in in_names and not word.isalpha() and not word.isdigit()
    }


def _words(text: bytes) -> set[bytes]:
    """The runs of ASCII letters and digits that are long enough for a canary."""
    return {word for word in text.translate(_WORDS).split() if len(word) >= CANARY_LENGTH_MIN}


def _names(index: Index) -> set[str]:
    """Every id, epoch and title: what a payload may name, too."""
    names = set(index.logs)
    for call in index.history.calls:
        names |= {call.user_id, call.device_id, call.answer.get("epoch", "")}
        names.update(*(_texts(value) for name, value in call.args.items() if name != "payload"))
    for frame in index.history.frames:
        names |= {frame.user_id, frame.device_id}
    for log in index.logs.values():
        names.update(log.stays, (row.subject for row in log.dump.audit))
        for row in log.dump.entries:
            names |= {row.message_id, row.epoch, row.sender_id, row.client_msg_id or ""}
    return names | {seen.epoch for seen in index.seen}


def _texts(value: object) -> Iterator[str]:
    """The texts of an argument."""
    for it in value if isinstance(value, list) else [value]:
        if isinstance(it, str):
            yield it


def _as_json(frame: Frame) -> bytes:
    """The text of a frame, where no length byte can stand before a word; empty if it cannot be decoded."""
    if not frame.codec.binary:
        return frame.data
    try:
        return msgspec.json.encode(frame.codec.plain(frame.data))
    except (ProtocolError, TypeError, RecursionError):
        return b""  # S25 tells of it


def _hidden_from(canaries: Canaries, user_id: str) -> set[bytes]:
    """The canaries that a user may not see: neither his own nor in a visible entry."""
    return {
        word
        for word, (log, seq) in canaries.items()
        if log.rows[seq].sender_id != user_id and not log.readable(user_id, seq)
    }


def _leak(frame: Frame, log: LogView, seq: int) -> Breach | None:
    why = f"it holds the canary of seq {seq} of {log.name}, which is not visible to this user"
    return of_frame(frame, why, log.name, seq)


# --- S18 ---


def revoked(index: Index) -> Findings:
    """Who was removed gets nothing more of the conversation.

    What had left the server before cannot be called back, and arrival does not tell when something left. So four
    things are judged: no push ever of an entry from the removal on; nothing on a connection after its own CONVERSATION
    LEFT; nothing on a connection whose HELLO, and no line in a list whose call, came after the removal was answered, if
    the user never returned.
    """
    for seen in index.pushes:
        log = index.logs.get(seen.conversation_id)
        if log is not None and not log.restored and seen.user_id in log.stays:
            yield of_seen(seen, _pushed_after_leaving(log, seen))
    yield from _heard_after_left(index)
    yield from _told_to_former(index)


def _pushed_after_leaving(log: LogView, seen: Seen) -> str | None:
    before = seen.seq < log.stays[seen.user_id][0].first_seq  # that is S17's
    allowed = before or log.visible(seen.user_id, seen.seq)
    return None if allowed else "it was written when he had left"


def _heard_after_left(index: Index) -> Findings:
    """A connection keeps its order: between LEFT and the next JOINED there is nothing to hear."""
    changes: list[Sent] = [(it, it.event.conversation_id) for it in index.traffic.of(ev.ConversationPush)]
    concerned = {(it.frame.connection, name) for it, name in changes if it.event.change == "LEFT"}
    heard = [(it, name) for it, name in _to_members(index) if (it.frame.connection, name) in concerned]
    gone: set[tuple[int, str]] = set()
    for it, name in sorted(changes + heard, key=lambda it: (it[0].position, it[0].place)):
        place = (it.frame.connection, name)
        if not isinstance(it.event, ev.ConversationPush):
            yield of_event(it, name, "after CONVERSATION LEFT" if place in gone else None)
        elif it.event.change == "LEFT":
            gone.add(place)
        else:
            gone.discard(place)


def _of_a_stay(index: Index, it: Arrived[Any], name: str) -> bool:
    """Whether it is an entry of a time when this user was a member."""
    log = index.logs.get(name)
    return log is not None and isinstance(it.event, ev.NewMsg) and log.visible(it.frame.user_id, it.event.seq)


def _told_to_former(index: Index) -> Findings:
    """Whoever connects when they are no member hears nothing; but a node that learns late of a stay that is over by
    then tells it in order, its entries and its end."""
    removed_s = dict(removals(index))
    opened_s = {connection: hello.frame.at_s for connection, hello in index.traffic.hellos.items()}
    for it, name in _to_members(index) if removed_s else ():
        at_s = removed_s.get((name, it.frame.user_id))
        if at_s is not None:
            late = opened_s.get(it.frame.connection, at_s) > at_s and not _of_a_stay(index, it, name)
            yield of_event(it, name, "he had been removed before he connected" if late else None)
    for call, name in _listed(index):
        at_s = removed_s.get((name, call.user_id))
        if at_s is not None:
            yield of_call(call, "it is listed, and he had been removed" if call.at_s > at_s else None, name)
