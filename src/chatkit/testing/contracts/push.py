"""The contract of every push provider: subclass `PushContract` and override its fixture `stage`.

    class TestMyProvider(PushContract):
        @pytest.fixture
        async def stage(self):
            async with MyFakeService() as service:
                yield MyStage(service)

A stage is a provider and a service for it that does as it is told. Only the port is used here (`chatkit.push.base`).
These tests need real time, for what they cut short are real requests.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Protocol

import anyio
import pytest

from ...errors import ClosedError, TooLargeError
from ...push.base import BATCH_MAX, Dead, Delivered, Push, PushProvider, Refused, Result, Retry, Unknown

FAILURES_MAX = 20
"""A provider that fails so often in a row must be left alone."""

PAUSE_S = 3600.0
"""After so long a provider that was left alone must be tried again."""

TITLE = "canary-of-the-title"
BODY = "canary-of-the-body"


class Act(Enum):
    """What the service does with a push."""

    ACCEPT = "takes it"
    BUSY = "asks to come back after `BUSY_S` seconds"
    FAIL = "has an internal error"
    DEAD = "says that the token reaches nobody"
    REFUSE = "says that it is wrong"
    HANG = "never answers"
    CUT = "ends the connection instead of answering"


BUSY_S = 77


class Stage(Protocol):
    """A provider with the service that it sends to."""

    provider: PushProvider
    timeout_s: float
    """What the provider allows for one push; a second or so."""

    arrived: list[str]
    """`Push.id` of what reached the service, in order."""

    def push(self, number: int, *, title: str | None, body: str | None, expires_at_ms: int | None) -> Push:
        """A push that this provider can send; every number has a token of its own. It expires late by default."""

    def plan(self, push: Push, *acts: Act) -> None:
        """What the service does with the next tries of a push; with everything else it does `Act.ACCEPT`."""

    def pass_s(self, seconds: float) -> None:
        """Let the provider's clock go on."""


