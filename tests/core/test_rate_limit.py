"""The generic cell rate algorithm: what is admitted, what must wait and how long, what is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.core.rate_limit import Rate, RateLimiter
from chatkit.errors import ConfigurationError


def test_a_burst_is_admitted_and_then_the_steady_rate() -> None:
    limiter = RateLimiter[str](Rate(10, 3))
    assert [limiter.admit("u-1", 5.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limiter.admit("u-1", 5.0) == pytest.approx(0.1)
    assert limiter.admit("u-1", 5.1) == 0.0
    assert limiter.admit("u-1", 5.1) == pytest.approx(0.1)


def test_the_wait_that_was_stated_is_enough() -> None:
    limiter = RateLimiter[str](Rate(7, 2))
    now_s, admitted = 0.3, 0
    for _ in range(200):
        wait_s = limiter.admit("u-1", now_s)
        admitted += wait_s == 0.0
        now_s += wait_s
    assert admitted == 101
    assert now_s == pytest.approx(0.3 + 99 / 7)


def test_a_refusal_counts_nothing() -> None:
    limiter = RateLimiter[str](Rate(1, 1))
    limiter.admit("u-1", 0.0)
    waits = [limiter.admit("u-1", 0.5) for _ in range(50)]
    assert waits == [0.5] * 50
    assert limiter.admit("u-1", 1.0) == 0.0


def test_keys_do_not_share() -> None:
    limiter = RateLimiter[str](Rate(1, 1))
    assert limiter.admit("u-1", 0.0) == 0.0
    assert limiter.admit("u-2", 0.0) == 0.0
    assert limiter.admit("u-1", 0.0) == 1.0


def test_a_cost_above_the_burst_is_admitted_after_a_full_rest_and_paid_in_full() -> None:
    limiter = RateLimiter[str](Rate(10, 5))
    assert limiter.admit("u-1", 0.0, cost=20) == 0.0
    assert limiter.admit("u-1", 0.0) == pytest.approx(1.6)
    assert limiter.admit("u-1", 1.6) == 0.0


def test_without_a_rate_everything_is_admitted() -> None:
    limiter = RateLimiter[str](None)
    assert [limiter.admit("u-1", 0.0) for _ in range(1000)] == [0.0] * 1000
    assert len(limiter) == 0


def test_keys_at_rest_are_forgotten() -> None:
    limiter = RateLimiter[int](Rate(1, 1))
    for key in range(100_000):
        limiter.admit(key, now_s=key / 100)
    assert len(limiter) < 2_500


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1, 0)])
def test_a_rate_that_admits_nothing_or_all_is_refused(per_s: float, burst: int) -> None:
    with pytest.raises(ConfigurationError, match="a rate needs"):
        Rate(per_s, burst)


@pytest.mark.parametrize(("per_s", "burst"), [("1", 2), (1, 2.5), (None, 1), (1, True)])
def test_a_rate_of_something_else_is_refused(per_s: Any, burst: Any) -> None:
    with pytest.raises(ConfigurationError, match="a whole number at once"):
        Rate(per_s, burst)
