"""Unix milliseconds as dates of UTC, and back, for people at a terminal. Nobody is asked what time it is."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(at_ms: int) -> datetime:
    """The date and time of Unix milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def utc_to_ms(at_ms: int) -> str:
    """The same to the millisecond, such as `2026-11-29 13:45:00.123Z`."""
    return f"{utc(at_ms):%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03}Z"


def ms_of(text: str) -> int:
    """Unix milliseconds of a date in ISO 8601; one that names no zone is of UTC. Raises ValueError if it is none."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