class PushContract:
    """All that a push provider promises, as tests."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def stage(self) -> Stage:
        """Override: a provider and its service, which are closed after the test."""
        raise NotImplementedError("override the fixture `stage`")

    def push(self, stage: Stage, number: int = 0, *acts: Act) -> Push:
        """A push, with what the service does with it."""
        push = stage.push(number, title=TITLE, body=BODY, expires_at_ms=None)
        stage.plan(push, *acts)
        return push

    async def sent(self, stage: Stage, *batch: Push) -> list[Result]:
        """The results, which must come in time."""
        with anyio.fail_after(2 * stage.timeout_s + 5.0):
            return await stage.provider.send(batch)

    async def one(self, stage: Stage, *acts: Act) -> Result:
        """The result of one push that the service deals with in this way."""
        (result,) = await self.sent(stage, self.push(stage, 0, *acts))
        return result

    async def test_what_is_taken_is_delivered(self, stage: Stage) -> None:
        push = self.push(stage)

        assert isinstance((await self.sent(stage, push))[0], Delivered)
        assert stage.arrived == [push.id]

    async def test_no_push_is_no_work(self, stage: Stage) -> None:
        assert await self.sent(stage) == []
        assert stage.arrived == []

    async def test_a_batch_has_a_bound(self, stage: Stage) -> None:
        push = self.push(stage)
        with pytest.raises(TooLargeError):
            await stage.provider.send([push] * (BATCH_MAX + 1))

        assert stage.arrived == []

    async def test_each_result_stands_in_the_place_of_its_push(self, stage: Stage) -> None:
        acts = [Act.ACCEPT, Act.DEAD, Act.ACCEPT, Act.REFUSE, Act.BUSY, Act.ACCEPT]
        batch = [self.push(stage, number, act) for number, act in enumerate(acts)]

        kinds = [type(result) for result in await self.sent(stage, *batch)]

        assert kinds == [Delivered, Dead, Delivered, Refused, Retry, Delivered]

    async def test_a_busy_service_is_given_the_time_that_it_asks_for(self, stage: Stage) -> None:
        result = await self.one(stage, Act.BUSY)

        assert isinstance(result, Retry)
        assert BUSY_S <= result.after_s <= 2 * BUSY_S

    async def test_a_service_that_fails_is_asked_again_later(self, stage: Stage) -> None:
        result = await self.one(stage, Act.FAIL)

        assert isinstance(result, Retry)
        assert result.failed
        assert result.after_s > 0

    async def test_no_answer_leaves_the_outcome_unknown(self, stage: Stage) -> None:
        assert isinstance(await self.one(stage, Act.HANG), Unknown)

    async def test_a_cut_leaves_the_outcome_unknown(self, stage: Stage) -> None:
        assert isinstance(await self.one(stage, Act.CUT), Unknown)

    @pytest.mark.parametrize("act", [Act.HANG, Act.CUT])
    async def test_it_goes_on_after_a_lost_answer_under_the_same_id(self, stage: Stage, act: Act) -> None:
        push = self.push(stage, 0, act)
        await self.sent(stage, push)

        assert isinstance((await self.sent(stage, push))[0], Delivered)
        assert stage.arrived == [push.id, push.id]

    async def test_a_hanging_push_keeps_nobody_else(self, stage: Stage) -> None:
        hanging = self.push(stage, 0, Act.HANG)
        others = [self.push(stage, number) for number in range(1, 21)]

        results = await self.sent(stage, *others[:10], hanging, *others[10:])

        assert [type(result) for result in results] == [Delivered] * 10 + [Unknown] + [Delivered] * 10

    async def test_what_has_expired_is_not_sent(self, stage: Stage) -> None:
        push = stage.push(0, title=TITLE, body=BODY, expires_at_ms=1)

        assert isinstance((await self.sent(stage, push))[0], Refused)
        assert stage.arrived == []

    async def test_long_words_are_cut(self, stage: Stage) -> None:
        push = stage.push(0, title="\U0001f600" * 3000, body="\u00e4" * 20_000, expires_at_ms=None)

        assert isinstance((await self.sent(stage, push))[0], Delivered)

    async def test_hidden_words_are_no_obstacle(self, stage: Stage) -> None:
        pushes = [
            stage.push(0, title=TITLE, body=None, expires_at_ms=None),
            stage.push(1, title=None, body=None, expires_at_ms=None),
        ]

        assert [type(result) for result in await self.sent(stage, *pushes)] == [Delivered, Delivered]

    async def test_a_service_that_goes_on_failing_is_left_alone_and_then_tried_once(
        self, stage: Stage
    ) -> None:
        for number in range(FAILURES_MAX):
            await self.sent(stage, self.push(stage, number, Act.FAIL))
        before = len(stage.arrived)
        assert isinstance((await self.sent(stage, self.push(stage)))[0], Retry)
        assert len(stage.arrived) == before, "it was not left alone"

        stage.pass_s(PAUSE_S)
        failing = [self.push(stage, number, Act.FAIL) for number in range(10)]
        assert {type(result) for result in await self.sent(stage, *failing)} == {Retry}
        assert len(stage.arrived) == before + 1, "one is tried"

        stage.pass_s(PAUSE_S)
        assert isinstance((await self.sent(stage, self.push(stage, 11)))[0], Delivered)
        batch = [self.push(stage, number) for number in range(12, 20)]
        assert {type(result) for result in await self.sent(stage, *batch)} == {Delivered}

    async def test_refusals_do_not_speak_against_the_service(self, stage: Stage) -> None:
        for number in range(FAILURES_MAX):
            await self.sent(stage, self.push(stage, number, Act.DEAD if number % 2 else Act.REFUSE))

        assert isinstance((await self.sent(stage, self.push(stage)))[0], Delivered)

    async def test_a_call_that_is_given_up_spoils_nothing(self, stage: Stage) -> None:
        batch = [self.push(stage, number, Act.HANG) for number in range(5)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.provider.send, batch)
            with anyio.fail_after(5.0):
                while len(stage.arrived) < 5:  # noqa: ASYNC110 -- the service says nothing
                    await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()

        assert isinstance((await self.sent(stage, self.push(stage, 6)))[0], Delivered)

    async def test_calls_side_by_side_have_their_own_results(self, stage: Stage) -> None:
        found: dict[int, list[Result]] = {}

        async def call(number: int, act: Act) -> None:
            found[number] = await self.sent(stage, self.push(stage, number, act))

        async with anyio.create_task_group() as tasks:
            for number, act in enumerate([Act.ACCEPT, Act.DEAD, Act.REFUSE]):
                tasks.start_soon(call, number, act)

        assert [type(found[number][0]) for number in range(3)] == [Delivered, Dead, Refused]

    async def test_closed_is_closed(self, stage: Stage) -> None:
        await self.sent(stage, self.push(stage))
        await stage.provider.aclose()
        await stage.provider.aclose()
        with pytest.raises(ClosedError):
            await stage.provider.send([self.push(stage, 1)])

    async def test_closing_ends_calls_under_way(self, stage: Stage) -> None:
        results: list[Result] = []

        async def call() -> None:
            results.extend(await self.sent(stage, self.push(stage, 0, Act.HANG)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            with anyio.fail_after(5.0):
                while not stage.arrived:  # noqa: ASYNC110 -- the service says nothing
                    await anyio.sleep(0.005)
            await stage.provider.aclose()

        assert isinstance(results[0], Unknown)

    async def test_no_word_and_no_token_is_logged(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        pushes = [self.push(stage, number, act) for number, act in enumerate(Act)]
        with caplog.at_level(logging.DEBUG, logger="chatkit"):
            results = await self.sent(stage, *pushes)
        written = caplog.text + "".join(
            record.getMessage() for record in caplog.records if record.name[:7] == "chatkit"
        )
        shown = written + repr(results) + repr(pushes)

        assert BODY not in shown
        assert TITLE not in shown
        assert not any(push.token in shown for push in pushes)
