"""IRC lines as messages: each line is one message, nicks have ids of their own, and nothing real is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit._demo.irc import LOG_USER_ID, Line, nick_to_user_id, parse_line, parse_log, user_id_to_nick
from chatkit.errors import ConfigurationError
from chatkit.wire.events import Id
from chatkit.wire.payload import canonical

REAL_LOGS = Path(__file__).parents[3] / "shared" / "data" / "ubuntu-irc"

nicks = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))


def custom(schema: str, data: dict[str, str], fallback: str) -> dict[str, Any]:
    return {"type": "CUSTOM", "schema": schema, "data": data, "fallbackText": fallback}


@given(nicks)
def test_a_nick_comes_back_from_its_id(nick: str) -> None:
    user_id = nick_to_user_id(nick)

    assert nick == user_id_to_nick(user_id)
    assert user_id == msgspec.convert(user_id, Id)


@given(nicks, nicks)
def test_different_nicks_have_different_ids(one: str, other: str) -> None:
    assert (one == other) == (nick_to_user_id(one) == nick_to_user_id(other))


@pytest.mark.parametrize(
    ("nick", "user_id"),
    [
        ("Matt|", "irc:Matt_7c"),
        ("brad[]", "irc:brad_5b_5d"),
        ("a_b-c", "irc:a_5fb-c"),
        ("{^`\\}", "irc:_7b_5e_60_5c_7d"),
        ("ü", "irc:_c3_bc"),
    ],
)
def test_ids_of_nicks(nick: str, user_id: str) -> None:
    assert user_id == nick_to_user_id(nick)


@pytest.mark.parametrize("nick", ["", "x" * 125, "|" * 42])
def test_a_nick_without_an_id(nick: str) -> None:
    with pytest.raises(ValueError, match="no user id"):
        nick_to_user_id(nick)


@pytest.mark.parametrize(
    "user_id", ["log", "irc:", "irc:a_", "irc:_7", "irc:_7C", "irc:_61", "irc:_ff", "irc:a.b", "IRC:a"]
)
def test_what_is_no_id_of_a_nick(user_id: str) -> None:
    with pytest.raises(ValueError, match=r"not the id of a nick|invalid start byte"):
        user_id_to_nick(user_id)


@pytest.mark.parametrize(
    ("line", "nick", "text"),
    [
        ("[12:18] <Matt|> |trey|, top in the list", "Matt|", "|trey|, top in the list"),
        ("[12:20] <brad[] > Hi", "brad[]", "Hi"),
        ("[12:15] <opteron>", "opteron", ""),
        ("[12:15] <opteron> ", "opteron", ""),
        ("[12:15] <a>  two spaces", "a", " two spaces"),
        ("[12:15] <a> * b waves", "a", "* b waves"),
        ("[12:15] <a> tab\tand \u2028 line", "a", "tab\tand \u2028 line"),
    ],
)
def test_what_somebody_says(line: str, nick: str, text: str) -> None:
    assert Line(nick_to_user_id(nick), "text", {"type": "TEXT", "text": text}) == parse_line(line)


@pytest.mark.parametrize(
    ("line", "nick", "action"),
    [
        ("[10:00]  * mrglinux prefer go on debian..", "mrglinux", "prefer go on debian.."),
        ("[07:09]  * homejoe", "homejoe", ""),
        ("=== Matt| scrolls up", "Matt|", "scrolls up"),
        ("=== epod has a notebook", "epod", "has a notebook"),
        ("=== a [b] has breakfast", "a", "[b] has breakfast"),
    ],
)
def test_what_somebody_does(line: str, nick: str, action: str) -> None:
    payload = custom("irc.action", {"action": action}, f"* {nick} {action}".rstrip())

    assert Line(nick_to_user_id(nick), "action", payload) == parse_line(line)


@pytest.mark.parametrize(
    ("line", "nick", "data"),
    [
        ("=== topyli [~juha@dsl.example]  has left #ubuntu []", "topyli", {"event": "left"}),
        ("=== tvon [tvon@dsl.example]  has joined #ubuntu", "tvon", {"event": "joined"}),
        ("=== a[b] [x@y]  has quit [Remote closed]", "a[b]", {"event": "quit"}),
        ("=== old| is now known as _new", "old|", {"event": "renamed", "to": "_new"}),
    ],
)
def test_what_happens_to_somebody(line: str, nick: str, data: dict[str, str]) -> None:
    payload = custom("irc.event", data, line.removeprefix("=== "))

    assert Line(nick_to_user_id(nick), "event", payload) == parse_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        "hello",
        "=== mode/#ubuntu [-b *!*@host]  by Seveas",
        "=== ..[topic/#ubuntu:Seveas] : Official Ubuntu Help channel",
        "=== Topic for #ubuntu: be nice",
        "[25] <a> b",
        "[12:15] < > b",
        f"[12:15] <{'|' * 60}> a nick that has no id",
    ],
)
def test_everything_else_is_sent_by_the_log(line: str) -> None:
    assert Line(LOG_USER_ID, "unknown", {"type": "TEXT", "text": line}) == parse_line(line)


@given(lines)
def test_whatever_stands_in_a_line_can_be_sent(line: str) -> None:
    parsed = parse_log(line + "\n")

    assert len(parsed) == 1
    assert canonical(parsed[0].payload)
    assert parsed[0].user_id == msgspec.convert(parsed[0].user_id, Id)


@given(st.lists(lines, min_size=1), st.booleans())
def test_every_line_is_one_message(written: list[str], ended: bool) -> None:
    text = "\n".join(written) + ("\n" if ended or written[-1] == "" else "")

    assert len(written) == len(parse_log(text))


def test_line_ends_of_other_systems_are_not_text() -> None:
    assert [line.payload for line in parse_log("[12:15] <a> b\r\n[12:16] <a> b\r\n")] == [
        {"type": "TEXT", "text": "b"}
    ] * 2


def test_a_nul_is_replaced() -> None:
    assert parse_log("[12:15] <a> b\x00c")[0].payload == {"type": "TEXT", "text": "b\ufffdc"}


@pytest.mark.parametrize("text", ["", "x" * 16_001, "a\n" + "x" * 20_000 + "\nb\n"])
def test_what_is_no_log(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no line|no chat log"):
        parse_log(text)


@pytest.mark.skipif(not REAL_LOGS.is_dir(), reason=f"the real logs are not at {REAL_LOGS}")
def test_real_logs_are_understood() -> None:
    logs = sorted(REAL_LOGS.glob("*.txt"))
    assert logs
    for log in logs:
        text = log.read_text(encoding="utf-8", errors="replace")
        parsed = parse_log(text)
        assert text.count("\n") == len(parsed)
        assert sum(line.kind == "unknown" for line in parsed) < 5
