"""How this client tries again: one wait for all of its retries, and tenacity for those that are loops.

An HTTP request, the renewal of a login and a request over several connections are loops: they use tenacity, the first
two with `Backoff` as the wait. What goes back into a queue (a send, a cursor, a pull) and the reconnect, whose count
starts again after a stable connection, take `Backoff.delay_s` alone. See docs/design/0007-the-client.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never, wait_none
from tenacity.stop import stop_base

from ..core.backoff import next_delay
from ..errors import (
    ChatkitError,
    ClientError,
    ConnectionLostError,
    InternalError,
    RecallWindowPassedError,
    UnavailableError,
)
from ..ports import Random

_T = TypeVar("_T")


class Backoff:
    """Waits between tries, with jitter. Called by tenacity it is a wait policy.

    Args:
        random: Where the jitter comes from.
        base_s: Upper bound of the first wait; it doubles with each try.
        max_s: Upper bound of every wait that the server did not ask for.
    """

    def __init__(self, random: Random, base_s: float, max_s: float) -> None:
        self._random = random
        self._base_s = base_s
        self._max_s = max_s

    def delay_s(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after `attempt` failed tries; not below `retry_after_s`, as far as that is believed."""
        return next_delay(
            attempt, self._random.random(), retry_after_s, base_s=self._base_s, max_s=self._max_s
        )

    def __call__(self, state: RetryCallState) -> float:
        """Seconds before tenacity's next try."""
        error = state.outcome.exception() if state.outcome is not None else None
        return self.delay_s(state.attempt_number, retry_after_s_of(error))


def retry_after_s_of(error: BaseException | None) -> float | None:
    """What the refusing side asked to wait, if the error says it."""
    return error.retry_after_s if isinstance(error, ChatkitError) else None


def retrying(
    may_retry: Callable[[BaseException], bool],
    *,
    stop: stop_base = stop_never,
    wait: Callable[[RetryCallState], float] = wait_none(),  # noqa: B008 -- stateless
    before_sleep: Callable[[RetryCallState], None] | None = None,
) -> AsyncRetrying:
    """Tries as often as the policies allow, sleeping through anyio; the last error is raised as it is.

    Args:
        may_retry: Whether this error is worth another try; asked of errors only, never of a cancellation.
        stop: When to give up.
        wait: Seconds between two tries.
        before_sleep: Called before each wait.
    """
    policy = retry_if_exception(lambda error: isinstance(error, Exception) and may_retry(error))
    return AsyncRetrying(
        sleep=anyio.sleep, stop=stop, wait=wait, retry=policy, before_sleep=before_sleep, reraise=True
    )


async def ask_repeatedly(policy: AsyncRetrying, request: Callable[..., Awaitable[_T]], *args: Any) -> _T:
    """Make a request as often as the policy says. Returns its answer, or raises its last error.

    A repeat that comes too late says nothing of an earlier try without an answer: that one may still wait at the node
    that took it in, in time, and take effect.

    Raises:
        ConnectionLostError: Such a repeat was refused as too late (its cause): the outcome is unknown.
    """
    unanswered = False

    async def attempt() -> _T:
        nonlocal unanswered
        try:
            return await request(*args)
        except (ClientError, InternalError, UnavailableError):
            unanswered = True
            raise

    try:
        answer: _T = await policy(attempt)
    except RecallWindowPassedError as error:
        if not unanswered:
            raise
        raise ConnectionLostError(
            f"a first try had no answer, and its repeat came too late: {error}"
        ) from error
    return answer
