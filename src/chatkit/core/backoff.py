"""How long to wait before the next try: full jitter, bounded, and never shorter than the server asked for."""

from __future__ import annotations

RETRY_AFTER_MAX_S = 300.0
"""The longest wait that a server can ask for. It is spread like any other, so up to half of it is added."""


def retry_after_of(retry_after_ms: object) -> float | None:
    """Seconds that a server asked to wait, from its milliseconds; None if it sent no whole number.

    The number comes from outside and may have any size: the result is 0 to `RETRY_AFTER_MAX_S`.
    """
    if not isinstance(retry_after_ms, int):
        return None
    return min(max(retry_after_ms, 0), round(RETRY_AFTER_MAX_S * 1000)) / 1000


def retry_after_in(header: str) -> float | None:
    """Seconds that a `Retry-After` header asks to wait, at most `RETRY_AFTER_MAX_S`; None for a date, and for none."""
    return min(float(header), RETRY_AFTER_MAX_S) if header.isascii() and header.isdigit() else None


def next_delay(
    attempt: int,
    jitter: float,
    retry_after_s: float | None = None,
    *,
    base_s: float,
    max_s: float,
    retry_after_max_s: float = RETRY_AFTER_MAX_S,
) -> float:
    """Seconds to wait before the next try.

    Args:
        attempt: Tries that failed so far, from 1.
        jitter: A random number in [0, 1).
        retry_after_s: What the server asked for; the wait is never shorter (up to `retry_after_max_s`), and up to half
            of it longer. It can only lengthen the wait: with 0 the wait is the same as without it.
        base_s: Upper bound of the first wait; it doubles with each try.
        max_s: Upper bound of every wait that the server did not ask for.
        retry_after_max_s: The longest wait that a server can ask for.

    Source: full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    ceiling: float = min(max_s, base_s * 2 ** min(attempt - 1, 32))
    jittered_s = ceiling * jitter
    if retry_after_s is None:
        return jittered_s
    return max(min(retry_after_s, retry_after_max_s) * (1 + jitter / 2), jittered_s)
