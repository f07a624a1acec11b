"""Rooms that Element exported as JSON. The shape is that of its own writer (element-web, JSONExport.ts of 2022) around
events of the client-server API; people and words are others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportFileError
from chatkit.importing.records import FoundMessage, LeftOut

from ..exports import left_out, messages, planned, read, write, zipped

ANN, BOB = "@ann:example.org", "@bob:example.org"


def export(*events: dict[str, Any]) -> dict[str, Any]:
    return {
        "room_name": "Tea",
        "room_creator": "Ann",
        "topic": "",
        "exported_by": "Bob",
        "messages": [*events],
    }


def event(body: Any = "hi", sender: str = ANN, number: int = 1, **more: Any) -> dict[str, Any]:
    content = {"msgtype": "m.text", "body": body}
    return {
        "type": "m.room.message",
        "sender": sender,
        "content": content,
        "origin_server_ts": 1666745332451,
        "event_id": f"${number}",
        "room_id": "!r:example.org",
        "unsigned": {"age": 7},
        **more,
    }


def member(user: str, membership: str) -> dict[str, Any]:
    return event(type="m.room.member", state_key=user, content={"membership": membership})


def test_a_room_and_who_is_in_it(tmp_path: Path) -> None:
    content = export(
        member(BOB, "join"), member("@cat:x", "join"), event(), event("ho", BOB, 2), member("@cat:x", "leave")
    )
    for path in (
        write(tmp_path / "a", {"matrix.json": content}),
        zipped(tmp_path / "a.zip", {"export.json": content}),
    ):
        records = read("matrix", path)
        (found,) = planned(records).made()
        assert messages(records) == [(ANN, 1666745332451, "hi"), (BOB, 1666745332451, "ho")]
        assert (found.source, found.title, found.members(9)) == (
            "!r:example.org",
            "Tea",
            (f"x:{BOB}", f"x:{ANN}"),
        )
    assert [it.key for it in records if isinstance(it, FoundMessage)] == ["$1", "$2"]


def test_json_that_somebody_sent_is_no_room(tmp_path: Path) -> None:
    sent = {"files/list.json": [1, 2], "files/export.json": export(event("private", "@zoe:x"))}
    files = {f"Element - Tea/{name}": content for name, content in sent.items()}
    files["Element - Tea/export.json"] = export(event())
    for path in (write(tmp_path / "a", files), zipped(tmp_path / "a.zip", files)):
        plan = planned(read("matrix", path))
        assert [(it.title, it.members(9)) for it in plan.made()] == [("Tea", (f"x:{ANN}",))]
        assert [(it.kind, it.count) for it in plan.omissions.values()] == [("files", 2)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"msgtype": "m.image", "body": "a.png", "url": "mxc://x/y"}, "[file] a.png mxc://x/y"),
        ({"msgtype": "m.file", "body": "a.pdf", "file": {"url": "mxc://x/z"}}, "[file] a.pdf mxc://x/z"),
        ({"msgtype": "m.emote", "body": "waves"}, "waves"),
        (
            {
                "msgtype": "m.text",
                "body": "> <@bob:x> q\n> r\n\nyes",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$0"}},
            },
            "yes",
        ),
        ({"msgtype": "m.text", "body": "> a quote\n\nof mine"}, "> a quote\n\nof mine"),
    ],
)
def test_what_is_said_in_all_its_forms(tmp_path: Path, content: dict[str, Any], text: str) -> None:
    records = read("matrix", write(tmp_path, {"a.json": export(event(content=content))}))
    assert [it[2] for it in messages(records)] == [text]


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    edit = {
        "body": "* x",
        "m.new_content": {"body": "x"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"},
    }
    events = [
        event(content=edit),
        event(content={}),
        event(unsigned={"redacted_because": {}}),
        event(type="m.room.encrypted", content={"ciphertext": "x"}),
        event(content={"msgtype": "m.bad.encrypted", "body": "** Unable to decrypt **"}),
        event(type="m.room.topic", content={"topic": "x"}),
        event(origin_server_ts=None),
        {"decrypted": event("clear"), "encrypted": event(type="m.room.encrypted")},
    ]
    records = read("matrix", write(tmp_path, {"a.json": export(*events)}))
    reasons = [it.reason for it in planned(records).omissions.values()]
    assert [it[2] for it in messages(records)] == ["clear"]
    assert reasons == [
        "it is an edit; the first text is carried over",
        "it was redacted",
        "it could not be decrypted when it was exported",
        "it could not be decrypted when it was exported",
        "it is no message",
        "it has no sender or no time",
    ]
    assert len(left_out(records)) == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [("[]", "an object is missing"), (export() | {"messages": [1]}, "an object"), ("{", "name in")],
)
def test_what_is_no_export_is_an_error(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ImportFileError, match=f"a.json:1: .*{words}"):
        read("matrix", write(tmp_path, {"a.json": content}))


def test_values_of_any_kind_anywhere_break_nothing(tmp_path: Path) -> None:
    wild: list[Any] = [None, 7, [], {}, [7], {"a": []}, "\ud800", True, 1e300]
    events = [event() | {key: value} for key in [*event(), "decrypted", "state_key"] for value in wild]
    contents = [
        event(content={"msgtype": "m.image", "body": "x", key: value})
        for key in ("body", "msgtype", "url", "file", "m.relates_to")
        for value in wild
    ]
    assert planned(read("matrix", write(tmp_path, {"a.json": export(*events, *contents)}))).messages > 50


def test_a_time_that_nothing_can_store_leaves_out_one_message(tmp_path: Path) -> None:
    late = event("late", number=2, origin_server_ts=10**15)
    path = write(tmp_path, {"export.json": export(late, event())}) / "export.json"
    records = read("matrix", path)
    assert [text for _, _, text in messages(records)] == ["hi"]
    assert [(it.where, it.reason) for it in records if isinstance(it, LeftOut)] == [
        ("!r:example.org $2", "its time is before 1970 or after 9999")
    ]
    assert planned(records).messages == 1
