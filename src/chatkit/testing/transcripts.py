"""A run as one reads it: calls, frames, events and faults, a line each, in the order in which they happened."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from .checker.words import device_name
from .history import Call, Frame, History, Incident, Returned, Step, Told

WIDTH_MAX = 140
VALUE_MAX = 28

_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "json": msgspec.json.decode,
    "msgpack": msgspec.msgpack.decode,
}
_HEARTBEAT = ("PING", "PONG")


def transcript(history: History, lines_max: int = 40) -> str:
    """The last lines of a history, without heartbeats; times are those of the history, in seconds.

    An arrow is a frame that arrived: `ann/phone -> node` or `ann/phone <- node`, and the events in it.
    """
    backwards = (line for step in reversed(history.steps) for line in reversed(_lines(step)))
    lines = list(itertools.islice(backwards, lines_max))[::-1]
    return "\n".join(lines if next(backwards, None) is None else ["earlier lines are left out", *lines])


def _lines(step: Step) -> list[str]:
    match step:
        case Call():
            return [_line(step.at_s, f"{_who(step)} calls {step.op}{_fields(step.args)}")]
        case Returned(call=call):
            return [_line(call.returned_s, f"{_who(call)} has from {call.op}: {_outcome(call)}")]
        case Frame():
            arrow = "->" if step.up else "<-"
            return [_line(step.at_s, f"{_who(step)} {arrow} {step.node} {words}") for words in _events(step)]
        case Told():
            told = f"{type(step.event).__name__}{_fields(msgspec.structs.asdict(step.event))}"
            return [_line(step.at_s, f"{_who(step)} is told {told}")]
        case Incident():
            return [_line(step.at_s, f"{step.what} {step.detail}".rstrip())]


def _line(at_s: float | None, text: str) -> str:
    line = f"{at_s:10.3f}  {text}"
    return line if len(line) <= WIDTH_MAX else f"{line[: WIDTH_MAX - 3]}..."


def _who(step: Call | Frame | Told) -> str:
    return device_name(step.user_id, step.device_id)


def _outcome(call: Call) -> str:
    if call.result == "info":
        return f"{call.error}, and nobody knows whether it took effect"
    return f"ok{_fields(call.answer)}" if call.result == "ok" else call.error


def _events(frame: Frame) -> Iterator[str]:
    try:
        decoded = _DECODERS[frame.codec.name](frame.data)
    except msgspec.DecodeError:
        yield f"{len(frame.data)} bytes that are no {frame.codec.name}"
        return
    for event in decoded if isinstance(decoded, list) else [decoded]:
        if not isinstance(event, dict):
            yield _short(event)
        elif event.get("event") not in _HEARTBEAT:
            yield f"{event.pop('event', 'no event')}{_fields(event)}"


def _fields(values: dict[str, Any]) -> str:
    return "".join(f" {name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    """A value in a few letters: of a long text its begin, of a list of objects their number."""
    if isinstance(value, list) and value and not isinstance(value[0], str | int):
        return f"[{len(value)}]"
    if isinstance(value, dict):
        value = value.get("text", value)
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 3]}..."
