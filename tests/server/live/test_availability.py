"""The table of who is online, alone: at random, what is told is in the end what is so, and nothing is kept for ever."""

from __future__ import annotations

from random import Random

import pytest

from chatkit.server.live import availability
from chatkit.server.live.availability import EACH_S, OFFLINE_AFTER_S, Availability
from chatkit.types import PresenceState

USERS = ("ann", "ben", "cat")
NODES = ("", "b", "c")
LEASE_S = 30.0


def tell(table: Availability, now_s: float, told: dict[str, PresenceState], limit: int = 100) -> None:
    for change in table.due(now_s, limit):
        assert change.state != told.get(change.user_id, "OFFLINE"), "nobody is told twice of the same"
        assert change.last_seen_ms is None or change.state == "OFFLINE"
        told[change.user_id] = change.state
        table.announced(change, now_s)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_told_is_in_the_end_what_is_so(seed: int) -> None:
    rng, table, now_s = Random(seed), Availability(), 0.0
    told: dict[str, PresenceState] = {}
    there: dict[tuple[str, str], tuple[bool, float]] = {}
    for _ in range(400):
        now_s += rng.choice((0.1, 1.0, 7.0))
        place = rng.choice(USERS), rng.choice(NODES)
        if rng.random() < 0.6:
            there[place] = rng.random() < 0.5, now_s + LEASE_S
            table.here(place[1], place[0], away=there[place][0], until_s=there[place][1])
        else:
            there.pop(place, None)
            table.gone(place[1], place[0], now_s, int(now_s))
        if rng.random() < 0.5:
            table.expire(now_s, int(now_s))
            there = {at: value for at, value in there.items() if value[1] > now_s}
        tell(table, now_s, told, limit=rng.choice((1, 100)))
    table.expire(now_s, int(now_s))
    there = {at: value for at, value in there.items() if value[1] > now_s}
    for _ in USERS:
        now_s += OFFLINE_AFTER_S + EACH_S
        tell(table, now_s, told)

    for user in USERS:
        aways = [away for (name, _), (away, _) in there.items() if name == user]
        wanted = "OFFLINE" if not aways else "AWAY" if all(aways) else "ONLINE"
        assert (user, told.get(user, "OFFLINE"), table.state(user)) == (user, wanted, wanted)


def test_nothing_is_kept_of_who_is_gone_but_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(availability, "_GONE_MAX", 3)
    table, told = Availability(), dict[str, PresenceState]()
    for number in range(10):
        table.here("", f"u-{number}", away=False)
    tell(table, 0.0, told)
    for number in range(10):
        table.gone("", f"u-{number}", 100.0, 100 + number)
    tell(table, 100.0 + OFFLINE_AFTER_S, told)
    table.due(1_000.0, 1)

    assert set(told.values()) == {"OFFLINE"}
    assert [table.last_seen_ms(f"u-{number}") for number in (0, 6, 7, 9)] == [None, None, 107, 109]
    kept = [table._places, table._announced, table._announced_at_s, table._open]
    assert [len(it) for it in kept] == [0, 0, 0, 0]


def test_what_is_not_told_now_is_told_later() -> None:
    table = Availability()
    for user in USERS:
        table.here("", user, away=False)
    first = table.due(0.0, 2)
    assert [it.user_id for it in first] == ["ann", "ben"]
    assert table.due(0.0, 2) == first, "until it is told"
    for change in first:
        table.announced(change, 0.0)
    assert [it.user_id for it in table.due(0.0, 2)] == ["cat"]
