"""DiscordChatExporter's JSON. The shape is that of its own writer (JsonMessageWriter.cs and MessageKind.cs of 2025);
people and words are others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportFileError
from chatkit.importing.records import FoundConversation, FoundMessage

from ..exports import left_out, messages, planned, read, write, zipped

GUILD = {"id": "1", "name": "Club", "iconUrl": "https://x"}
CHANNEL = {
    "id": "20",
    "type": "GuildTextChat",
    "categoryId": "3",
    "category": "Talk",
    "name": "general",
    "topic": None,
}


def export(*posts: dict[str, Any], channel: Any = CHANNEL) -> dict[str, Any]:
    ends = {"messageCount": len(posts)}
    return {"guild": GUILD, "channel": channel, "dateRange": {"after": None}, "messages": [*posts], **ends}


def post(
    text: str, number: int = 100, at: str = "2019-04-14T23:54:42.74+00:00", **more: Any
) -> dict[str, Any]:
    author = {"id": "11", "name": "ann", "discriminator": "0001", "nickname": "Ann", "isBot": False}
    return {"id": str(number), "type": "Default", "timestamp": at, "content": text, "author": author, **more}


def test_channels_of_a_folder_with_offsets_of_their_own(tmp_path: Path) -> None:
    direct = {"id": "21", "type": "DirectTextChat", "category": "Private", "name": "bob"}
    content = {
        "a.json": export(post("hi"), post("ho", 101, "2019-04-15T01:54:42+02:00")),
        "b.json": export(post("psst", 1, "2019-04-14T19:54:42.7401234-04:00"), channel=direct),
        "a_Files/x.png": b"png",
    }
    for path in (write(tmp_path / "a", content), zipped(tmp_path / "a.zip", content)):
        records = read("discord", path)
        assert messages(records) == [
            ("11", 1555286082740, "hi"),
            ("11", 1555286082000, "ho"),
            ("11", 1555286082740, "psst"),
        ]
        assert [it for it in records if isinstance(it, FoundConversation)] == [
            FoundConversation("20", "Club / Talk / general"),
            FoundConversation("21", type="SINGLE"),
        ]
    assert [it.key for it in records if isinstance(it, FoundMessage)] == ["100", "101", "1"]
    assert planned(records).users["11"].name == "Ann"


def test_json_that_somebody_sent_is_no_channel(tmp_path: Path) -> None:
    sent = export(post("private"), channel=CHANNEL | {"id": "66"})
    files = {
        "Club/general.json": export(post("hi")),
        "Club/general.json_Files/list-1A2B3.json": [1, 2],
        "Club/general.json_Files/sent-4C5D6.json": sent,
        "direct.json": export(post("ho"), channel=CHANNEL | {"id": "21"}),
    }
    plan = planned(read("discord", write(tmp_path, files)))
    assert [it.source for it in plan.made()] == ["20", "21"]
    assert [(it.kind, it.count) for it in plan.omissions.values()] == [("files", 2)]


def test_a_channel_in_parts_is_one_conversation(tmp_path: Path) -> None:
    parts = {"c [part 1].json": export(post("a")), "c [part 2].json": export(post("b", 101))}
    assert [it.messages for it in planned(read("discord", write(tmp_path, parts))).made()] == [2]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"type": "20", "content": "pong"}, "pong"),
        ({"type": "Reply", "content": "yes", "reference": {"messageId": "1"}}, "yes"),
        (
            {"content": "", "attachments": [{"fileName": "a.png", "url": "https://x/a.png"}]},
            "[file] a.png https://x/a.png",
        ),
        (
            {"content": "", "embeds": [{"title": "T", "description": "D", "url": "https://x"}, 7]},
            "T\nD\nhttps://x",
        ),
        ({"content": "", "stickers": [{"name": "Wave"}]}, "[file] Wave"),
        ({"content": "", "forwardedMessage": {"content": "old"}}, "old"),
    ],
)
def test_what_is_said_in_all_its_forms(tmp_path: Path, more: dict[str, Any], text: str) -> None:
    assert [
        it[2] for it in messages(read("discord", write(tmp_path, {"a.json": export(post("", **more))})))
    ] == [text]


def test_what_happened_is_left_out(tmp_path: Path) -> None:
    posts = [
        post("Joined the server.", type="GuildMemberJoin"),
        post("x", type="46"),
        post(""),
        post("y", at="soon"),
    ]
    records = read("discord", write(tmp_path, {"a.json": export(*posts)}))
    assert left_out(records) == ["GuildMemberJoin", "46", "empty message", "message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "a.json:1: an object is missing"),
        ({"messages": []}, "without a channel"),
        (export() | {"messages": [[]]}, "an object is missing"),
        ('{"guild": {},\n"channel": ', "a.json:2: the file ends"),
    ],
)
def test_what_is_no_export_is_an_error(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        read("discord", write(tmp_path, {"a.json": content}))
    with pytest.raises(ImportFileError, match="not there"):
        read("discord", write(tmp_path / "empty", {"x.txt": ""}))


def test_values_of_any_kind_anywhere_break_nothing(tmp_path: Path) -> None:
    wild: list[Any] = [None, 7, [], {}, [7], [[]], {"a": []}, "\ud800", True, 1e300]
    keys = [*post("x"), "attachments", "embeds", "stickers", "forwardedMessage", "reactions", "reference"]
    posts = [post("x") | {key: value} for key in keys for value in wild]
    assert planned(read("discord", write(tmp_path, {"a.json": export(*posts)}))).messages > 50
