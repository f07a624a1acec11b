"""One line a while for each kind of refusal, at level info: who is refused most cannot fill a disk with lines."""

from __future__ import annotations

import logging
from typing import Final

from .._log_repeats import RepeatFilter
from ..errors import RefusedError

EVERY_S: Final = 10.0
"""Least time between two lines of the same kind."""


def _kind_of(record: logging.LogRecord) -> object:
    """Its first argument."""
    assert isinstance(record.args, tuple)
    return record.args[0]


class _SaysLeftOut(RepeatFilter):
    """Passes the first record of each kind in a while, with the number of those left out as its last argument."""

    def filter(self, record: logging.LogRecord) -> bool:
        passes = super().filter(record)
        if passes:
            assert isinstance(record.args, tuple)
            record.args = (*record.args, record.__dict__["left_out"])
        return passes


logger = logging.getLogger(__name__)
logger.addFilter(_SaysLeftOut(_kind_of, burst=1, every_s=EVERY_S))


def log_refusal(error: RefusedError, who: str) -> None:
    """Say that a request was refused; the words of the error, which may quote what was sent, stay out.

    Args:
        error: Its code is the kind.
        who: Whose request it was.
    """
    logger.info("refused with %s: %s (%d more like it since the last such line)", error.code, who)
