"""How the client waits and tries again: jitter, what a server asks for, and tenacity on virtual time."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import pytest
from tenacity import stop_after_attempt

from chatkit.client._retry import Backoff, retrying
from chatkit.client.requests import ConnectionStatus
from chatkit.errors import ChatkitError, ClosedError, ConnectionLostError, OverloadedError

from .foretold import FixedRandom

BACKOFF = Backoff(FixedRandom(0.5), base_s=1.0, max_s=8.0)


def retryable(error: BaseException) -> bool:
    return isinstance(error, ChatkitError) and error.retryable


class Failing:
    """Raises these errors one after the other, then returns how often it was called."""

    def __init__(self, errors: Iterable[BaseException]) -> None:
        self._errors = list(errors)
        self.at_s: list[float] = []

    async def __call__(self) -> int:
        self.at_s.append(anyio.current_time())
        if self._errors:
            raise self._errors.pop(0)
        return len(self.at_s)


def test_the_wait_doubles_up_to_its_bound_and_is_never_below_what_the_server_asks_for() -> None:
    assert [BACKOFF.delay_s(attempt) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert BACKOFF.delay_s(1, 2.0) == 2.5


async def test_it_waits_as_the_backoff_and_the_last_error_say() -> None:
    act = Failing([ConnectionLostError(), OverloadedError(retry_after_s=2.0)])

    assert await retrying(retryable, wait=BACKOFF)(act) == 3
    assert [later - act.at_s[0] for later in act.at_s] == pytest.approx([0, 0.5, 3.0])


async def test_what_may_not_be_retried_and_what_was_tried_often_enough_is_raised_as_it_is() -> None:
    final, last = ClosedError("no"), ConnectionLostError("gone")

    with pytest.raises(ClosedError) as raised:
        await retrying(retryable, wait=BACKOFF)(Failing([final]))
    assert raised.value is final
    with pytest.raises(ConnectionLostError) as again:
        await retrying(retryable, stop=stop_after_attempt(2))(Failing([ConnectionLostError(), last, last]))
    assert again.value is last


async def test_a_cancellation_is_no_error_to_retry() -> None:
    act = Failing([anyio.get_cancelled_exc_class()()])

    with pytest.raises(anyio.get_cancelled_exc_class()):
        await retrying(lambda error: True)(act)
    assert len(act.at_s) == 1


async def test_a_request_over_connections_is_made_again_when_the_next_login_holds() -> None:
    status, act = ConnectionStatus(), Failing([ConnectionLostError()])
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await status.over_connections(act))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(1)
        assert act.at_s == []
        status.change(connected=True)
    assert answers == [2]


async def test_nobody_waits_for_a_connection_once_the_client_has_stopped() -> None:
    status, act, reason = ConnectionStatus(), Failing([]), OverloadedError()
    raised: list[BaseException | None] = []

    async def ask() -> None:
        try:
            await status.over_connections(act)
        except ClosedError as error:
            raised.append(error.__cause__)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
        await anyio.sleep(1)
        status.change(connected=False)
        await anyio.sleep(1)
        status.stop("the client has stopped", reason)
    assert raised == [reason] * 3
