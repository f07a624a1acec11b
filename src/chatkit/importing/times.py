"""Times of other systems, as Unix milliseconds. Nobody is asked what time it is."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigurationError

_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?(Z|[+-]\d\d(?::?\d\d)?)?\Z"
)
_LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""


class Zone:
    """A time zone by its name, such as Europe/Berlin: what a clock on the wall there shows, as Unix milliseconds.

    In the hour that a zone has twice, the first one is meant; one that it leaves out is read as if the clock had not
    been moved yet.

    Attributes:
        was_used: Whether anything was read in it: with another zone that would be other times.

    Raises:
        ConfigurationError: There is no such zone.
    """

    def __init__(self, name: str = "UTC") -> None:
        try:
            self._zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"there is no time zone {name!r}; one is named like Europe/Berlin"
            ) from None
        self.name = name
        self.was_used = False
        self._midnight_ms = lru_cache(64)(self._find_midnight_ms)

    def ms(self, year: int, month: int, day: int, hour: int, minute: int, second: int = 0) -> int:
        """Unix milliseconds. Raises ValueError if there is no such day or hour."""
        if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 60):
            raise ValueError("no such time of day")
        self.was_used = True
        midnight_ms = self._midnight_ms(year, month, day)
        if midnight_ms is not None:
            return midnight_ms + ((hour * 60 + minute) * 60 + second) * 1000
        at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=self._zone)
        return _unix_ms(at, 0)

    def _find_midnight_ms(self, year: int, month: int, day: int) -> int | None:
        """Of a day whose clock is not moved; None of another one."""
        first = datetime(year, month, day, tzinfo=self._zone)
        last = datetime(year, month, day, 23, 59, tzinfo=self._zone)
        return _unix_ms(first, 0) if first.utcoffset() == last.utcoffset() else None


def iso_ms(text: str, zone: Zone) -> int:
    """A time such as 2024-02-29T12:00:00.123+02:00, with any number of digits; without an offset it is in the zone.

    Raises:
        ValueError: It is none.
    """
    found = _ISO.match(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time")
    year, month, day, hour, minute, second = (int(it or 0) for it in found.groups()[:6])
    fraction_ms = int(((found[7] or "") + "000")[:3])
    if found[8] is None:
        return zone.ms(year, month, day, hour, minute, second) + fraction_ms
    at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone(_offset(found[8])))
    return _unix_ms(at, fraction_ms)


def _offset(text: str) -> timedelta:
    if text == "Z":
        return timedelta()
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return timedelta(minutes=-minutes if text[0] == "-" else minutes)


def _unix_ms(at: datetime, fraction_ms: int) -> int:
    return round(at.timestamp()) * 1000 + fraction_ms


def is_storable(at_ms: float) -> bool:
    """Whether it is a time from 1970 to the year 9999."""
    return 0 <= at_ms <= _LATEST_MS


def checked_ms(at_ms: float) -> int:
    """A time that can be stored. Raises ValueError: before 1970, or after the year 9999."""
    if not is_storable(at_ms):
        raise ValueError("the time is before 1970 or after 9999")
    return int(at_ms)
