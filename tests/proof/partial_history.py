"""What a history can be judged by if it does not know everything: a test may reach its server unseen.

The fixtures see what their own clients do, every frame on their network, and what is asked of the engine. They do not
see what a store held before, nor why somebody acts who came by another socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chatkit.server.session import Session
from chatkit.wire import events as ev

from .checker import Violation
from .checker.log_view import LogView
from .checker.traffic import Traffic
from .dumps import CompleteHistory

NEEDS_ALL = frozenset({"S2", "S3", "S8", "S9", "S13", "S14", "S24"})
"""Invariants that hold what is there against all that was ever asked or confirmed."""


def half_known(history: CompleteHistory, sessions: Iterable[Session]) -> set[str]:
    """The conversations in which something may have been done that the history does not tell of.

    Args:
        history: With its store.
        sessions: All that the server opened.

    Returns:
        Those that were not begun in the history, and those that ever had a member who acted unseen.
    """
    assert history.store is not None
    begun, unseen = _begun(history), set(_unseen(history, sessions))
    return {
        name
        for name, log in history.store.logs.items()
        if name not in begun or unseen & LogView(log).stays.keys()
    }


def judged(violations: Iterable[Violation], half_known: set[str]) -> list[Violation]:
    """Those violations that stand however much was done unseen in these conversations."""
    return [
        it
        for it in violations
        if it.invariant not in NEEDS_ALL or it.breach.conversation_id not in half_known
    ]


def _begun(history: CompleteHistory) -> set[str]:
    """The conversations whose first entry was just made when a call of the history created them."""
    return {
        call.answer["conversation_id"]
        for call in history.calls
        if call.op == "create" and call.result == "ok" and call.answer["head_seq"] == 1
    }


def _unseen(history: CompleteHistory, sessions: Iterable[Session]) -> Iterator[str]:
    """Users who acted by a session off the network, on it without a call, or confirmed without a frame."""
    devices = {(frame.user_id, frame.device_id) for frame in history.frames}
    yield from (it.user_id for it in sessions if (it.user_id, it.device_id) not in devices)
    yield from (call.user_id for call in history.calls if call.op == "confirm")
    traffic = Traffic(history.frames)
    keys = {(call.user_id, call.args["client_msg_id"]) for call in history.calls if call.op == "send"}
    for send in traffic.of(ev.SendMsg):
        if (send.frame.user_id, send.event.client_msg_id) not in keys:
            yield send.frame.user_id
    recalled = {(call.user_id, call.args["message_id"]) for call in history.calls if call.op == "recall"}
    for recall in traffic.of(ev.Recall):
        if (recall.frame.user_id, recall.event.message_id) not in recalled:
            yield recall.frame.user_id
