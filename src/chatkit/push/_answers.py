"""What the answers of all providers have in common: how long to wait, and what a status means by itself."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from ._http import Answer
from .base import Refused, Result, Retry

BUSY = frozenset({408, 425, 429})


def retry_after_s(answer: Answer, now_ms: int) -> float:
    """Seconds that an answer asks to wait, by number or date; 0 where it does not ask, or what it says is neither."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now_ms / 1000)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def by_status(answer: Answer, now_ms: int, reason: str = "") -> Result:
    """What a status that is no success means by itself.

    Redirects are not followed, and count as a failure of the provider; so does what forbids us to push at all, which is
    mended at the host's side. Other refusals are about the push.
    """
    words = f"{answer.status} {reason}".strip()
    if answer.status in BUSY:
        return Retry(retry_after_s(answer, now_ms), words, failed=False)
    if answer.status in (401, 403, 407) or not 400 <= answer.status < 500:
        return Retry(retry_after_s(answer, now_ms), words)
    return Refused(words)
