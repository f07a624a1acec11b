"""The rows of what a delivery worker has to try again, the same for every store."""

from __future__ import annotations

from typing import NamedTuple

from .base import Finished


class LaterRow(NamedTuple):
    """A row of the table `delivery`, in the order of its columns but for the ticket."""

    conversation_key: int
    user_id: str
    device_id: str
    after_seq: int
    ready_ms: int | None
    attempt: int
    since_ms: int
    reason: str


def later_rows(done: Finished, *, is_waiting: bool = False) -> list[LaterRow]:
    """What is to be kept of a finished claim. A device that fails again keeps where and when it began.

    Args:
        done: The claim.
        is_waiting: Whether its device waits again already, for what came meanwhile: that stands for what was given up,
            and a dead letter has no row beside it.
    """
    claim = done.claim
    attempt, since_ms = (claim.attempt, claim.since_ms) if claim.user_id else (1, done.at_ms)
    return [
        LaterRow(
            claim.conversation_key,
            it.user_id,
            it.device_id,
            claim.after_seq,
            it.ready_ms,
            attempt,
            since_ms,
            it.reason,
        )
        for it in done.later
        if it.ready_ms is not None or not is_waiting
    ]
