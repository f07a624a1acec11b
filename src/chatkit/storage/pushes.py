"""The rows of what providers said of pushes, the same for every store."""

from __future__ import annotations

from typing import NamedTuple

from .base import Finished, PushAnswer


class PushRow(NamedTuple):
    """A row of the table `push_record` as its first try makes it, in the order of its columns."""

    conversation_key: int
    user_id: str
    device_id: str
    seq: int
    provider: str
    at_ms: int
    answer: PushAnswer
    provider_id: str
    reason: str
    tries: int
    first_ms: int


def push_rows(done: Finished) -> list[PushRow]:
    """What is to be noted of a finished claim, whosever it is by now: what was sent was sent."""
    return [
        PushRow(
            done.claim.conversation_key,
            it.user_id,
            it.device_id,
            it.seq,
            it.provider,
            it.at_ms,
            it.answer,
            it.provider_id,
            it.reason,
            it.tries,
            it.first_ms or it.at_ms,
        )
        for it in done.pushes
    ]
