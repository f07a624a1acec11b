"""Mattermost's bulk export. The shapes are those of zulip's fixtures (zerver/tests/fixtures/mattermost_fixtures, an
export of version 1 with direct channels); people and words are others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportFileError

from ..exports import left_out, messages, planned, read, write, zipped


def lines(*found: tuple[str, Any]) -> str:
    rows = [{"type": "version", "version": 1}, *({"type": kind, kind: value} for kind, value in found)]
    return "\n".join(json.dumps(it) for it in rows) + "\n"


TEAM = ("team", {"name": "club", "display_name": "Club"})
CHANNEL = ("channel", {"team": "club", "name": "town", "display_name": "Town", "type": "O"})
MEMBER_OF = {"name": "club", "channels": [{"name": "town", "roles": "channel_user"}]}
ANN_IS = {"first_name": "Ann", "last_name": "B", "email": "ann@example.org"}
ANN = ("user", {"username": "ann", **ANN_IS, "teams": [MEMBER_OF]})
BOB = ("user", {"username": "bob", "nickname": "Bobby", "teams": None})


def post(text: str, at_ms: int = 1553166519720, user: str = "ann", **more: Any) -> tuple[str, Any]:
    return (
        "post",
        {"team": "club", "channel": "town", "user": user, "message": text, "create_at": at_ms, **more},
    )


def direct(text: str, *members: str, user: str = "ann", at_ms: int = 5, **more: Any) -> tuple[str, Any]:
    return (
        "direct_post",
        {"channel_members": members, "user": user, "message": text, "create_at": at_ms, **more},
    )


def test_channels_and_those_who_are_in_them(tmp_path: Path) -> None:
    content = lines(TEAM, CHANNEL, ANN, BOB, post("hi", replies=None, reactions=None), post("ho", user="bob"))
    files = {"import.jsonl": content}
    for path in (write(tmp_path / "a", files | {"data/x.png": b""}), zipped(tmp_path / "a.zip", files)):
        plan = planned(read("mattermost", path))
        (found,) = plan.made()
        assert (found.source, found.title, found.history) == ("club:town", "Town", "FROM_START")
        assert found.members(9) == ("x:ann",)
        assert [(it.name, it.email) for it in plan.users.values()] == [
            ("Ann B", "ann@example.org"),
            ("Bobby", ""),
        ]


def test_direct_channels_are_called_by_their_members(tmp_path: Path) -> None:
    content = lines(
        ANN,
        ("direct_channel", {"members": ["bob", "ann"]}),
        direct("psst", "ann", "bob"),
        direct("yes?", "bob", "ann", user="bob"),
        direct("all", "ann", "bob", "cat"),
    )
    plan = planned(read("mattermost", write(tmp_path, {"import.jsonl": content})))
    assert {it.source: (it.type, it.messages) for it in plan.made()} == {
        "direct:ann,bob": ("SINGLE", 2),
        "direct:ann,bob,cat": ("GROUP", 1),
    }


def test_replies_stand_behind_their_post(tmp_path: Path) -> None:
    reply = {"user": "bob", "message": "re", "create_at": 7, "attachments": [{"path": "f/a.png"}]}
    content = lines(CHANNEL, post("root", 5, replies=[reply, 7]), post("next", 6))
    assert messages(read("mattermost", write(tmp_path, {"import.jsonl": content}))) == [
        ("ann", 5, "root"),
        ("bob", 7, "re\n[file] f/a.png"),
        ("ann", 6, "next"),
    ]


def test_what_is_no_message(tmp_path: Path) -> None:
    odd: list[Any] = [post("x", "soon"), post("y", -1)]  # type: ignore[arg-type]
    joined = post("joined", type="system_join_channel")
    content = lines(("emoji", {"name": "x"}), joined, post("", 1), *odd)
    records = read("mattermost", write(tmp_path, {"import.jsonl": content}))
    assert left_out(records) == ["system_join_channel", "empty post", "post", "post"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"type":"team"}\n', "import.jsonl:1: the first line must be the version"),
        ('{"type":"version"}\n{"type"\n', "import.jsonl:2: no JSON object"),
        ('{"type":"version"}\n[1]\n', "import.jsonl:2: no JSON object"),
        ('{"type":"version"}\n' + '{"a":' * 5_000, "import.jsonl:2: no JSON object"),
        (b'{"type":"version"}\n{"type":"\xff"}\n', "import.jsonl:2: byte 10 is not utf-8"),
    ],
)
def test_what_is_no_export_is_an_error(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        read("mattermost", write(tmp_path, {"import.jsonl": content}))


def test_values_of_any_kind_anywhere_break_nothing(tmp_path: Path) -> None:
    wild: list[Any] = [None, 7, [], {}, [7], [[]], {"a": []}, True, 1e300]
    rows = [
        (kind, value | {key: it})
        for kind, value in (CHANNEL, ANN, post("x"), direct("y", "ann", "bob"))
        for key in [*value, "replies", "attachments"]
        for it in wild
    ]
    rows += [(kind, it) for kind in ("channel", "user", "post") for it in wild]
    assert planned(read("mattermost", write(tmp_path, {"import.jsonl": lines(*rows)}))).messages > 20
