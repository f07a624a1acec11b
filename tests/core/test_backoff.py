"""Waits between tries: jittered, bounded, and only ever lengthened by what a server asks for."""

from __future__ import annotations

import pytest

from chatkit.core.backoff import next_delay, retry_after_in


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "wanted_s"),
    [
        (1, None, 0.25),
        (4, None, 2.0),
        (99, None, 15.0),
        (1, 4.0, 5.0),
        (99, 4.0, 15.0),  # the backoff goes on where the server asks for little
        (20, 0.0, 15.0),  # 0 does not switch it off
        (1, 1e9, 375.0),  # and no server sends a client away for good
    ],
)
def test_the_wait_is_the_greater_of_backoff_and_what_the_server_asks_for(
    attempt: int, retry_after_s: float | None, wanted_s: float
) -> None:
    assert next_delay(attempt, 0.5, retry_after_s, base_s=0.5, max_s=30) == wanted_s


@pytest.mark.parametrize(
    ("header", "wanted_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("9" * 400, 300.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_a_retry_after_header_counts_where_it_says_seconds(header: str, wanted_s: float | None) -> None:
    assert retry_after_in(header) == wanted_s
