"""The filter that counts repeats has a bound, whatever kinds there are."""

from __future__ import annotations

import logging

from chatkit._log_repeats import KINDS_MAX, RepeatFilter


def record(words: str, created: float = 0.0) -> logging.LogRecord:
    made = logging.LogRecord("n", logging.WARNING, "", 0, words, None, None)
    made.created = created
    return made


def test_kinds_are_forgotten_beyond_a_bound_those_seen_longest_ago_first() -> None:
    repeats = RepeatFilter(lambda it: it.msg, burst=1, every_s=10)
    for number in range(KINDS_MAX):
        assert repeats.filter(record(f"kind {number}"))
    assert not repeats.filter(record("kind 0")), "it is known, and the newest now"
    assert repeats.filter(record("another one"))

    assert not repeats.filter(record("kind 0"))
    assert repeats.filter(record("kind 1")), "it was forgotten"


def test_what_has_no_kind_always_passes() -> None:
    repeats = RepeatFilter(lambda _: None, burst=1, every_s=10)
    assert all(repeats.filter(record("x")) for _ in range(9))


def test_what_was_left_out_is_said_once_and_after_its_while() -> None:
    repeats = RepeatFilter(lambda it: it.msg, burst=1, every_s=10)
    for _ in range(3):
        repeats.filter(record("x", 100.0))
    assert list(repeats.take_left_out(109.0)) == []
    assert list(repeats.take_left_out(110.0)) == [("x", 2)]
    assert list(repeats.take_left_out(120.0)) == []
