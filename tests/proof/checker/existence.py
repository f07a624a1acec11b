"""The part of S17 that is about existence: a refusal tells nobody that there is something he may not know of."""

from __future__ import annotations

from collections.abc import Iterator

from chatkit.errors import ForbiddenError, RecallWindowPassedError
from chatkit.wire import events as ev

from .gather import member_ids, returned_s
from .index import Index
from .log_view import LogView
from .traffic import Arrived
from .verdict import Findings
from .words import of_call, of_event

_TELLING = frozenset({"FORBIDDEN", "CONFLICT", "RECALL_WINDOW_PASSED"})
"""Codes of an ERROR about a conversation that come to its members only; of calls a CONFLICT may be the client's own."""

_TELLING_ERRORS = frozenset({ForbiddenError.__name__, RecallWindowPassedError.__name__})


class _Known:
    """Where each entry stands, and when each user had been removed for good: so, what each may know of."""

    def __init__(self, index: Index) -> None:
        self._logs = index.logs
        self._places = {
            row.message_id: (log, row.seq) for log in index.logs.values() for row in log.rows.values()
        }
        self._removed_s: dict[tuple[str, str], float] = {}
        for place, at_s in removals(index):
            self._removed_s[place] = min(at_s, self._removed_s.get(place, at_s))

    def place(self, conversation_id: object, message_id: object) -> tuple[LogView, int | None] | None:
        """The entry if one is named, else the log; None if there is no such one, or it was replaced."""
        log = self._logs.get(conversation_id) if isinstance(conversation_id, str) else None
        named = self._places.get(message_id) if isinstance(message_id, str) else None
        place = named or (None if log is None else (log, None))
        return None if place is None or place[0].restored else place

    def wrong(self, place: tuple[LogView, int | None], user_id: str, since_s: float) -> str | None:
        """What is wrong if this user was told since then that there is such a place."""
        log, seq = place
        if user_id not in log.stays:
            return "he never was a member, and is told that there is such a conversation"
        if seq is not None and not log.readable(user_id, seq):
            return "it is not visible to him, and he is told that there is such an entry"
        former = since_s > self._removed_s.get((log.name, user_id), since_s)
        return "he had been removed before, and is told that there is such a conversation" if former else None


def existence_hidden(index: Index) -> Findings:
    """Whoever may not see a log, or the entry that he would recall, is told NOT_FOUND, as of what does not exist.

    Of who was removed that is asked once his removal had been answered before he came, or called.
    """
    known = _Known(index)
    for it, conversation_id, message_id in _telling(index):
        place = known.place(conversation_id, message_id)
        hello = index.traffic.hellos.get(it.frame.connection)
        if place is not None and hello is not None:
            why = known.wrong(place, it.frame.user_id, hello.frame.at_s)
            yield of_event(it, place[0].name, why, place[1])
    for call in index.calls():
        if call.user_id and call.result == "fail" and call.error in _TELLING_ERRORS:
            place = known.place(call.args.get("conversation_id"), call.args.get("message_id"))
            if place is not None:
                yield of_call(call, known.wrong(place, call.user_id, call.at_s), place[0].name, place[1])


def _telling(index: Index) -> Iterator[tuple[Arrived[ev.ErrorEvent], object, object]]:
    """Each ERROR that tells of something, with the conversation and the message that it is about.

    Not a CONFLICT of a send: it is about a key of his own, and those are known before it is asked who is a member.
    """
    recalls = {(it.frame.connection, it.event.ref): it.event.message_id for it in index.traffic.of(ev.Recall)}
    for it in index.traffic.of(ev.ErrorEvent):
        own_key = it.event.code == "CONFLICT" and isinstance(it.event.client_msg_id, str)
        if it.event.code in _TELLING and not own_key:
            yield it, it.event.conversation_id, recalls.get((it.frame.connection, it.event.ref))


def removals(index: Index) -> Iterator[tuple[tuple[str, str], float]]:
    """By conversation and user: when the call that removed him for good had returned."""
    for call in index.answered("remove", "ban_member"):
        log = index.logs.get(call.args["conversation_id"])
        if log is None or log.restored:
            continue
        for user_id in member_ids(call):
            ended_seq = log.stays[user_id][-1].ended_seq if user_id in log.stays else None
            if ended_seq is not None and call.answer["head_seq"] >= ended_seq:
                yield (log.name, user_id), returned_s(call)
