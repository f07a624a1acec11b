"""Closes that take their time; they began with the first test of the session and are only collected here."""

from __future__ import annotations

from .late import LATE_S, LateCloses


def test_no_hello_within_ten_seconds_closes_4200(late_closes: LateCloses) -> None:
    ended = late_closes.silent.result(LATE_S)
    assert ended.code == 4200
    assert "WELCOME" not in [event.name for event in ended.inbox]


def test_end_of_the_login_closes_4100_and_was_announced(late_closes: LateCloses) -> None:
    ended = late_closes.expired.result(LATE_S)
    assert ended.code == 4100
    assert "TOKEN_EXPIRING" in [event.name for event in ended.inbox]


def test_a_renewed_login_outlives_the_end_of_the_old_one(late_closes: LateCloses) -> None:
    assert late_closes.expired.result(LATE_S).survivor is not None


def test_websocket_pings_are_no_sign_of_life_and_two_heartbeats_without_one_close_4001(
    late_closes: LateCloses,
) -> None:
    ended = late_closes.mute.result(LATE_S)
    assert ended.code == 4001
    assert ended.inbox[0].name == "HEADS"
    assert late_closes.pings >= 3
