"""How things read, whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.client.outbox import PendingMessage
from chatkit.terminal.words import LINES_MAX, TEXT_MAX, brief, clock, conversation_row, plain, rows_of
from chatkit.types import ConversationSummary, Message

UNPRINTABLE = {
    chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F))
}


def entry(payload: dict[str, Any], seq: int = 1, sender: str = "bob") -> Message:
    """A message of bob."""
    return Message("c-1", seq, f"m-{seq}", sender, 0, payload)


def read(*messages: Message) -> str:
    """As ann reads them."""
    return "\n".join(str(content) for _, content in rows_of(messages, "ann", {}, []))


def test_a_title_is_told_and_a_pin_is_not() -> None:
    assert 'bob called it "Tea"' in read(entry({"type": "TITLE", "title": "Tea"}))
    both = read(entry({"type": "TITLE", "title": "Tea", "description": "at\nfour"}, sender="ann"))
    assert 'you called it "Tea" and described it: "at four"' in both
    assert "took away" in read(entry({"type": "TITLE", "title": ""}))
    assert read(entry({"type": "PINNED", "messageId": "m-1", "seq": 1, "pinned": True}, seq=2)) == ""


@given(st.text())
def test_nothing_unprintable_is_left(text: str) -> None:
    assert not UNPRINTABLE & set(read(entry({"type": "TITLE", "title": text, "description": text})))
    assert not UNPRINTABLE & (set(plain(text)) - {"\n"})
    assert not UNPRINTABLE & set(brief(text))
    assert not UNPRINTABLE & (set(read(entry({"type": "TEXT", "text": text}))) - {"\n"})


def test_a_very_long_message_is_cut_and_says_so() -> None:
    assert plain("x" * (TEXT_MAX + 1_234)).endswith("x\n… (1,234 characters more)")
    assert plain("x\n" * (LINES_MAX + 1)).count("\n") == LINES_MAX
    assert plain("x\n" * LINES_MAX).count("x") == LINES_MAX
    assert len(brief("x" * 1_000_000)) < 100


@pytest.mark.parametrize("at_ms", [2**53, -(2**53), 10**18])
def test_a_time_that_no_calendar_has_is_left_out(at_ms: int) -> None:
    assert clock(at_ms) == ""


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "MEMBER"},
        {"type": "MEMBER", "op": "ADDED", "userIds": [1, None, {}]},
        {"type": "MEMBER", "op": ["x"], "userIds": "all"},
        {"type": "IMAGE", "name": 7},
        {"type": "TEXT", "text": 7},
        {"type": "POLL"},
        {"type": ["x"]},
        {"type": "TEXT", "text": "x", "replyTo": {"messageId": "m", "seq": 99}},
    ],
)
def test_what_a_newer_server_may_say_is_shown_as_far_as_it_is_understood(payload: dict[str, Any]) -> None:
    assert "bob" in read(entry(payload)) or "the members changed" in read(entry(payload))


def test_files_and_members_have_words() -> None:
    assert "[picture: cat.png]" in read(entry({"type": "IMAGE", "name": "cat.png"}))
    users = ["ann", *(f"u-{number}" for number in range(7))]
    added = read(entry({"type": "MEMBER", "op": "ADDED", "userIds": users}))
    assert "bob added you, u-0, u-1, u-2, u-3 and 3 more" in added
    assert "bob left" in read(entry({"type": "MEMBER", "op": "LEFT", "userIds": ["bob"]}))


def test_what_waits_says_why() -> None:
    waiting = [
        PendingMessage("c-1", "k-1", {"type": "TEXT", "text": "one"}, may_be_sent=False),
        PendingMessage("c-1", "k-2", {"type": "TEXT", "text": "two"}, may_be_sent=True, held=True),
        PendingMessage("c-1", "k-3", {"type": "REACTION", "reaction": "x"}, may_be_sent=False),
    ]
    rows = rows_of([], "ann", {}, waiting)
    assert [str(content) for _, content in rows] == [
        "you  waits to be sent\n  one",
        "you  held for review\n  two",
    ]


def test_a_long_title_hides_no_count() -> None:
    listed = ConversationSummary("c-1", "GROUP", "x" * 300, 1, 0, 0, None, 12, 1)
    _, row = conversation_row(listed, "ann")
    assert str(row).startswith("12  muted  xxx") and str(row).endswith("…\nno messages yet")
