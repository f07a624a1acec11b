"""`chatkit import`, as its users run it."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

import pytest

from chatkit import open_store
from chatkit.importing.formats._all import FORMATS
from tests.importing.exports import write

from .command import chatkit

HERE = Path(__file__).parents[2]
USERS = [{"id": "U1", "name": "ann", "profile": {"email": "ann@example.org"}}, {"id": "U2", "name": "bob"}]
EXPORT = {
    "users.json": USERS,
    "channels.json": [{"id": "C1", "name": "general", "members": ["U1", "U2"]}],
    "general/2017-07-14.json": [
        {"type": "message", "user": "U1", "text": "hi", "ts": "1500000000.000100"},
        {"type": "message", "user": "U2", "text": "x", "subtype": "channel_join", "ts": "1500000001.000100"},
    ],
}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write(tmp_path / "export", EXPORT)


def test_a_dry_run_writes_nothing_and_a_run_is_repeated_without_harm(export: Path, tmp_path: Path) -> None:
    dry = chatkit("import", "slack", "export", "--dry-run", cwd=tmp_path)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "slack:C1 general: 1 message, 2 members, 2017-07-14 to 2017-07-14" in dry.stdout
    left_out = "channel_join: 1 (who came and went is not carried over), first at general/2017-07-14.json:1"
    assert f"left out:\n  {left_out}\nnothing was written\n" in dry.stdout
    assert not (tmp_path / "chat.db").exists()

    done = [
        json.loads(chatkit("import", "slack", "export", "--json", cwd=tmp_path).stdout)["imported"]
        for _ in "12"
    ]
    assert [(it["added"], it["known"], it["conversations_made"]) for it in done] == [(1, 0, 1), (0, 1, 0)]
    assert chatkit("verify", "chat.db", cwd=tmp_path).returncode == 0


def test_the_export_to_try_says_what_the_page_says(tmp_path: Path) -> None:
    said = chatkit("import", "slack", str(HERE / "examples/slack_export"), "--dry-run", cwd=tmp_path)

    assert said.returncode == 0
    assert indent(said.stdout, "    ") in (HERE / "docs/import.md").read_text()


def test_what_comes_in_changed_is_counted_in_its_unit(tmp_path: Path) -> None:
    root = {
        "type": "message",
        "user": "U1",
        "text": "hi",
        "ts": "1500000000.000100",
        "edited": {"user": "U1"},
    }
    reacted = root | {"reactions": [{"name": "wave", "count": 3}], "thread_ts": root["ts"]}
    replies = [
        {"type": "message", "user": "U2", "text": "ho", "ts": ts, "thread_ts": root["ts"]}
        for ts in ("1500000001.000100", "1500000002.000100")
    ]
    write(tmp_path / "export", EXPORT | {"general/2017-07-14.json": [reacted, *replies]})
    said = chatkit("import", "slack", "export", "--dry-run", cwd=tmp_path).stdout.splitlines()
    where = "first at general/2017-07-14.json:1"
    assert said[said.index("changed, or not carried over:") + 1 :] == [
        f"  replies in threads: 2 (they stand in their conversation by time), {where}",
        f"  messages with reactions: 1 (carried over without them), {where}",
        f"  edited messages: 1 (the last text is carried over), {where}",
        "nothing was written",
    ]


async def test_a_log_that_is_served_takes_no_import(export: Path, tmp_path: Path) -> None:
    chatkit("import", "slack", "export", cwd=tmp_path)
    chatkit("export", "log.jsonl", cwd=tmp_path)
    store = open_store(f"sqlite:///{tmp_path / 'chat.db'}")
    await store.migrate()
    try:
        for what in (("slack", "export"), ("chatkit", "log.jsonl")):
            done = chatkit("import", *what, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (2, "")
            words = (
                "the log chat.db is in use by a server or another import: stop that one first, then import"
            )
            assert done.stderr.splitlines()[-1] == f"Error: {words}"
    finally:
        await store.aclose()


def test_another_time_zone_or_encoding_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write(tmp_path, {"chat.txt": "14/07/2017, 10:00 - Ann: é\n14/07/2017, 10:01 - Bob: x\n"})
    dry = chatkit("import", "whatsapp", "chat.txt", "--dry-run", cwd=tmp_path)
    assert "times are those of a clock in the zone UTC; --timezone says otherwise" in dry.stdout
    arguments = ("import", "whatsapp", "chat.txt", "--json", "--timezone")
    first = chatkit(*arguments, "Europe/Berlin", cwd=tmp_path)
    report = json.loads(first.stdout)
    assert report["imported"]["added"] == 2
    assert report["read_as"] == {"timezone": "Europe/Berlin", "encoding": "utf-8"}
    before = chatkit("export", "-", cwd=tmp_path).stdout

    for more, named in [
        (["UTC"], "--timezone Europe/Berlin before"),
        (["Europe/Berlin", "--encoding", "latin-1"], "--encoding utf-8 before"),
    ]:
        refused = chatkit(*arguments, *more, cwd=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"whatsapp:chat was imported with {named}" in " ".join(refused.stderr.split())
    assert chatkit("export", "-", cwd=tmp_path).stdout == before
    again = chatkit(*arguments, "Europe/Berlin", "--encoding", "UTF8", cwd=tmp_path)
    assert json.loads(again.stdout)["imported"]["known"] == 2


def test_who_is_who_is_written_changed_and_read(export: Path, tmp_path: Path) -> None:
    written = chatkit("import", "slack", "export", "--write-users", "users.csv", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    text = (tmp_path / "users.csv").read_text()
    assert text.splitlines() == [
        "source,user_id,name,email",
        "U1,slack:U1,ann,ann@example.org",
        "U2,slack:U2,bob,",
    ]
    assert chatkit("import", "slack", "export", "--write-users", "users.csv", cwd=tmp_path).returncode == 2

    (tmp_path / "users.csv").write_text(text.replace("slack:U1", "ann"))
    done = chatkit("import", "slack", "export", "--users", "users.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = chatkit("audit", "show", cwd=tmp_path).stdout
    assert "IMPORTED" in listed
    refused = chatkit("import", "slack", "export", "--prefix", "slack:", cwd=tmp_path)
    assert refused.returncode == 0  # bob is in it under both
    (tmp_path / "users.csv").write_text(text.replace("slack:U1", "a b"))
    wrong = chatkit("import", "slack", "export", "--users", "users.csv", cwd=tmp_path)
    assert (wrong.returncode, "is no id" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["slack", "nowhere"], 2, "does not exist"),
        (["slack", "export", "--timezone", "Mars"], 2, "no time zone 'Mars'"),
        (["slack", "export", "--encoding", "klingon"], 2, "no encoding"),
        (["slack", "export", "--encoding", "utf-16"], 2, "make them UTF-8 first"),
        (["slack", "export", "--encoding", "utf-32"], 2, "make them UTF-8 first"),
        (["slack", "export", "--prefix", "a b"], 2, "a prefix has"),
        (["slack", "export", "--storage", "nothing://x"], 2, "storage address"),
        (["slack", "export", "--users", "export/users.json"], 1, "the first line must be"),
        (["slack", "broken"], 1, "users.json:1: no JSON"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    export: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write(tmp_path / "broken", {"users.json": "{}"})
    done = chatkit("import", *arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert words in done.stderr
    assert not (tmp_path / "chat.db").exists()


def test_a_log_goes_out_and_comes_in_again(export: Path, tmp_path: Path) -> None:
    chatkit("import", "slack", "export", cwd=tmp_path)
    out = chatkit("export", "log.jsonl", cwd=tmp_path)
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "7 lines written to log.jsonl\n")
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o777 == 0o600
    there = chatkit("export", "log.jsonl", cwd=tmp_path)
    assert (there.returncode, there.stdout) == (2, "")
    assert "log.jsonl: File exists; name another file, or - for standard output" in there.stderr
    piped = chatkit("export", "-", cwd=tmp_path)
    assert piped.stdout == (tmp_path / "log.jsonl").read_text()
    assert piped.stderr == "7 lines written to standard output\n"

    copy = ("import", "chatkit", "log.jsonl", "--storage", "sqlite:///copy.db")
    assert (
        chatkit(*copy, "--dry-run", cwd=tmp_path).stdout == "1 conversation, 2 entries: nothing was written\n"
    )
    assert not (tmp_path / "copy.db").exists()
    first, again = (chatkit(*copy, cwd=tmp_path).stdout for _ in "12")
    assert first == "1 conversation, 2 entries: 2 added, 0 there already\n"
    assert again == "1 conversation, 2 entries: 0 added, 2 there already\n"
    assert chatkit("verify", "copy.db", cwd=tmp_path).returncode == 0
    second = chatkit("export", "-", "--storage", "sqlite:///copy.db", cwd=tmp_path).stdout
    assert second == (tmp_path / "log.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["export", "x.jsonl"], 2, "chat.db"),
        (["export", "x.jsonl", "--storage", "memory://"], 2, "memory of a server"),
        (["import", "chatkit", "export/users.json"], 1, "users.json:1"),
    ],
)
def test_what_cannot_be_exported(
    export: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = chatkit(*arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert words in done.stderr
    assert not (tmp_path / "x.jsonl").exists()


def test_help_names_every_format(tmp_path: Path) -> None:
    words = chatkit("import", "--help", cwd=tmp_path).stdout.replace(",", " ").replace(".", " ").split()
    assert {"chatkit", *FORMATS} <= set(words)
