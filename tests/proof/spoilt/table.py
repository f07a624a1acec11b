"""The table of spoilt histories, and what its entries have in common: finding and changing rows, calls and frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from chatkit.client.events import MessageReceived
from chatkit.storage.base import Entry, OutboxEntry
from chatkit.testing.history import Call, Frame
from chatkit.wire.codec import JSON

from ..dumps import CompleteHistory, StoreDump
from ..histories import TEAM, device, events_of, log, with_events

Spoil = Callable[[CompleteHistory], None]
Where = Callable[[Frame, dict[str, Any]], bool]

SECRET_SEQ, RECALL_SEQ = 5, 8
SECRET = {"type": "TEXT", "text": "canary1bob1 a word too much"}
EVE_JOINED, EVE_LEFT, EVE_BACK, EVE_GONE = 6, 11, 13, 15
LATE_S = 1e6

SPOILT: dict[str, tuple[str, Spoil]] = {}
"""By name: the number of the invariant that must be found first, and what breaks it."""


def spoils(number: str) -> Callable[[Spoil], Spoil]:
    """Put a way to break this invariant into the table, under its own name."""

    def register(spoil: Spoil) -> Spoil:
        SPOILT[spoil.__name__.replace("_", " ")] = (number, spoil)
        return spoil

    return register


# --- calls ---


def call_of(history: CompleteHistory, op: str, **wanted: Any) -> Call:
    """The first call of a verb with such arguments, or with such fields of its own."""

    def fits(call: Call) -> bool:
        return all(call.args.get(name, getattr(call, name, None)) == value for name, value in wanted.items())

    return next(call for call in history.calls if call.op == op and fits(call))


def add_call(history: CompleteHistory, op: str, user_id: str, **args: Any) -> Call:
    """A call at the end of which nobody knows what became."""
    call = Call(len(history.calls), LATE_S, user_id, "", op, args, LATE_S, "info")
    history.calls.append(call)
    return call


# --- the store ---


def store(history: CompleteHistory) -> StoreDump:
    assert history.store is not None
    return history.store


def row(history: CompleteHistory, seq: int, name: str = TEAM) -> Entry:
    return next(it for it in log(history, name).entries if it.seq == seq)


def change_row(history: CompleteHistory, seq: int, name: str = TEAM, **changes: Any) -> None:
    entries = log(history, name).entries
    place = entries.index(row(history, seq, name))
    entries[place] = replace(entries[place], **changes)


def append(history: CompleteHistory, *, like: int, **changes: Any) -> Entry:
    """A row more, as another one reads, that the outbox covers."""
    dump = log(history)
    dump.head_seq += 1
    made = replace(row(history, like), seq=dump.head_seq, message_id=f"made-{dump.head_seq}", **changes)
    dump.entries.append(made)
    store(history).outbox.append(OutboxEntry(TEAM, 1, dump.head_seq, 0))
    return made


def append_sent(history: CompleteHistory, user_id: str, text: str) -> Entry:
    """A row more that somebody sent."""
    payload = {"type": "TEXT", "text": text}
    add_call(history, "send", user_id, conversation_id=TEAM, client_msg_id=text, payload=payload)
    encoded = msgspec.json.encode(payload, order="sorted")
    return append(history, like=3, sender_id=user_id, client_msg_id=text, payload=encoded)


def change_cursor(history: CompleteHistory, user_id: str, **changes: Any) -> None:
    members = log(history).members
    place = next(place for place, it in enumerate(members) if it.member.user_id == user_id)
    members[place] = replace(members[place], **changes)


# --- frames ---


def is_of(seq: int, user_id: str = "") -> Where:
    """Whether an event is about this entry, and went to this user if one is named."""

    def found(frame: Frame, event: dict[str, Any]) -> bool:
        return (event["conversationId"], event.get("seq")) == (TEAM, seq) and user_id in ("", frame.user_id)

    return found


def pushed(history: CompleteHistory, seq: int) -> dict[str, Any]:
    """The NEW_MSG of an entry as it went to those who are not its sender."""
    events = [it for frame in history.frames for it in events_of(frame) if it.get("event") == "NEW_MSG"]
    found = (it for it in events if (it["conversationId"], it["seq"]) == (TEAM, seq))
    return next(it for it in found if "clientMsgId" not in it)


def last_frame_to(history: CompleteHistory, user_id: str, *connections: int) -> Frame:
    """The newest frame down to this user, on one of these connections if any are named."""
    frames = [it for it in history.frames if it.user_id == user_id and not it.up]
    return [it for it in frames if not connections or it.connection in connections][-1]


def drop_events(history: CompleteHistory, dropped: Where) -> None:
    """The history without certain events."""
    for place, frame in enumerate(history.frames):
        events = events_of(frame)
        kept = [it for it in events if not dropped(frame, it)]
        if len(kept) < len(events):
            history.frames[place] = with_events(frame, kept)


def add_frame(history: CompleteHistory, like: Frame, *events: dict[str, Any]) -> None:
    """A frame at the end, on the connection of another one."""
    history.frames.append(with_events(replace(like, at_s=LATE_S, codec=JSON), events))


# --- devices ---


def told_at(history: CompleteHistory, user_id: str, device_id: str, seq: int) -> int:
    """The place of the MessageReceived of an entry."""

    def found(event: object) -> bool:
        if not isinstance(event, MessageReceived):
            return False
        return (event.message.conversation_id, event.message.seq) == (TEAM, seq)

    return next(
        place
        for place, it in enumerate(history.app_events)
        if (it.user_id, it.device_id) == (user_id, device_id) and found(it.event)
    )


def change_held(history: CompleteHistory, user_id: str, device_id: str, seq: int, **changes: Any) -> None:
    messages = device(history, user_id, device_id).messages[TEAM]
    place = next(place for place, it in enumerate(messages) if it.seq == seq)
    messages[place] = replace(messages[place], **changes)


def change_record(history: CompleteHistory, user_id: str, device_id: str, **changes: Any) -> None:
    records = device(history, user_id, device_id).records
    place = next(place for place, it in enumerate(records) if it.conversation_id == TEAM)
    records[place] = replace(records[place], **changes)
