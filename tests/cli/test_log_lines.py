"""How the commands log: a line for each record whatever is in it, and repeats at a bounded rate."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit._one_line import one_line
from chatkit.cli.logging_setup import (
    REPEATS_MAX,
    REPEATS_S,
    JsonFormatter,
    OneLineHandler,
    TextFormatter,
)

FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {
    "text": TextFormatter,
    "json": lambda: JsonFormatter("host:7"),
}
_NAMES = count()


class Log:
    """A logger of its own, on a stream in memory, with a clock that is set by hand."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.handler = OneLineHandler(self.stream, formatter)
        self.now_s = 1_000_000.0
        self.name = f"tests.log_lines.{next(_NAMES)}"
        self.logger = logging.Logger(self.name)  # nobody else's: pytest sends what it captures as UTF-8
        self.logger.addHandler(self.handler)
        self.logger.addFilter(self._stamp)

    def _stamp(self, record: logging.LogRecord) -> bool:
        record.created, record.msecs = self.now_s, 0.0
        return True

    @property
    def lines(self) -> list[str]:
        written = self.stream.getvalue()
        assert not written or written.endswith("\n")
        return written.split("\n")[:-1]


@pytest.fixture(params=FORMATTERS)
def log(request: pytest.FixtureRequest) -> Log:
    return Log(FORMATTERS[request.param]())


@pytest.fixture
def text_log() -> Log:
    return Log(TextFormatter())


NASTY = (
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    'quote " and \\ backslash',
    "\u2028 \u2029 \x85 \x0b \x0c",
    "\u202egnp.exe",
    "\x00\x7f\x9b31m",
    "\ud800 half",
    "2026-01-01 00:00:00,000 ERROR chatkit forged",
)


@pytest.mark.parametrize("value", NASTY, ids=range(len(NASTY)))
def test_one_line_whatever_is_in_it(log: Log, value: str) -> None:
    log.logger.info("user %s came", value)

    (line,) = log.lines
    assert line.isprintable()
    assert line.splitlines() == [line]
    line.encode()


@given(st.text())
def test_nothing_unprintable_is_left_of_any_text(value: str) -> None:
    shown = one_line(value)
    assert shown.splitlines() in ([], [shown])
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in shown)
    shown.encode()


def test_what_is_printable_stays_as_it_is() -> None:
    assert one_line("Grüße, 你好 \\ 🎉") == "Grüße, 你好 \\ 🎉"


def test_an_exception_is_in_the_same_line(log: Log) -> None:
    try:
        raise ValueError("a\nforged line")
    except ValueError:
        log.logger.exception("it failed")

    (line,) = log.lines
    assert "Traceback" in line
    assert "ValueError: a\\nforged line" in line


def test_text_has_time_level_logger_and_words(text_log: Log) -> None:
    text_log.logger.warning("user %s", "ann")
    (line,) = text_log.lines
    date, time, rest = line.split(" ", 2)
    assert (date, rest) == ("1970-01-12", f"WARNING {text_log.name} user ann")
    assert time.endswith(":40,000")


def test_json_has_its_fields_in_ascii() -> None:
    log = Log(JsonFormatter("host:7"))
    log.logger.error("user %s — %d", "ann", 7, stack_info=True)

    (line,) = log.lines
    fields = json.loads(line)
    assert fields.pop("stack").startswith("Stack")
    assert fields == {
        "time": "1970-01-12T13:46:40.000Z",
        "level": "error",
        "logger": log.name,
        "node": "host:7",
        "event": "user ann — 7",
        "template": "user %s — %d",
    }
    assert line.isascii()


def test_a_record_that_cannot_be_formatted_is_named_and_not_shown(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("secret-canary",)
    log.handler.handle(logging.LogRecord(log.name, logging.WARNING, "", 7, "%s and %s", args, None))

    (line,) = log.lines
    assert "cannot be formatted: TypeError" in line
    assert "canary" not in line
    assert capsys.readouterr().err == ""


class Unsayable:
    """Has no words."""

    def __str__(self) -> str:
        raise RuntimeError("secret-canary")


def test_what_has_no_words_is_named_too(log: Log) -> None:
    log.logger.warning(Unsayable())

    (line,) = log.lines
    assert "cannot be formatted: RuntimeError" in line
    assert "canary" not in line


def test_a_stream_that_is_closed_takes_nothing_and_nobody_is_told(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.stream.close()
    log.logger.warning("nowhere")
    assert capsys.readouterr().err == ""


# --- repeats ---


def test_repeats_of_a_warning_are_counted_and_said_at_its_next_one(text_log: Log) -> None:
    for number in range(REPEATS_MAX + 7):
        text_log.logger.warning("storage refused: %s", number)
    assert len(text_log.lines) == REPEATS_MAX
    text_log.now_s += REPEATS_S
    text_log.logger.warning("storage refused: %s", "again")

    assert len(text_log.lines) == REPEATS_MAX + 1
    assert text_log.lines[-1].endswith("storage refused: again (7 more like it were left out)")
    text_log.logger.warning("storage refused: %s", "once more")
    assert text_log.lines[-1].endswith("once more")


def test_repeats_that_stop_are_said_with_the_next_line_of_anything(text_log: Log) -> None:
    for number in range(REPEATS_MAX + 3):
        text_log.logger.error("failed: %s", number)
    text_log.now_s += REPEATS_S
    text_log.logger.info("something else")

    assert text_log.lines[-2].endswith("something else")
    assert text_log.lines[-1].endswith(f"{text_log.name} 3 more like this were left out: failed: %s")
    text_log.logger.info("and else")
    assert len(text_log.lines) == REPEATS_MAX + 3


def test_what_was_left_out_is_said_at_the_end(text_log: Log) -> None:
    for number in range(REPEATS_MAX + 2):
        text_log.logger.error("failed: %s", number)
    text_log.handler.close()

    assert text_log.lines[-1].endswith("2 more like this were left out: failed: %s")


def test_a_kind_is_a_place_a_level_and_a_sort_of_error(text_log: Log) -> None:
    def fail(error: Exception) -> None:
        try:
            raise error
        except Exception:
            text_log.logger.exception("failed")

    for _ in range(REPEATS_MAX + 1):
        fail(ValueError())
        fail(KeyError())
        text_log.logger.warning("failed")
    assert len(text_log.lines) == 3 * REPEATS_MAX


def test_what_is_no_warning_is_never_left_out(text_log: Log) -> None:
    for number in range(100):
        text_log.logger.info("user %s logged in", number)
    assert len(text_log.lines) == 100


def test_a_clock_that_was_set_back_leaves_nothing_out_for_long(text_log: Log) -> None:
    for _ in range(REPEATS_MAX + 1):
        text_log.logger.warning("failed")
    text_log.now_s -= 3_600
    text_log.logger.warning("failed")
    assert text_log.lines[-1].endswith("failed (1 more like it were left out)")
