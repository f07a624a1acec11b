"""One line a while for each kind of refusal, at level info: who is refused most cannot fill a disk with lines."""

from __future__ import annotations

import logging
from math import inf
from typing import Final

from ..errors import RefusedError

EVERY_S: Final = 10.0
"""Least time between two lines of the same kind."""


class _OneOfAKind(logging.Filter):
    """Passes the first record of each kind (its first argument) in a while, with the number of those left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        assert isinstance(record.args, tuple)
        kind = record.args[0]
        last_s, left_out = self._seen.get(kind, (-inf, 0))
        if 0 <= record.created - last_s < EVERY_S:
            self._seen[kind] = (last_s, left_out + 1)
            return False
        self._seen[kind] = (record.created, 0)
        record.args = (*record.args, left_out)
        return True


logger = logging.getLogger(__name__)
logger.addFilter(_OneOfAKind())


def log_refusal(error: RefusedError, who: str) -> None:
    """Say that a request was refused; the words of the error, which may quote what was sent, stay out.

    Args:
        error: Its code is the kind.
        who: Whose request it was.
    """
    logger.info("refused with %s: %s (%d more like it since the last such line)", error.code, who)
