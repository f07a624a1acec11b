"""Times of other systems as Unix milliseconds."""

from __future__ import annotations

import pytest

from chatkit.errors import ConfigurationError
from chatkit.importing.times import Zone, checked_ms, iso_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2019-04-14T23:54:42.74+00:00", 1555286082740),
        ("2019-04-14T23:54:42.7401234+00:00", 1555286082740),
        ("2019-04-15T01:54:42.740+02:00", 1555286082740),
        ("2019-04-14T20:24:42.740-0330", 1555286082740),
        ("2019-04-14T23:54:42Z", 1555286082000),
        ("2019-04-14 23:54:42", 1555286082000),
        ("2019-04-14T23:54", 1555286040000),
    ],
)
def test_any_offset_and_any_number_of_digits(text: str, ms: int) -> None:
    assert iso_ms(text, Zone()) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2019-13-01T00:00:00Z", "2019-01-01T25:00:00", "2019-04-14T23:54:42.1x"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whoever calls says where
        iso_ms(text, Zone())


def test_a_time_without_an_offset_is_in_the_zone_also_on_the_day_when_its_clock_is_moved() -> None:
    berlin = Zone("Europe/Berlin")

    assert iso_ms("2024-07-01T12:00:00", berlin) == iso_ms("2024-07-01T10:00:00Z", berlin)
    assert iso_ms("2024-03-31T12:00:00", berlin) == iso_ms("2024-03-31T10:00:00Z", berlin)
    assert iso_ms("2024-03-31T01:00:00", berlin) == iso_ms("2024-03-31T00:00:00Z", berlin)
    assert iso_ms("2024-10-27T02:30:00", berlin) == iso_ms("2024-10-27T00:30:00Z", berlin)  # of two the first


@pytest.mark.parametrize("name", ["Nowhere/Place", "", "../../etc/passwd", "\x00"])
def test_a_zone_that_there_is_not(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Zone(name)


@pytest.mark.parametrize("ms", [-1, 10**18])
def test_times_that_nobody_could_have_meant(ms: int) -> None:
    with pytest.raises(ValueError, match="1970"):
        checked_ms(ms)
