"""How long to wait before the next try: full jitter, bounded, and the server's hint obeyed."""

from __future__ import annotations


def next_delay(
    attempt: int, chance: float, hint_s: float | None = None, *, base_s: float, max_s: float
) -> float:
    """Seconds to wait before try number `attempt`.

    Args:
        attempt: Tries that failed so far, from 1.
        chance: A random number in [0, 1).
        hint_s: What the server asked for; the wait is never shorter, and spread over half of it more.
        base_s: Upper bound of the first wait; it doubles with each try.
        max_s: Upper bound of every wait without a hint.

    Source: full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    if hint_s is not None:
        return hint_s * (1 + chance / 2)
    ceiling: float = min(max_s, base_s * 2 ** min(attempt - 1, 32))
    return ceiling * chance
