"""A violation in some 20 lines: what is wrong, which message it is about, where it went wrong, and when."""

from __future__ import annotations

from ..dumps import CompleteHistory
from .index import Index
from .invariants import INVARIANTS
from .story import Story
from .timeline import timeline
from .verdict import Violation

LINES_MAX = 15
"""Of the timeline; its middle is left out if there are more."""

_BODY_LENGTH_MAX = 60


def report(history: CompleteHistory, violation: Violation) -> str:
    """The story of a violation.

    Its `wrong in` names the part of the way that lost the message (sender, log, bus, session or device) as the history
    shows it; if nothing was lost, the part that must have broken the invariant. Times are those of the history.
    """
    story = Story(Index(history, None, True), violation.breach)
    lost = next(story.lost(), None)
    lines = [f"{violation.invariant} {violation.title}", f"  {violation.breach.what}"]
    if story.has_message:
        lines.append(f"  message: {_named(story)}")
    lines.append(f"  wrong in: {INVARIANTS[violation.invariant].place if lost is None else ', '.join(lost)}")
    lines += _shortened([f"  {it.at_s:10.3f}  {it.text}" for it in timeline(story)])
    return "\n".join(lines)


def _named(story: Story) -> str:
    place = "no seq" if story.seq is None else f"seq {story.seq}"
    _, sender_id, client_msg_id = story.key
    key = f", {client_msg_id!r} of {sender_id}" if client_msg_id else ""
    bodies = [story.index.body_sent(call) for call in story.calls]
    bodies += [story.row.payload] if story.row is not None else []
    body = f", {bodies[0].decode()[:_BODY_LENGTH_MAX]}" if bodies else ""
    return f"{place} of {story.name}{key}{body}"


def _shortened(lines: list[str]) -> list[str]:
    left_out = len(lines) - LINES_MAX + 1
    if left_out <= 1:
        return lines
    head = LINES_MAX // 2
    return [*lines[:head], f"              ... {left_out} lines left out ...", *lines[head + left_out :]]
