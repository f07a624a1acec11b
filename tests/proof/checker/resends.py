"""The part of S9 that shows on the wire: what the server refused for now comes again before what was sent after it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from chatkit.errors import HeldError
from chatkit.wire import events as ev

from .index import Index
from .traffic import Arrived, Traffic
from .verdict import Findings
from .words import of_event


class _Lane(msgspec.Struct):
    """The sends of one connection to one conversation.

    Attributes:
        sent: The number of the first SEND_MSG of each key that has no answer for good.
        refused: The number of the ERROR of each key that was refused for now and has not come again.
    """

    sent: dict[str, int] = msgspec.field(default_factory=dict)
    refused: dict[str, int] = msgspec.field(default_factory=dict)

    def comes(self, client_msg_id: str, number: int) -> tuple[bool, str | None]:
        """A send. Returns whether it comes again, and what should have come before it."""
        first = self.sent.setdefault(client_msg_id, number)
        refused = self.refused.pop(client_msg_id, None)
        if refused is None:
            return False, None
        passed = (it for it, at in self.refused.items() if at < refused and self.sent[it] < first)
        return True, next(passed, None)

    def answer(self, client_msg_id: str) -> None:
        """Nothing more is to come under this key."""
        self.sent.pop(client_msg_id, None)
        self.refused.pop(client_msg_id, None)


def refused_come_again(index: Index) -> Findings:
    """What comes again after a refusal for now comes behind everything that was sent and refused before it.

    The server takes nothing else until then. The end of a review is no answer to what waits under that key.
    """
    lanes: dict[tuple[int, str], _Lane] = defaultdict(_Lane)
    for number, it in enumerate(_sends_and_answers(index.traffic)):
        event = it.event
        if not isinstance(event.client_msg_id, str) or not isinstance(event.conversation_id, str):
            continue
        lane = lanes[it.frame.connection, event.conversation_id]
        if isinstance(event, ev.SendMsg):
            is_again, passed = lane.comes(event.client_msg_id, number)
            if is_again:
                why = f"{event.client_msg_id!r} comes again, and {passed!r}, refused before it, has not"
                yield of_event(it, event.conversation_id, None if passed is None else why)
        elif not isinstance(event, ev.ErrorEvent):
            lane.answer(event.client_msg_id)
        elif event.retryable and event.code != HeldError.code:
            if event.client_msg_id in lane.sent:
                lane.refused[event.client_msg_id] = number
        elif event.reason != ev.REVIEWED:
            lane.answer(event.client_msg_id)


def _sends_and_answers(traffic: Traffic) -> list[Arrived[Any]]:
    """By arrival."""
    found: list[Arrived[Any]] = [*traffic.of(ev.SendMsg), *traffic.of(ev.MsgAck), *traffic.of(ev.ErrorEvent)]
    return sorted(found, key=lambda it: (it.position, it.place))
