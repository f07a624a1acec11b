"""Slack exports. The shapes are those of the fixtures of zulip (zerver/tests/fixtures/slack_fixtures, exports of 2017
and 2018, threads with a broadcast reply), with other people and other words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportFileError
from chatkit.importing.records import FoundConversation, FoundUser

from ..exports import left_out, messages, planned, read, write, zipped

USERS = [
    {"id": "U1", "name": "ann", "profile": {"display_name": "Ann", "email": "ann@example.org"}},
    {"id": "U2", "name": "bob", "real_name": "Bob B", "profile": {"display_name": ""}},
]
CHANNELS = [{"id": "C1", "name": "general", "creator": "U2", "members": ["U1", "U2"]}]
DAY = "general/2017-07-14.json"


def export(*posts: dict[str, Any], **more: Any) -> dict[str, Any]:
    day = [{"type": "message", **it} for it in posts]
    return {"users.json": USERS, "channels.json": CHANNELS, DAY: day, **more}


def post(text: str, user: str = "U1", ts: str = "1500000000.000100", **more: Any) -> dict[str, Any]:
    return {"user": user, "text": text, "ts": ts, **more}


def test_conversations_of_every_kind(tmp_path: Path) -> None:
    more = {
        "groups.json": [{"id": "G1", "name": "secret", "members": ["U1"]}],
        "mpims.json": [{"id": "G2", "name": "mpdm-ann--bob-1", "members": ["U1", "U2"]}],
        "dms.json": [{"id": "D1", "members": ["U1", "U2"]}],
        "D1/2017-07-14.json": [post("psst")],
        "secret/2017-07-14.json": [post("shh", ts="1500000000.999900")],
    }
    for path in (
        write(tmp_path / "a", export(post("hi"), **more)),
        zipped(tmp_path / "a.zip", export(post("hi"), **more)),
    ):
        records = read("slack", path)
        found = {it.conversation: it for it in records if isinstance(it, FoundConversation)}
        assert {name: (it.title, it.type, it.history) for name, it in found.items()} == {
            "C1": ("general", "GROUP", "FROM_START"),
            "G1": ("secret", "GROUP", "FROM_JOIN"),
            "G2": ("mpdm-ann--bob-1", "GROUP", "FROM_JOIN"),
            "D1": ("", "SINGLE", "FROM_JOIN"),
        }
        assert found["C1"].owner == "U2"
        assert [it for it in records if isinstance(it, FoundUser)] == [
            FoundUser("U1", "Ann", "ann@example.org"),
            FoundUser("U2", "Bob B", ""),
        ]
        assert sorted(messages(records)) == [
            ("U1", 1500000000000, "hi"),
            ("U1", 1500000000000, "psst"),
            ("U1", 1500000000999, "shh"),
        ]


def test_direct_messages_alone_are_an_export(tmp_path: Path) -> None:
    files = {"users.json": USERS, "dms.json": [{"id": "D1", "members": ["U1", "U2"]}]}
    records = read("slack", write(tmp_path, files | {"D1/2017-07-14.json": [post("psst")]}))
    assert messages(records) == [("U1", 1500000000000, "psst")]


def test_a_zip_may_hold_the_export_in_a_folder(tmp_path: Path) -> None:
    inside = {f"My export/{name}": it for name, it in export(post("hi")).items()}
    assert messages(read("slack", zipped(tmp_path / "a.zip", inside))) == [("U1", 1500000000000, "hi")]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("hi <@U2> and <@U9> and <@U2|bobby>", "hi @Bob B and @U9 and @bobby"),
        ("see <#C1> or <#C9|other>", "see #general or #other"),
        ("<!here> <!channel|channel> <!subteam^S1|@team>", "@here @channel @team"),
        ("<!date^1500000000^{date}|July 14>", "@July 14"),
        (
            "<https://example.org> <https://example.org|there> <mailto:a@b.c|a@b.c>",
            "https://example.org there (https://example.org) a@b.c (a@b.c)",
        ),
        ("1 &lt; 2 &amp;amp; 3 &gt; 2", "1 < 2 &amp; 3 > 2"),
        ("&lt;@U2&gt;", "<@U2>"),
        ("*soup* _now_ :wave:", "*soup* _now_ :wave:"),
    ],
)
def test_markup_in_words(tmp_path: Path, text: str, plain: str) -> None:
    assert messages(read("slack", write(tmp_path, export(post(text)))))[0][2] == plain


def test_what_happened_is_left_out_and_what_was_said_is_not(tmp_path: Path) -> None:
    posts = [
        post("<@U1> has joined", subtype="channel_join"),
        post("This message was deleted.", "USLACKBOT", subtype="tombstone", thread_ts="1500000000.000100"),
        post("waves", subtype="me_message"),
        {"subtype": "bot_message", "bot_id": "B1", "username": "builds", "text": "", "ts": "1500000001.000000",
         "attachments": [{"fallback": "build 7 failed"}]},
        post("", files=[{"name": "a.pdf", "url_private": "https://files.example.org/a.pdf"}, {"mode": "tombstone"}]),
        post(""),
        post("reply", ts="1500000002.000000", thread_ts="1500000000.000100", reactions=[{"name": "+1"}]),
        {"text": "no author", "ts": "1500000003.000000"},
        post("no time", ts="soon"),
    ]  # fmt: skip
    records = read("slack", write(tmp_path, export(*posts)))

    assert left_out(records) == ["channel_join", "tombstone", "empty message", "message", "message"]
    assert [it[0:3:2] for it in messages(records)] == [
        ("U1", "waves"),
        ("B1", "build 7 failed"),
        ("U1", "[file] a.pdf https://files.example.org/a.pdf"),
        ("U1", "reply"),
    ]
    assert {it.kind for it in planned(records).omissions.values()} >= {
        "replies in threads",
        "messages with reactions",
    }


def test_keys_are_the_times_that_slack_counts_by(tmp_path: Path) -> None:
    records = read(
        "slack", write(tmp_path, export(post("a", ts="1500000000.000100"), post("b", ts="1500000000.000200")))
    )
    assert [it.key for it in records if hasattr(it, "key")] == ["1500000000.000100", "1500000000.000200"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"x.json": []}, "users.json: it is not there.*no Slack export, or it is incomplete"),
        (
            {"users.json": USERS, DAY: []},
            "channels.json: it is not there, nor is any of groups.json, mpims.json, dms.json:"
            " this is no Slack export, or it is incomplete",
        ),
        ({"users.json": {}}, r"users.json:1: no JSON: \[ is missing"),
        ({"users.json": [7]}, "users.json:1.*: an object is missing"),
        ({"users.json": [{}]}, "users.json:1.*without an id"),
        (export() | {"channels.json": [{"name": "x"}]}, "channels.json:1.*without an id"),
        (export() | {DAY: '[\n{"a": 1},\n{"a": }]'}, "general/2017-07-14.json:3: no JSON"),
        (
            export() | {DAY: '[\n{"text": "cut\n'},
            "2017-07-14.json:2: no JSON: invalid control character; the file may be",
        ),
        (export() | {DAY: "[" * 100_000}, "nested too deeply"),
    ],
)
def test_what_is_no_export_is_an_error_that_names_the_place(tmp_path: Path, files: Any, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        read("slack", write(tmp_path, files))


def test_values_of_any_kind_anywhere_break_nothing(tmp_path: Path) -> None:
    wild: list[Any] = [None, 7, [], {}, [7], {"a": []}, "\ud800", True, 1e300]
    posts: list[Any] = [
        {"type": "message", **post("x"), key: value}
        for key in (
            "user",
            "text",
            "ts",
            "subtype",
            "files",
            "attachments",
            "reactions",
            "edited",
            "thread_ts",
            "user_profile",
            "type",
        )
        for value in wild
    ]
    users = [{"id": "U1", key: value} for key in ("profile", "name", "real_name") for value in wild]
    channels = [
        {"id": "C1", "name": "general", key: value} for key in ("members", "creator") for value in wild
    ]
    records = read("slack", write(tmp_path, {"users.json": users, "channels.json": channels, DAY: posts}))
    assert planned(records).messages > 50


def test_a_time_that_nothing_can_store_leaves_out_one_message(tmp_path: Path) -> None:
    records = read(
        "slack",
        write(
            tmp_path, export(post("late", ts="999999999999.000100"), post("hi"), post("no", ts="9" * 5000))
        ),
    )
    assert [text for _, _, text in messages(records)] == ["hi"]
    assert left_out(records) == ["message", "message"]
    assert planned(records).messages == 1
