"""How many files are on the way at the same time, in all and of one user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ...errors import OverloadedError, RateLimitedError

_RETRY_AFTER_S: Final = 2.0


class Transfers:
    """Counts transfers, and refuses what is one too many.

    Args:
        total: At the same time.
        per_user: Of one user.
    """

    def __init__(self, total: int, per_user: int) -> None:
        self._total, self._per_user = total, per_user
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are under way."""
        return self._of.total()

    @contextmanager
    def one(self, user_id: str) -> Iterator[None]:
        """A transfer. Raises OverloadedError or RateLimitedError; a retry is safe."""
        if len(self) >= self._total:
            raise OverloadedError("too many files are on the way", retry_after_s=_RETRY_AFTER_S)
        if self._of[user_id] >= self._per_user:
            raise RateLimitedError("too many files of this user are on the way", retry_after_s=_RETRY_AFTER_S)
        self._of[user_id] += 1
        try:
            yield
        finally:
            self._of[user_id] -= 1
            if not self._of[user_id]:
                del self._of[user_id]
