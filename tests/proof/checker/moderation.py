"""S26: what a moderator says counts: nothing is stored or seen that it did not allow, a refusal is for ever, and a key
that has its answer is not moderated again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from chatkit.storage.base import Entry
from chatkit.testing.history import Call
from chatkit.wire import events as ev
from chatkit.wire.payload import RECALLED

from ..dumps import Moderated
from .facts import Key
from .gather import canonical
from .index import Index
from .log_view import LogView
from .verdict import Breach, Findings
from .words import of_row


def moderated(index: Index) -> Findings:
    """Holds a run in which a moderator was asked to what it said; others have nothing to be held to."""
    by_key: dict[Key, list[Moderated]] = defaultdict(list)
    for it in index.history.moderated:
        by_key[it.key].append(it)
    reviews: dict[Key, list[Call]] = defaultdict(list)
    for call in index.calls("review"):
        args = call.args
        reviews[args["conversation_id"], args["sender_id"], args["client_msg_id"]].append(call)
    first_seen_s = _first_seen_s(index)
    for log in index.logs.values():
        for row in log.dump.entries:
            key = (log.name, row.sender_id, row.client_msg_id or "")
            if key in by_key:
                seen_s = first_seen_s.get((log.name, row.message_id))
                yield of_row(log, row, _not_allowed(row, by_key[key], reviews[key], seen_s))
    yield from _final(index)
    yield from _once(index)


def _not_allowed(row: Entry, asked: list[Moderated], reviews: list[Call], seen_s: float | None) -> str | None:
    """Why a row may not be there, or not so early."""
    since_s = min(
        (
            *(it.at_s for it in asked if row.payload in (RECALLED, *_allows(it))),
            *(it.at_s for it in reviews if row.payload in (RECALLED, *_releases(it, asked))),
        ),
        default=None,
    )
    if since_s is None:
        said = ", ".join(it.verdict for it in asked)
        return f"its body is none that was allowed; the moderator said {said}, and {len(reviews)} reviews"
    if seen_s is not None and seen_s < since_s:
        return f"it was seen {since_s - seen_s:.3f} s before it was allowed"
    return None


def _allows(it: Moderated) -> Iterator[bytes]:
    """What of a message one answer lets into the log."""
    if it.verdict == "allow" or it.is_open:  # an answer that came too late counts as a failure
        yield it.body
    if it.instead is not None:
        yield it.instead


def _releases(review: Call, asked: list[Moderated]) -> Iterator[bytes]:
    if review.result == "fail" or review.args["decision"] == "refuse":
        return
    if review.args["payload"] is not None:
        yield canonical(review.args["payload"])
    else:
        yield from (it.body for it in asked if it.verdict == "hold")


def _first_seen_s(index: Index) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for seen in index.seen:
        if seen.at_s is not None:
            place = (seen.conversation_id, seen.message_id)
            found[place] = min(seen.at_s, found.get(place, seen.at_s))
    return found


def _final(index: Index) -> Findings:
    """What a sender was told is refused, by call or by ERROR, has no row."""
    told: dict[Key, float] = {}
    for key, calls in index.sends.items():
        for call in calls:
            if call.error == "ContentRefusedError":
                told.setdefault(key, call.at_s)
    for it in index.traffic.of(ev.ErrorEvent):
        event = it.event
        if event.code == "CONTENT_REFUSED" and isinstance(event.client_msg_id, str):
            assert isinstance(event.conversation_id, str)
            told.setdefault((event.conversation_id, it.frame.user_id, event.client_msg_id), it.frame.at_s)
    for (name, sender_id, client_msg_id), at_s in told.items():
        log = index.logs.get(name)
        row = log.by_key.get((sender_id, client_msg_id)) if log is not None else None
        yield None if row is None else _breach(log, row, at_s)


def _breach(log: LogView | None, row: Entry, at_s: float) -> Breach | None:
    assert log is not None
    return of_row(log, row, f"its sender was told at {at_s:.3f} that it is refused for good")


def _once(index: Index) -> Findings:
    """Nobody asks about a key whose answer was told before they looked whether it is new."""
    answered_s: dict[Key, float] = {}
    for ack in index.acks:
        log = index.logs.get(ack.key[0])
        if log is None or log.binds(ack.epoch):
            answered_s[ack.key] = min(ack.at_s, answered_s.get(ack.key, ack.at_s))
    for it in index.history.moderated:
        told_s = answered_s.get(it.key)
        late = told_s is not None and told_s < it.looked_at_s
        name, sender_id, client_msg_id = it.key
        yield (
            Breach(
                what=f"{client_msg_id!r} of {sender_id} in {name} was answered, and is moderated again",
                conversation_id=name,
                client_msg_id=client_msg_id,
                user_id=sender_id,
                at_s=it.at_s,
            )
            if late
            else None
        )
