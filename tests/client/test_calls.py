"""Functions of the app are called so that a cancellation of their own making ends nothing but the call."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from chatkit.client._calls import call
from chatkit.errors import ClientError
from chatkit.testing.backends import VIRTUAL


@pytest.fixture(params=[VIRTUAL, ("trio", {})], ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def let_out_a_cancellation() -> None:
    """What waiting for a task does that somebody else has cancelled."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            caught = error
            raise
    raise caught


async def test_one_of_its_own_making_is_an_error_and_the_caller_goes_on() -> None:
    with pytest.raises(ClientError, match="the handler was cancelled") as raised:
        await call("the handler", let_out_a_cancellation)
    assert isinstance(raised.value.__cause__, anyio.get_cancelled_exc_class())
    await anyio.lowlevel.checkpoint()


async def test_one_that_is_meant_for_the_caller_reaches_it() -> None:
    with anyio.CancelScope(deadline=anyio.current_time()) as scope:
        await call("the handler", anyio.sleep_forever)
        pytest.fail("it goes on")
    assert scope.cancelled_caught


@pytest.mark.parametrize("error", [LookupError(), SystemExit(3)], ids=["error", "exit"])
async def test_what_it_raises_is_raised_as_it_is(error: BaseException) -> None:
    def fail(first: int, second: int) -> None:
        raise error

    async def fail_later(first: int, second: int) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    for function in (fail, fail_later):
        with pytest.raises(type(error)) as raised:
            await call("the handler", function, 1, 2)
        assert raised.value is error


async def test_what_it_raises_when_it_is_cancelled_is_raised() -> None:
    async def fail() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError

    with anyio.CancelScope(deadline=anyio.current_time()), pytest.raises(LookupError):
        await call("the handler", fail)


async def test_what_it_returns_is_returned_awaited_or_not() -> None:
    async def double(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * number

    assert await call("it", double, 4) == 8
    assert await call("it", lambda number: number + 1, 4) == 5
    assert await call("it", lambda: None) is None
