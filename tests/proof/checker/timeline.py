"""The story of a message in time: called, sent up, stored, acked, pushed down, told, and what went on around."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from chatkit.testing.history import Call, Frame, device_name
from chatkit.wire import events as ev

from .facts import Seen
from .gather import member_ids
from .story import Story

AROUND_S = 1.0
"""Incidents this near to the message's own time are told, too."""

_VERBS = {
    "push": "pushed down to",
    "page": "in a page down to",
    "answer": "in an answer to",
    "told": "told to",
}


class Line(msgspec.Struct, frozen=True, order=True):
    """One line; lines of one moment keep the order of their rank."""

    at_s: float
    rank: int
    text: str


def timeline(story: Story) -> list[Line]:
    """All lines, ascending."""
    lines = [*_calls(story), *_frames(story), *_sights(story)] if story.has_message else []
    if story.breach.at_s is not None:
        lines.append(Line(story.breach.at_s, 8, "<- here it shows"))
    if lines:
        lines += _incidents(story, min(lines).at_s - AROUND_S, max(lines).at_s + AROUND_S)
    return sorted([*lines, *(_memberships(story) if story.about_membership else ())])


def _calls(story: Story) -> Iterator[Line]:
    message_id = story.row.message_id if story.row is not None else ""
    recalls = [call for call in story.index.calls("recall") if call.args["message_id"] == message_id]
    for call in (*story.calls, *recalls):
        yield from _call(call)


def _memberships(story: Story) -> Iterator[Line]:
    """What was done to the membership of the user in question."""
    user_id = story.breach.user_id
    for call in story.index.calls("create", "add", "remove", "ban_member"):
        name = call.answer.get("conversation_id", call.args["conversation_id"])
        if name == story.name and user_id in member_ids(call):
            yield from _call(call, "" if call.op == "create" else f" of {user_id}")


def _call(call: Call, about: str = "") -> Iterator[Line]:
    who = device_name(call.user_id, call.device_id)
    yield Line(call.at_s, 0, f"call {call.number}: {who} calls {call.op}{about}")
    if call.returned_s is not None:
        seq = call.answer.get("seq", call.answer.get("head_seq"))
        end = f"seq {seq}" if call.result == "ok" else call.error
        yield Line(call.returned_s, 6, f"call {call.number} returns {call.result}: {end}")


def _frames(story: Story) -> Iterator[Line]:
    traffic = story.index.traffic
    for send in traffic.of(ev.SendMsg):
        if story.is_of(send.event, send.frame.user_id):
            yield Line(send.frame.at_s, 1, f"sent up {_on(send.frame)}")
    for ack in traffic.of(ev.MsgAck):
        if story.is_of(ack.event, ack.frame.user_id):
            yield Line(ack.frame.at_s, 3, f"acked as seq {ack.event.seq} {_on(ack.frame)}")
    for error in traffic.of(ev.ErrorEvent):
        if story.is_of(error.event, error.frame.user_id):
            yield Line(error.frame.at_s, 3, f"refused with {error.event.code} {_on(error.frame)}")


def _sights(story: Story) -> Iterator[Line]:
    """Where it was seen: by the device in question one by one, by all others in one line."""
    device = (story.breach.user_id, story.breach.device_id)
    own = [seen for seen in story.sights if (seen.user_id, seen.device_id) == device]
    others = [seen for seen in story.sights if (seen.user_id, seen.device_id) != device]
    if story.row is not None and story.sights:
        stored = f"stored as seq {story.row.seq}, {story.row.message_id}"
        yield Line(min(map(_at_s, story.sights)), 2, stored)
    for seen in own:
        text = f"{_VERBS[seen.where]} {device_name(*device)}"
        if seen.frame is None:
            yield Line(_at_s(seen), 5, text)
        else:
            yield Line(_at_s(seen), 4, f"{text} {_on(seen.frame)}")
    if others:
        names = sorted({device_name(seen.user_id, seen.device_id) for seen in others})
        yield Line(min(map(_at_s, others)), 4, f"seen by {', '.join(names)} from here on")


def _on(frame: Frame) -> str:
    way = "to" if frame.up else "from"
    return f"on connection {frame.connection}" + (f" {way} {frame.node}" if frame.node else "")


def _at_s(seen: Seen) -> float:
    assert seen.at_s is not None
    return seen.at_s


def _incidents(story: Story, since_s: float, until_s: float) -> Iterator[Line]:
    for it in story.index.history.incidents:
        ended_s = it.at_s if it.until_s is None else it.until_s
        if it.at_s <= until_s and ended_s >= since_s:
            lasted = "" if it.until_s is None else f", until {it.until_s:.3f}"
            yield Line(it.at_s, 7, f"[{it.what} {it.detail}{lasted}]")
