"""How long to wait before the next try: full jitter, bounded, and the server's hint obeyed."""

from __future__ import annotations

HINT_MAX_S = 300.0
"""Most that a server's hint is believed; spread like any other hint, it is waited up to half of it more."""


def hint_of(hint_ms: object) -> float | None:
    """Seconds of what a server asked for in milliseconds: at least 0, at most `HINT_MAX_S`; None if it is no number.

    Whatever its size: the number comes from outside.
    """
    if not isinstance(hint_ms, int):
        return None
    return min(max(hint_ms, 0), round(HINT_MAX_S * 1000)) / 1000


def next_delay(
    attempt: int,
    chance: float,
    hint_s: float | None = None,
    *,
    base_s: float,
    max_s: float,
    hint_max_s: float = HINT_MAX_S,
) -> float:
    """Seconds to wait before try number `attempt`.

    Args:
        attempt: Tries that failed so far, from 1.
        chance: A random number in [0, 1).
        hint_s: What the server asked for; the wait is never shorter (up to `hint_max_s`), and spread over half of it
            more. It only lengthens the wait: a hint of 0 switches no backoff off.
        base_s: Upper bound of the first wait; it doubles with each try.
        max_s: Upper bound of every wait without a hint.
        hint_max_s: Greatest hint that counts.

    Source: full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    ceiling: float = min(max_s, base_s * 2 ** min(attempt - 1, 32))
    jittered_s = ceiling * chance
    if hint_s is None:
        return jittered_s
    return max(min(hint_s, hint_max_s) * (1 + chance / 2), jittered_s)
