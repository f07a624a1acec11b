"""What follows when a handler fails: again after a wait, or given up. Called by `bot`."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from .._arguments import check_number
from ..client.events import Delivery
from ..errors import ChatkitError, ConfigurationError, RefusedError
from .contexts import EventContext

logger = logging.getLogger(__name__)


class ProcessDiedError(ChatkitError):
    """Processes that have ended tried this event as often as is allowed. The handler was not called again."""

    code = "PROCESS_DIED"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often an event whose handler fails is given again, and when.

    Meanwhile what else comes of its conversation waits behind it, so that order holds; other conversations go on. An
    event that is given up counts as taken. What belongs to no log (typing, receipts, connection states) comes at most
    once, and so is never given again.

    Attributes:
        attempts_max: Tries in one process. Refusals that no retry mends (`retryable` is false: no member any more, too
            large) are given up at once.
        restarts_max: An event that was tried more often by processes that have ended, whatever ended them (a kill, a
            stop that did not wait), is given up. What is stored is the number of its tries, and not how each of them
            ended, so those whose handler failed count too: it is at least `attempts_max`, or one restart could use it
            up.
        wait_s: Seconds before the second try; doubled with each further one.
        wait_max_s: Upper bound of every wait.

    Raises:
        ConfigurationError: A value is no number, or too small; `restarts_max` also if it is below `attempts_max`.
    """

    attempts_max: int = 3
    restarts_max: int = 20
    wait_s: float = 1.0
    wait_max_s: float = 30.0

    def __post_init__(self) -> None:
        check_number("attempts_max", self.attempts_max, whole=True, least=1)
        check_number("restarts_max", self.restarts_max, whole=True, least=1)
        if self.restarts_max < self.attempts_max:
            raise ConfigurationError(
                "restarts_max must be at least attempts_max: all tries of a process that has ended count in it"
            )
        check_number("wait_s", self.wait_s, least=0)
        check_number("wait_max_s", self.wait_max_s, least=0)
        if self.wait_max_s < self.wait_s:
            raise ConfigurationError("wait_max_s must be at least wait_s")

    def delay_s(self, failures: int, error: Exception) -> float | None:
        """Seconds until the next try after so many failures in this process; None: it is given up."""
        is_final = isinstance(error, ProcessDiedError) or (
            isinstance(error, RefusedError) and not error.retryable
        )
        if failures >= self.attempts_max or is_final:
            return None
        asked_s = error.retry_after_s if isinstance(error, ChatkitError) else None
        return min(max(self.wait_s * 2.0 ** min(failures - 1, 60), asked_s or 0.0), self.wait_max_s)


class Failure(msgspec.Struct, frozen=True):
    """A handler has failed.

    Attributes:
        context: What it was called with.
        error: What it raised; ProcessDiedError if it was not called any more.
        retry_in_s: After so many seconds the event is given again; None: it is given up, and counts as taken.
    """

    context: EventContext[Any]
    error: Exception
    retry_in_s: float | None

    @property
    def given_up(self) -> bool:
        """Whether the event is not given again."""
        return self.retry_in_s is None


class Failures:
    """How often the events that are being tried have failed in this process: one number for each conversation.

    Args:
        policy: How often and when.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._counts: dict[str, tuple[tuple[str, int, type], int]] = {}

    def check(self, delivery: Delivery) -> None:
        """Raises ProcessDiedError if processes that have ended tried it more often than is allowed."""
        tries = delivery.attempt - 1 - self._count(delivery)
        if tries > self._policy.restarts_max:
            raise ProcessDiedError(f"not handled in {tries} tries of processes that have ended")

    def failed(self, delivery: Delivery, error: Exception) -> float | None:
        """Seconds until the next try; None: it is given up."""
        count = self._count(delivery) + 1
        delay_s = self._policy.delay_s(count, error) if delivery.repeats else None
        if delay_s is None:
            self._counts.pop(delivery.conversation_id, None)
        else:
            self._counts[delivery.conversation_id] = _which(delivery), count
        return delay_s

    def handled(self, delivery: Delivery) -> None:
        """It did not fail this time."""
        self._counts.pop(delivery.conversation_id, None)

    def _count(self, delivery: Delivery) -> int:
        which, count = self._counts.get(delivery.conversation_id, (None, 0))
        return count if which == _which(delivery) else 0


async def log_failure(failure: Failure) -> None:
    """The error handler of a bot that has none of its own."""
    context = failure.context
    what = f"{type(context.event).__name__} in {context.conversation_id or 'no conversation'}"
    then = "it is given up" if failure.retry_in_s is None else f"once more in {failure.retry_in_s:g} s"
    logger.error("a handler of %s failed (try %d): %s", what, context.attempt, then, exc_info=failure.error)


def _which(delivery: Delivery) -> tuple[str, int, type]:
    return delivery.epoch, delivery.seq, type(delivery.event)
