"""A run as one reads it: calls, frames, events and faults, a line each, in the order in which they happened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from ..errors import ProtocolError
from ..types import Message
from .history import AppEvent, Call, Ended, Frame, History, Incident, Returned, Step, device_name

WIDTH_MAX = 140
VALUE_MAX = 28

_ITEMS_MAX = 8
_HEARTBEAT = ("PING", "PONG")
_SECRET = frozenset({"token", "resumeToken"})


def transcript(history: History, lines_max: int = 40) -> str:
    """The last lines of a history, without heartbeats and tokens; times are those of the history, in seconds.

    An arrow is a frame that arrived: `ann/phone -> node` or `ann/phone <- node`, and an event in it.
    """
    backwards = (line for step in reversed(history.steps) for line in reversed(_lines(step)))
    lines = list(itertools.islice(backwards, lines_max))[::-1]
    return "\n".join(lines if next(backwards, None) is None else ["earlier lines are left out", *lines])


def _lines(step: Step) -> list[str]:
    return [_line(step.at_s, text) for text in _texts(step)]


def _line(at_s: float, text: str) -> str:
    line = f"{at_s:10.3f}  {_printable(text)}"
    return line if len(line) <= WIDTH_MAX else f"{line[: WIDTH_MAX - 3]}..."


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def _texts(step: Step) -> Iterator[str]:
    match step:
        case Call():
            yield f"{_who(step)} calls {step.op}{_fields(step.args)}"
        case Returned(call=call):
            yield f"{_who(call)} has from {call.op}: {_outcome(call)}"
        case Frame():
            way = f"{_who(step)} {'->' if step.up else '<-'} {step.node}"
            yield from (f"{way} {event}" for event in _events(step))
        case AppEvent(event=event):
            values = msgspec.structs.asdict(event) if isinstance(event, msgspec.Struct) else {"value": event}
            yield f"{_who(step)} is told {type(event).__name__}{_fields(values)}"
        case Incident():
            yield f"{step.what} {step.detail}".rstrip()
        case Ended(incident=incident):
            yield f"over: {incident.what} {incident.detail}".rstrip()


def _who(step: Call | Frame | AppEvent) -> str:
    return device_name(step.user_id, step.device_id)


def _outcome(call: Call) -> str:
    if call.result == "info":
        return f"{call.error}, and nobody knows whether it took effect"
    return f"ok{_fields(call.answer)}" if call.result == "ok" else call.error


def _events(frame: Frame) -> Iterator[str]:
    try:
        decoded = frame.codec.plain(frame.data)
    except ProtocolError:
        yield f"{len(frame.data)} bytes that are no {frame.codec.name}"
        return
    for event in decoded if isinstance(decoded, list) else [decoded]:
        if not isinstance(event, dict):
            yield _short(event)
        elif event.get("event") not in _HEARTBEAT:
            yield f"{event.pop('event', 'no event')}{_fields(event)}"


def _fields(values: dict[Any, Any]) -> str:
    return "".join(f" {name}={'...' if name in _SECRET else _value(it)}" for name, it in values.items())


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        more = ", ..." if len(value) > _ITEMS_MAX else ""
        return f"[{', '.join(map(_item, value[:_ITEMS_MAX]))}{more}]"
    if isinstance(value, Message):
        return f"{value.conversation_id} seq {value.seq} of {value.sender_id}: {_short(value.payload)}"
    return _short(value)


def _item(value: Any) -> str:
    """One of several: of an entry its seq, of a conversation its name and head."""
    if isinstance(value, Message):
        return str(value.seq)
    if isinstance(value, dict) and "seq" in value:
        return str(value["seq"])
    if isinstance(value, dict) and "headSeq" in value:
        return f"{value.get('conversationId')} to {value['headSeq']}"
    return _short(value)


def _short(value: Any) -> str:
    """The begin of a value; of a payload the text, if it has one."""
    if isinstance(value, dict):
        value = value.get("text", value)
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 3]}..."
