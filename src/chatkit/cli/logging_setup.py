"""How the commands log: one line for each record whatever is in it, as text or JSON, and repeats at a bounded rate.

The library itself logs plainly, by the standard library, and is set up by its host. Nothing that it logs holds a
message's words or a token.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Hashable
from typing import Any, Final, Literal, TextIO

import click

from .._log_repeats import RepeatFilter
from .._one_line import one_line
from .utc import utc_to_ms

LogFormat = Literal["text", "json"]
LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")

REPEATS_MAX: Final = 5
REPEATS_S: Final = 10.0
"""So many warnings or errors of a kind are logged in so many seconds; the others are counted."""


log_format_option = click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(FORMATS),
    help="text, or json: an object a line.",
)


_TEMPLATE_CHARS: Final = 200
"""Of a template that tell kinds apart."""


class TextFormatter(logging.Formatter):
    """`2026-11-29 12:00:00,000 WARNING chatkit.server.access words`, with a traceback at its end, escaped.

    Args:
        process: Which of several server processes this is, said before the words: `[process 2]`; None: there is one.
    """

    def __init__(self, process: int | None = None) -> None:
        which = "" if process is None else f"[process {process}] "
        super().__init__(f"%(asctime)s %(levelname)s %(name)s {which}%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return one_line(super().format(record) + _left_out(record))


class JsonFormatter(logging.Formatter):
    """An object in ASCII: time (UTC), level, logger, node, event, template; exception and stack where there are some.

    `event` is the line that the text format has; `template` is the same without what differs from one time to the
    next, to count or to look for.

    Args:
        node: Names this process among others.
        process: Which of several server processes this is, as a field of its own; None: there is one.
    """

    def __init__(self, node: str, process: int | None = None) -> None:
        super().__init__()
        self._node = node
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "node": self._node,
            **self._process,
            "event": record.getMessage() + _left_out(record),
            "template": str(record.msg),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps(fields)


class OneLineHandler(logging.StreamHandler[TextIO]):
    """Writes a line for each record, limits repeats, and says how many were left out when their while has ended."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._repeats = RepeatFilter(_kind_of, burst=REPEATS_MAX, every_s=REPEATS_S)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it unless it repeats, and what is due to be said of others. Only here the handler's lock is held."""
        try:
            passes = self._repeats.filter(record)
        except Exception:  # of whoever made the record: its words cannot be had
            self.handleError(record)
            return
        if passes:
            super().emit(record)
        self._say_left_out(record.created)

    def close(self) -> None:
        """Say what is left to be said."""
        self._say_left_out(float("inf"))
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """A record that cannot be formatted is named in one line, where the standard library prints what is in it.

        Of a stream that is closed, or that nobody reads any more, nothing can be said.
        """
        error = sys.exc_info()[1]
        if isinstance(error, OSError) or self.stream.closed:
            return
        where = f"{record.name}:{record.lineno}"
        super().emit(
            _own_record("chatkit.cli", f"a record of {where} cannot be formatted: {type(error).__name__}")
        )

    def _say_left_out(self, now_s: float) -> None:
        for kind, count in self._repeats.take_left_out(now_s):
            assert isinstance(kind, tuple)
            name, _, template, *_ = kind
            super().emit(_own_record(name, f"{count} more like this were left out: {template}"))


def set_up_logging(
    level: str, log_format: LogFormat = "text", stream: TextIO | None = None, process: int | None = None
) -> None:
    """Our own words at the level asked for; of the libraries below, which log addresses and frames, only trouble.

    Args:
        level: One of `LEVELS`.
        log_format: One of `FORMATS`.
        stream: Where to; None: standard error.
        process: Which of several server processes this is, set up anew after its parent; None: there is one.
    """
    formatters: dict[LogFormat, Callable[[], logging.Formatter]] = {
        "text": lambda: TextFormatter(process),
        "json": lambda: JsonFormatter(f"{socket.gethostname()}:{os.getpid()}", process),
    }
    root = logging.getLogger()
    if process is not None:
        root.handlers = [it for it in root.handlers if not isinstance(it, OneLineHandler)]  # the parent's
    if not root.handlers:  # else a host, or a test, has set it up
        root.addHandler(OneLineHandler(stream or sys.stderr, formatters[log_format]()))
        root.setLevel("WARNING")
    logging.getLogger("chatkit").setLevel(level.upper())


def _kind_of(record: logging.LogRecord) -> Hashable | None:
    """Warnings and errors are of a kind if they come from the same place, for the same sort of error."""
    if record.levelno < logging.WARNING:
        return None
    error = record.exc_info[0] if record.exc_info else None
    return record.name, record.levelno, str(record.msg)[:_TEMPLATE_CHARS], error


def _left_out(record: logging.LogRecord) -> str:
    count = getattr(record, "left_out", 0)
    return f" ({count} more like it were left out)" if count else ""


def _own_record(name: str, words: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, __file__, 0, "%s", (words,), None)


def _utc(record: logging.LogRecord) -> str:
    return utc_to_ms(int(record.created * 1000)).replace(" ", "T")
