"""What a simulated bot raises alarm over: taken again, out of order, an attempt that does not count."""

from __future__ import annotations

import pytest

from chatkit.client.events import Delivery, MessageReceived
from chatkit.client.store.memory import MemoryStore
from chatkit.testing.contracts.local_store import change, message
from chatkit.testing.rng import Rng

from .simulation.bot import Bot, HandlerCrashError


def given(seq: int, attempt: int = 1) -> Delivery:
    return Delivery(MessageReceived(message(seq)), attempt, "c-1", "e1", seq)


def bot(crash_share: float = 0.0) -> tuple[Bot, list[str]]:
    alarms: list[str] = []
    return Bot("bot", Rng(1).stream("bot"), crash_share, alarms.append), alarms


def test_what_was_taken_may_come_again_only_where_it_may_have_been_killed_over_it() -> None:
    it, alarms = bot()
    assert [it.handle(given(seq)) for seq in (1, 2)] == [True, True]
    it.started()
    assert (it.handle(given(2)), alarms) == (False, [])
    it.handle(given(1))
    assert "given ('c-1', 1) again" in alarms[0]


def test_an_entry_after_a_later_one_is_out_of_order() -> None:
    it, alarms = bot()
    it.handle(given(2))
    it.handle(given(1))
    assert "after seq 2" in alarms[0]


def test_an_attempt_that_is_not_counted_is_noticed() -> None:
    it, alarms = bot(crash_share=1.0)
    for attempt in (1, 1):
        with pytest.raises(HandlerCrashError):
            it.handle(given(1, attempt))
    assert "as attempt 1 again" in alarms[0]


def test_what_was_not_handled_is_missing_at_the_end() -> None:
    it, _ = bot()
    store = MemoryStore()
    store.save([change(0, floor=0)])
    store.save([change(2, message(1), message(2))])
    it.handle(given(1))
    assert not it.has_handled("u-1", store, "c-1")
    it.handle(given(2))
    assert it.has_handled("u-1", store, "c-1")
