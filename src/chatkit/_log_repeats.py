"""Log records that repeat: the first few of a kind pass in a while, the others are counted.

A plain filter of the standard library. Used by `server.refusal_log`, and by the commands for everything that they log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from math import inf
from typing import Final

KINDS_MAX: Final = 1_000
"""Kinds that are remembered; beyond it the one seen longest ago is forgotten, with its count."""


class _Seen:
    """One kind: since when, how many have passed, and how many have not."""

    __slots__ = ("began_s", "left_out", "passed")

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.passed = self.left_out = 0


class RepeatFilter(logging.Filter):
    """Passes at most `burst` records of a kind in `every_s`; each that passes gets `left_out`.

    That attribute is how many of its kind were left out before it, since the last one that passed. Clocks that are set
    back begin a new while.

    Args:
        kind_of: What a record's kind is; None: it passes whatever was before it.
        burst: How many pass.
        every_s: In how many seconds.
    """

    def __init__(
        self, kind_of: Callable[[logging.LogRecord], Hashable | None], *, burst: int, every_s: float
    ) -> None:
        super().__init__()
        self._kind_of = kind_of
        self._burst = burst
        self._every_s = every_s
        self._seen: dict[Hashable, _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        record.left_out = 0
        kind = self._kind_of(record)
        if kind is None:
            return True
        seen = self._seen.pop(kind, None) or _Seen(-inf)
        self._seen[kind] = seen  # the newest is the last
        if len(self._seen) > KINDS_MAX:
            del self._seen[next(iter(self._seen))]
        if not 0 <= record.created - seen.began_s < self._every_s:
            record.left_out, seen.began_s = seen.left_out, record.created
            seen.passed = seen.left_out = 0
        if seen.passed >= self._burst:
            seen.left_out += 1
            return False
        seen.passed += 1
        return True

    def take_left_out(self, now_s: float) -> Iterator[tuple[Hashable, int]]:
        """Kinds of which records were left out in a while that has ended, and how many; each is said once."""
        for kind, seen in self._seen.items():
            if seen.left_out and not 0 <= now_s - seen.began_s < self._every_s:
                count, seen.left_out = seen.left_out, 0
                yield kind, count
