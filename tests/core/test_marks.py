"""How a message reads once others have said something of it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from chatkit.core.marks import marked, named_seq
from chatkit.types import Edit, Marks, Message, Reaction

FIRST = {"type": "TEXT", "text": "helo"}


def message(seq: int, payload: dict[str, Any], sender: str = "ann", marks: Marks | None = None) -> Message:
    return Message("g", seq, f"m-{seq}", sender, 1000 + seq, payload, None, marks)


def edited(seq: int, text: str, target: int = 1, sender: str = "ann") -> Message:
    content = {"type": "TEXT", "text": text}
    return message(seq, {"type": "EDIT", "messageId": "m", "seq": target, "payload": content}, sender)


def reacted(seq: int, sender: str, reaction: str = "+1", *, removed: bool = False) -> Message:
    payload = {"type": "REACTION", "messageId": "m", "seq": 1, "reaction": reaction, "removed": removed}
    return message(seq, payload, sender)


def shown(*naming: Message, marks: Marks | None = None) -> Message:
    (found,) = marked([message(1, FIRST, marks=marks)], naming)
    return found


def test_what_notes_something_is_no_users_message() -> None:
    for kind in ("MEMBER", "RECALL", "EDIT", "REACTION", "PINNED", "TITLE"):
        assert not message(1, {"type": kind}).is_user_message, kind
    for kind in ("TEXT", "STREAM", "IMAGE", "VOICE", "FILE", "CUSTOM", "RECALLED", "OF_A_NEWER_SERVER"):
        assert message(1, {"type": kind}).is_user_message, kind


def test_the_last_edit_is_shown_in_whatever_order_they_come() -> None:
    for naming in permutations([edited(2, "hell"), edited(5, "hello"), edited(3, "hel")]):
        found = shown(*naming)
        assert (found.text, found.payload, found.edit) == (
            "hello",
            FIRST,
            Edit(5, 1005, {"type": "TEXT", "text": "hello"}),
        )


def test_reactions_come_and_go_and_one_user_counts_once() -> None:
    naming = [reacted(2, "bob"), reacted(3, "cat"), reacted(4, "bob"), reacted(5, "bob", "!")]
    assert shown(*naming).reactions == (Reaction("+1", 2, ("bob", "cat")), Reaction("!", 1, ("bob",)))
    naming += [
        reacted(6, "bob", removed=True),
        reacted(7, "dan", removed=True),
        reacted(8, "bob", "!", removed=True),
    ]
    assert shown(*naming).reactions == (Reaction("+1", 1, ("cat",)),)


def test_what_a_page_said_counts_up_to_its_head() -> None:
    page = Marks(4, Edit(3, 1003, {"type": "TEXT", "text": "hello"}), (Reaction("+1", 1, ("bob",)),))
    later = shown(edited(3, "old"), reacted(4, "bob"), reacted(5, "cat"), edited(6, "hello!"), marks=page)

    assert later.text == "hello!"
    assert later.reactions == (Reaction("+1", 2, ("bob", "cat")),)
    assert shown(edited(3, "old"), marks=page).marks == page


def test_beyond_the_users_that_are_named_they_are_counted() -> None:
    names = tuple(f"u{n}" for n in range(50))
    page = Marks(4, None, (Reaction("+1", 60, names),))

    assert shown(reacted(5, "zoe"), marks=page).reactions == (Reaction("+1", 61, names),)
    assert shown(reacted(5, "u7"), marks=page).reactions == (Reaction("+1", 60, names),)
    (without,) = shown(reacted(5, "u7", removed=True), marks=page).reactions
    assert (without.count, "u7" in without.user_ids) == (59, False)
    assert shown(reacted(5, "zoe", removed=True), marks=page).reactions == (Reaction("+1", 59, names),)


def test_of_a_recalled_message_nothing_is_shown() -> None:
    (found,) = marked([message(1, {"type": "RECALLED"})], [edited(2, "CANARY"), reacted(3, "bob")])
    assert (found.marks, found.text) == (None, "")


@pytest.mark.parametrize(
    "entry",
    [
        edited(2, "not hers", sender="bob"),
        message(2, {"type": "EDIT", "seq": 1, "payload": "no object"}),
        message(2, {"type": "REACTION", "seq": 1, "reaction": 7}),
    ],
)
def test_what_no_server_lets_through_changes_nothing(entry: Message) -> None:
    found = shown(entry)
    assert (found.text, found.reactions, found.edit) == ("helo", (), None)


@pytest.mark.parametrize(
    ("payload", "seq"),
    [
        ({"type": "EDIT", "seq": 4}, 4),
        ({"type": "REACTION", "seq": 1}, 1),
        ({"type": "EDIT", "seq": 5}, None),
        ({"type": "EDIT", "seq": 0}, None),
        ({"type": "EDIT", "seq": True}, None),
        ({"type": "EDIT"}, None),
        ({"type": "TEXT", "seq": 4}, None),
    ],
)
def test_which_entry_is_named(payload: dict[str, Any], seq: int | None) -> None:
    assert named_seq(message(5, payload)) == seq


def test_a_reaction_leaves_a_stream_open_and_its_end_does_not() -> None:
    begun = message(1, {"type": "STREAM", "text": "he"})
    (reacted,) = marked([begun], [message(2, {"type": "REACTION", "seq": 1, "reaction": "+"})])
    assert (reacted.is_open, reacted.text, len(reacted.reactions)) == (True, "he", 1)
    end = message(
        3, {"type": "EDIT", "seq": 1, "ends": "CUT_OFF", "payload": {"type": "TEXT", "text": "hel"}}
    )
    (ended,) = marked([reacted], [end])
    assert (ended.is_open, ended.is_cut_off, ended.text, len(ended.reactions)) == (False, True, "hel", 1)


def test_what_a_reply_answers() -> None:
    reply = message(2, {**FIRST, "replyTo": {"messageId": "m-1", "seq": 1}}).reply_to
    assert reply is not None
    assert (reply.message_id, reply.seq) == ("m-1", 1)
    for nothing in (None, "m-1", {"seq": 1}, {"messageId": 1, "seq": 1}, {"messageId": "m"}):
        assert message(2, {**FIRST, "replyTo": nothing}).reply_to is None
