"""Telegram exports. The shapes are those that Telegram Desktop's own writer makes (its export_output_json.cpp), and of
the examples in the documentation of tg-parser 1.0; people and words are others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportFileError
from chatkit.importing.records import FoundConversation, FoundMessage

from ..exports import left_out, messages, planned, read, write


def chat(*posts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "Friends", "type": "private_group", "id": 77, **more, "messages": [*posts]}


def post(words: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "message",
        "date": "2021-06-22T10:00:00",
        "date_unixtime": "1624348800",
        "from": "Ann",
        "from_id": "user11",
        "text": words,
        **more,
    }


def found(tmp_path: Path, content: Any, **options: str) -> list[Any]:
    return read("telegram", write(tmp_path, {"result.json": content}), **options)


def test_one_chat(tmp_path: Path) -> None:
    records = found(tmp_path, chat(post("hi"), post("ho", 2, **{"from": "Bob", "from_id": "user22"})))

    assert messages(records) == [("user11", 1624348800000, "hi"), ("user22", 1624348800000, "ho")]
    assert records[0] == FoundConversation("77", "Friends")
    assert [it.key for it in records if isinstance(it, FoundMessage)] == ["1", "2"]
    assert [it.name for it in planned(records).users.values()] == ["Ann", "Bob"]


def test_all_of_an_account(tmp_path: Path) -> None:
    own = post("me", 5, from_id="user99")
    content = {
        "about": "Here is the data",
        "personal_information": {"user_id": 99, "first_name": "Me"},
        "contacts": {"list": [{"user_id": 1}]},
        "chats": {
            "about": "x",
            "list": [chat(own, post("hi"), type="personal_chat", id=11, name="Ann"), chat(post("x"))],
        },
        "left_chats": {"list": [chat(post("y"), id=78, type="public_supergroup")]},
    }
    records = found(tmp_path, content)
    plan = planned(records)

    assert {it.source: it.type for it in plan.made()} == {"11": "SINGLE", "77": "GROUP", "78": "GROUP"}
    assert plan.conversations["11"].members(9) == ("x:user11", "x:user99")
    assert plan.conversations["78"].history == "FROM_START"


def test_a_group_that_became_a_supergroup_counts_from_1_again(tmp_path: Path) -> None:
    old = chat(post("old"), {"id": 2, "type": "service", "action": "migrate_to_supergroup"}, id=77)
    new = chat(post("new"), id=1077, type="private_supergroup")
    records = found(tmp_path, {"chats": {"list": [old, new]}})

    assert [(it.conversation, it.key) for it in records if isinstance(it, FoundMessage)] == [
        ("77", "1"),
        ("1077", "1"),
    ]
    assert left_out(records) == ["migrate_to_supergroup"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"text": ["see ", {"type": "link", "text": "a.org"}, {"type": "bold", "text": "!"}]}, "see a.org!"),
        ({"text": [{"type": "text_link", "text": "here", "href": "https://a.org"}]}, "here (https://a.org)"),
        ({"text": "", "text_entities": [{"type": "plain", "text": "only here"}]}, "only here"),
        ({"text": "", "photo": "photos/1.jpg"}, "[file] photos/1.jpg"),
        ({"text": "look", "file": "(File not included.)"}, "look\n[file] (File not included.)"),
        ({"text": "", "sticker_emoji": "X"}, "X"),
        ({"text": "", "poll": {"question": "When?"}}, "[poll] When?"),
        ({"text": "", "contact_information": {"first_name": "A", "phone_number": "+1"}}, "[contact] A +1"),
        ({"text": "", "place_name": "P", "location_information": {"latitude": 1.5, "longitude": 2}}, "[place] P 1.5, 2"),  # noqa: E501
        ({"rich_message": {"blocks": [{"text": "Title"}, {"text": [{"text": "a "}, {"text": "b"}]}]}}, "Title\na b"),
    ],
)  # fmt: skip
def test_texts_in_all_their_forms(tmp_path: Path, more: dict[str, Any], text: str) -> None:
    it = post("", **more)
    if "rich_message" in more:
        del it["text"]
    assert [found[2] for found in messages(found(tmp_path, chat(it)))] == [text]


def test_old_exports_have_local_times_and_numbers_for_users(tmp_path: Path) -> None:
    it = post("hi", from_id=4_300_000_011, edited="1970-01-01T01:00:00")
    del it["date_unixtime"]
    records = found(tmp_path, chat(it, post("edited", 2, edited="2021-06-22T11:00:00")), zone="Europe/Berlin")

    assert messages(records)[0] == ("user4300000011", 1624348800000, "hi")
    assert planned(records).omissions["edited messages", "the last text is carried over", False].count == 1


def test_a_control_character_is_written_as_no_json_would(tmp_path: Path) -> None:
    text = json.dumps(chat(post("a@b@c"))).replace("a@b@c", "a\\x0Bb\\\\x0Bc")
    text = text.replace('"Friends"', '"Fr' + "i" * 262_140 + '\\x01"')  # near the end of a piece
    assert messages(found(tmp_path, text)) == [("user11", 1624348800000, "a\x0bb\\x0Bc")]


@pytest.mark.parametrize("cut", range(262_120, 262_160))
def test_wherever_the_file_is_cut_into_pieces(tmp_path: Path, cut: int) -> None:
    text = json.dumps(chat(post("@@"))).replace("@@", "x\\\\\\x0By\\\\x0Bz")
    text = text.replace('"Friends"', '"' + "i" * (cut - text.index('"x') - 4) + '"')
    assert messages(found(tmp_path, text))[0][2] == "x\\\x0by\\x0Bz"


def test_backslashes_without_end_take_no_time(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError):
        found(tmp_path, '{"name": "' + "\\" * 1_000_001)


def test_what_is_no_message_and_who_is_nobody_any_more(tmp_path: Path) -> None:
    posts = [
        {"id": 1, "type": "unsupported"},
        {"id": 2, "type": "service", "action": "invite_members", "members": ["Bob", None]},
        post("", 3),
        post("x", 4, date="", date_unixtime="soon"),
        post("gone", 5, **{"from": None}),
        post("channel", 6, **{"from": None, "from_id": None}),
    ]
    records = found(tmp_path, chat(*posts))

    assert left_out(records) == ["unsupported", "invite_members", "empty message", "message"]
    assert [it[0] for it in messages(records)] == ["user11", "channel77"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "an object is missing"),
        ({"messages": [post("x")]}, "without an id"),
        (chat() | {"messages": [7]}, "result.json:1: an object is missing"),
        ('{"id": 1,\n"messages": [', "result.json:2: the file ends"),
        ("{} x", "something follows"),
    ],
)
def test_what_is_no_export_is_an_error(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        found(tmp_path, content)


def test_values_of_any_kind_anywhere_break_nothing(tmp_path: Path) -> None:
    wild: list[Any] = [None, 7, -1, [], {}, [7], {"a": []}, "\ud800", True, 1e300, "9" * 400]
    keys = [
        *post("x"),
        "photo",
        "poll",
        "location_information",
        "contact_information",
        "rich_message",
        "edited",
    ]
    posts = [post("x", **{"from": "A"}) | {key: value} for key in keys for value in wild]
    assert planned(found(tmp_path, chat(*posts, name=7, type=None))).messages > 50
    deep = json.dumps(chat(post("", rich_message="deep"))).replace(
        '"deep"', '{"blocks":' * 300 + '"x"' + "}" * 300
    )
    assert left_out(found(tmp_path, deep)) == ["empty message"]
