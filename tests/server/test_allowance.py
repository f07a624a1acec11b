"""What a user may still ask for: every rate, what is counted once, and what is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chatkit.core.rate_limit import Rate
from chatkit.errors import RateLimitedError
from chatkit.server.allowance import Allowance
from chatkit.server.limits import Limits

SLOW = Rate(0.1, 2)


class Hands:
    """A clock that a test moves."""

    now = 0.0

    def now_s(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return int(self.now * 1000)


def allowance(**limits: Any) -> Allowance:
    return Allowance(Limits.unlimited() if not limits else Limits(**limits), 3.0, Hands())


def refused(act: Callable[..., None], *args: Any) -> float:
    """After how many seconds it may be done; 0.0 if it was done."""
    try:
        act(*args)
    except RateLimitedError as error:
        return error.retry_after_s or -1.0
    return 0.0


@pytest.mark.parametrize(
    ("limit", "act", "args", "others"),
    [
        ("sends_per_user", "send", ("ann", "c-1", 0.0), ("ben", "c-1", 0.0)),
        ("sends_per_user", "recall", ("ann",), ("ben",)),
        ("sends_per_conversation", "send", ("ann", "c-1", 0.0), ("ann", "c-2", 0.0)),
        ("events_per_user", "event", ("ann", 0.0), ("ben", 0.0)),
        ("requests_per_user", "request", ("ann",), ("ben",)),
        ("logins_per_user", "login", ("ann",), ("ben",)),
        ("new_devices_per_user", "new_device", ("ann",), ("ben",)),
        ("conversations_created_per_user", "create", ("ann", ["ann"]), ("ben", ["ben"])),
        ("members_added_per_user", "add", ("ann", ["ann", "ben"]), ("cat", ["ben"])),
        ("added_per_user", "add", ("ann", ["ben"]), ("ann", ["cat"])),
    ],
)
def test_each_rate_stops_its_own_and_nobody_else(
    limit: str, act: str, args: tuple[Any, ...], others: tuple[Any, ...]
) -> None:
    it = allowance(**{limit: SLOW})
    waits = [refused(getattr(it, act), *args) for _ in range(3)]

    assert waits == [0.0, 0.0, pytest.approx(10)]
    assert refused(getattr(it, act), *others) == 0.0


def test_typing_is_limited_in_one_conversation_and_in_all_together() -> None:
    it = allowance(typing_per_user=SLOW)

    assert refused(it.typing, "ann", "c-1") == 0.0
    assert refused(it.typing, "ann", "c-1") == pytest.approx(3)
    assert refused(it.typing, "ann", "c-2") == 0.0
    assert refused(it.typing, "ann", "c-3") == pytest.approx(10)
    assert refused(it.typing, "ben", "c-1") == 0.0


def test_what_one_rate_refuses_counts_for_none() -> None:
    it = allowance(sends_per_user=Rate(0.1, 2), sends_per_conversation=Rate(0.1, 1))
    it.send("ben", "c-1", 0.0)

    assert refused(it.send, "ann", "c-1", 0.0) == pytest.approx(10)
    assert [refused(it.send, "ann", f"c-{number}", 0.0) for number in (2, 3)] == [0.0, 0.0]


def test_what_was_not_created_is_given_back() -> None:
    it = allowance(conversations_created_per_user=Rate(0.1, 1), added_per_user=Rate(0.1, 1))
    for _ in range(5):
        it.create("ann", ["ann", "ben"])
        it.not_created("ann", ["ann", "ben"])
    it.create("ann", ["ann", "ben"])

    assert refused(it.create, "ann", ["ann"]) == pytest.approx(10)
    assert refused(it.add, "cat", ["ben"]) == pytest.approx(10)


def test_a_refused_addition_names_the_longest_wait_and_counts_for_nobody() -> None:
    it = allowance(members_added_per_user=Rate(1, 3), added_per_user=Rate(0.1, 1))
    it.add("ann", ["ben", "cat"])

    assert refused(it.add, "ann", ["ben", "dan"]) == pytest.approx(10)
    assert refused(it.add, "ann", ["dan"]) == 0.0


def test_without_limits_everything_goes() -> None:
    it = allowance()
    for _ in range(5_000):
        it.send("ann", "c-1", 0.0)
        it.event("ann", 0.0)
        it.create("ann", ["ben"])


def test_who_goes_on_at_twice_the_rate_is_noticed() -> None:
    it = allowance(events_per_user=SLOW)

    assert [it.goes_on("ann") for _ in range(3)] == [False, False, True]
