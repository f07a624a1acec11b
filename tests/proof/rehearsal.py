"""Shows, before a run is believed, that the checker bites: histories in which something is spoilt, each found."""

from __future__ import annotations

from .checker import check
from .histories import play
from .scene import RECALL_WINDOW_MS
from .spoilt import SPOILT


def not_found() -> list[str]:
    """What was spoilt and not found first, in words; takes a second or two."""
    return [name for name in SPOILT if not _finds(name)]


def _finds(name: str) -> bool:
    number, spoil = SPOILT[name]
    history = play("office")
    spoil(history)
    verdict = check(history, recall_window_ms=RECALL_WINDOW_MS)
    return bool(verdict.violations) and verdict.violations[0].invariant == number
