"""How a batch is sent, the same for every adapter: so many at a time, each under its own deadline, behind a breaker.

An adapter supplies what happens to one push; whatever that does, its neighbours get their results.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from traceback import extract_tb

import anyio

from .._arguments import check_number
from ..errors import ClosedError, TooLargeError
from ..ports import Ports
from ._breaker import Breakers
from .base import BATCH_MAX, Push, Refused, Result, Retry, Unknown

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
IN_FLIGHT_MAX = 50


class Attempt:
    """One push on its way.

    Attributes:
        left: Whether anything of it may have left this machine. Before that, a failure is worth a retry; after
            that, its outcome is unknown.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = False


class LostError(Exception):
    """No answer: the words say why, and hold nothing of the push.

    Attributes:
        failed: Whether that speaks against the service.
    """

    failed = True


class BusyError(LostError):
    """Something here is full; the service was not asked."""

    failed = False


One = Callable[[Push, Attempt], Awaitable[Result]]
"""Sends one push. Raises LostError; it is cancelled at the push's deadline."""


class Sender:
    """`PushProvider.send` for an adapter.

    Args:
        one: Sends one push.
        ports: Clock and jitter.
        timeout_s: For one push from its beginning. None begins later than that after the call, so `send` takes twice
            as long at most.
        in_flight_max: Pushes under way at the same moment, of all calls together.
        service: Names the service that a push goes to; each has a breaker of its own.
    """

    def __init__(
        self,
        one: One,
        *,
        ports: Ports,
        timeout_s: float = TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
        service: Callable[[Push], str] = lambda push: "",
    ) -> None:
        check_number("timeout_s", timeout_s)
        check_number("in_flight_max", in_flight_max, whole=True)
        self._one = one
        self._clock = ports.clock
        self._timeout_s = timeout_s
        self._in_flight_max = in_flight_max
        self._slots = anyio.Semaphore(in_flight_max)
        self._service = service
        self._breakers = Breakers(ports)
        self._closed = False

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        """The result of each push, in their order."""
        if self._closed:
            raise ClosedError("this push provider is closed")
        if len(batch) > BATCH_MAX:
            raise TooLargeError(f"a batch has at most {BATCH_MAX} pushes, not {len(batch)}")
        results: list[Result] = [Retry(0.0)] * len(batch)
        todo = iter(enumerate(batch))
        begin_by = anyio.current_time() + self._timeout_s
        async with anyio.create_task_group() as tasks:
            for _ in range(min(len(batch), self._in_flight_max)):
                tasks.start_soon(self._work, todo, results, begin_by)
        return results

    def close(self) -> None:
        """Refuse further batches."""
        self._closed = True

    async def _work(self, todo: Iterator[tuple[int, Push]], results: list[Result], begin_by: float) -> None:
        for place, push in todo:
            results[place] = await self._in_slot(push, begin_by)

    async def _in_slot(self, push: Push, begin_by: float) -> Result:
        with anyio.move_on_at(begin_by) as waiting:
            await self._slots.acquire()
        if waiting.cancelled_caught:
            return Retry(1.0, "too many pushes were under way", failed=False)
        try:
            return await self._begun(push)
        finally:
            self._slots.release()

    async def _begun(self, push: Push) -> Result:
        if push.expires_at_ms <= self._clock.now_ms():
            return Refused("expired")
        service = self._service(push)
        wait_s = self._breakers.wait_s(service)
        if wait_s is not None:
            return Retry(wait_s, "the provider failed several times and is left alone for a while")
        attempt = Attempt()
        try:
            result = await self._within_time(push, attempt)
        except BaseException:
            self._breakers.left(service)
            raise
        return self._breakers.saw(service, result, was_asked=attempt.left)

    async def _within_time(self, push: Push, attempt: Attempt) -> Result:
        with anyio.move_on_after(self._timeout_s):
            return await self._judged(push, attempt)
        return _unanswered(attempt, f"no answer within {self._timeout_s:g} s")

    async def _judged(self, push: Push, attempt: Attempt) -> Result:
        try:
            return await self._one(push, attempt)
        except LostError as error:
            return _unanswered(attempt, str(error), failed=error.failed)
        except Exception as error:  # its neighbours get their results; its words may hold a token
            where = extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            logger.error("push %s failed unexpectedly: %s at %s", push.id, type(error).__name__, place)
            return _unanswered(attempt, f"an unexpected {type(error).__name__}", failed=False)


def _unanswered(attempt: Attempt, reason: str, *, failed: bool = True) -> Result:
    return Unknown(reason) if attempt.left else Retry(0.0, reason, failed)
