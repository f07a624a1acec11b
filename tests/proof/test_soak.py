"""What the samples of a soak come to, and a short soak: a few clients for a few seconds on a real server."""

from __future__ import annotations

import pytest

from chatkit.core.rate_limit import Rate
from chatkit.server.limits import Limits

from .soak import __main__ as command
from .soak import load
from .soak.figures import JUDGED_FROM_S, Sample, findings, growth, slope_an_hour, table
from .soak.server import without_limits

NOTHING = {
    "rss_mib": 50.0,
    "sqlite_mib": 0.0,
    "descriptors": 20,
    "tasks": 10,
    "sessions": 0,
    "audiences": 0,
    "queue_bytes": 0,
}


def samples(rss_an_hour: float, lasted_s: float = JUDGED_FROM_S) -> list[Sample]:
    """Ten of them; the memory is 100 MiB at the beginning and grows so much an hour."""
    times = [lasted_s * part / 9 for part in range(10)]
    return [Sample(at_s, NOTHING | {"rss_mib": 100 + rss_an_hour * at_s / 3600}) for at_s in times]


def test_a_slope_is_by_the_hour() -> None:
    assert slope_an_hour(samples(6.0), "rss_mib") == pytest.approx(6.0)
    assert slope_an_hour(samples(6.0), "tasks") == 0
    assert slope_an_hour(samples(6.0)[:1], "rss_mib") == 0
    assert growth(samples(6.0))["rss_mib"] == pytest.approx(600 / 101)


def test_memory_that_grows_is_found_once_it_was_watched_for_long() -> None:
    assert findings(NOTHING, samples(4.0), NOTHING) == []
    assert findings(NOTHING, samples(60.0, JUDGED_FROM_S - 1), NOTHING) == []
    (found,) = findings(NOTHING, samples(6.0), NOTHING)
    assert found == "the memory grew by 5.9 % an hour, and 5 % is the most"


def test_what_sqlite_holds_has_a_bound_of_its_own() -> None:
    full = [Sample(it.at_s, it.held | {"rss_mib": 200, "sqlite_mib": 60.0}) for it in samples(0.0)]
    assert findings(NOTHING, full, NOTHING) == ["SQLite held 60 MiB, and 48 is the most"]


@pytest.mark.parametrize("name", ["descriptors", "tasks", "sessions", "audiences", "queue_bytes"])
def test_what_does_not_come_back_is_found(name: str) -> None:
    after = NOTHING | {name: NOTHING[name] + 1}
    (found,) = findings(NOTHING, samples(0.0), after)
    assert found == f"{name}: {NOTHING[name]:g} before, {after[name]:g} after everybody has left"


def test_the_table_ends_with_the_last_sample() -> None:
    lines = table(samples(0.0), rows=3).splitlines()
    assert lines[0].split() == ["second", *NOTHING]
    assert lines[-1].split()[0] == f"{JUDGED_FROM_S:.0f}"
    assert len(lines) == 5


def test_no_limit_of_one_peer_stops_a_soak() -> None:
    limits = without_limits()
    for name in limits.__struct_fields__:
        value = getattr(limits, name)
        assert value is None or value >= getattr(Limits(), name)
        assert not isinstance(value, Rate)


def test_a_short_soak_holds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "LEFT_S", 0.5)
    monkeypatch.setattr(load, "PROCESSES", 1)
    arguments = ["--hours", str(2 / 3600), "--clients", "10", "--rate", "20", "--every", "0.3"]

    assert command.main(arguments) == 0
    told = capsys.readouterr().out
    assert "messages sent" in told
    assert "every log is whole" in told
