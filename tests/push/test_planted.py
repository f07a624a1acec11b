"""The contract fails on a provider that is broken in one place, and holds on the same one unbroken."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.push import _payload, _sender
from chatkit.push._breaker import Breakers
from chatkit.push._sender import Sender
from chatkit.testing.contracts.push import PushContract
from tests.testing.test_contracts import leaves, spoil

from .stages import ApnsStage

PLANTED: list[tuple[str, Any, str, str, str]] = [
    (
        "test_each_result_stands_in_the_place_of_its_push",
        Sender,
        "_work",
        "results[place]",
        "results[-1 - place]",
    ),
    (
        "test_a_hanging_push_keeps_nobody_else",
        Sender,
        "send",
        "range(min(len(batch), self._in_flight_max))",
        "(1,)",
    ),
    ("test_no_answer_leaves_the_outcome_unknown", _sender, "_unanswered", "if attempt.left", "if False"),
    ("test_a_cut_leaves_the_outcome_unknown", _sender, "_unanswered", "if attempt.left", "if False"),
    (
        "test_a_busy_service_is_given_the_time_that_it_asks_for",
        Breakers,
        "_backoff_s",
        "asked_s,\n",
        "0.0,\n",
    ),
    ("test_what_has_expired_is_not_sent", Sender, "_begun", "push.expires_at_ms <= ", "0 > "),
    (
        "test_a_service_that_goes_on_failing_is_left_alone_and_then_tried_once",
        Breakers,
        "wait_s",
        "not state.opened",
        "state.opened",
    ),
    (
        "test_a_service_that_goes_on_failing_is_left_alone_and_then_tried_once",
        Breakers,
        "wait_s",
        "if state.tried",
        "if False",
    ),
    ("test_long_words_are_cut", _payload, "_longest", "len(tried) <= bytes_max", "False"),
    ("test_closed_is_closed", Sender, "close", "True", "False"),
    ("test_a_batch_has_a_bound", Sender, "send", "len(batch) > BATCH_MAX", "False"),
]


async def hold(test: str) -> None:
    async with ApnsStage() as stage:
        await getattr(PushContract(), test)(stage)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda each: f"{each[0]}-{each[2]}-{each[4]}")
async def test_a_broken_provider_is_found_out(
    planted: tuple[str, Any, str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test, owner, name, old, new = planted
    spoil(monkeypatch, owner, name, old, new)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 -- which ones is checked below
        await hold(test)
    assert {type(leaf) for leaf in leaves(caught.value)} <= {
        AssertionError,
        TimeoutError,
        pytest.fail.Exception,
    }
