"""WhatsApp's text exports. The forms of lines are those that whatsapp-chat-parser (Pustur, src/parser.ts) takes, with
other people and other words.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chatkit.errors import ConfigurationError, ImportFileError
from chatkit.importing.records import FoundConversation

from ..exports import left_out, messages, planned, read, write, zipped

JULY_14 = 1499990400000
"""Of 2017, at midnight."""


def found(
    tmp_path: Path, text: str, name: str = "WhatsApp Chat with Ann.txt", **options: str
) -> list[tuple[str, int, str]]:
    return messages(read("whatsapp", write(tmp_path, {name: text}), **options))


@pytest.mark.parametrize(
    ("line", "minutes"),
    [
        ("14/07/2017, 23:59 - Ann: hi", 1439),
        ("14.07.17, 23:59 - Ann: hi", 1439),
        ("7/14/17, 11:59 PM - Ann: hi", 1439),
        ("7/14/17, 11:59\u202fpm - Ann: hi", 1439),
        ("14/07/2017 11:59 p. m. - Ann: hi", 1439),
        ("[14.07.17, 23:59:00] Ann: hi", 1439),
        ("\u200e[14/07/2017, 12:01:00 a.m.] ~\u202fAnn: \u200ehi", 1),
        ("[2017-07-14, 12:01:00 PM] Ann: hi", 721),
        ("2017/07/14, 00:01 - Ann: hi", 1),
        ("14-07-2017 00.01 - Ann: hi", 1),
    ],
)
def test_a_line_of_each_form(tmp_path: Path, line: str, minutes: int) -> None:
    assert found(tmp_path, line + "\n") == [("Ann", JULY_14 + minutes * 60_000, "hi")]


def test_texts_of_several_lines_and_what_happened(tmp_path: Path) -> None:
    text = (
        "14/07/2017, 10:00 - Messages are encrypted.\n"
        "14/07/2017, 10:01 - Ann: first\r\nsecond: 7\n\nfourth\n"
        "14/07/2017, 10:03 - Bob: <Media omitted>\n"
        "14/07/2017, 10:02 - Ann: late: yes\n"
        "14/07/2017, 10:04 - Ann:\n"
    )
    records = read("whatsapp", write(tmp_path, {"a.txt": text}))
    assert messages(records) == [
        ("Ann", JULY_14 + 601 * 60_000, "first\nsecond: 7\n\nfourth"),
        ("Bob", JULY_14 + 603 * 60_000, "<Media omitted>"),
        ("Ann", JULY_14 + 602 * 60_000, "late: yes"),
    ]
    assert left_out(records) == ["notice", "empty message"]


def test_the_order_of_dates_is_found_from_all_of_them_or_asked_for(tmp_path: Path) -> None:
    text = "07/08/2017, 10:00 - Ann: a\n07/14/2017, 10:00 - Ann: b\n"
    assert [it[1] for it in found(tmp_path, text)][1] == JULY_14 + 600 * 60_000
    with pytest.raises(ImportFileError, match=r"DMY or MDY cannot be seen: say --date-order"):
        found(tmp_path, text[:27])
    assert [found(tmp_path, text[:27], date_order=it)[0][1] for it in ("DMY", "MDY")] == [
        1502100000000,
        1499508000000,
    ]
    with pytest.raises(ImportFileError, match=r"txt:2: the dates are in no one order"):
        found(tmp_path, "07/08/2017, 10:00 - Ann: a\n17/17/2017, 10:00 - Ann: b\n")
    with pytest.raises(ImportFileError, match=r"txt:2: there is no such time, if dates are DMY"):
        found(tmp_path, text, date_order="DMY")
    with pytest.raises(ConfigurationError, match="DMY, MDY, YMD"):
        found(tmp_path, text, date_order="XYZ")


def test_times_are_those_of_the_phone(tmp_path: Path) -> None:
    assert found(tmp_path, "14/07/2017, 02:00 - Ann: hi", zone="Europe/Berlin") == [("Ann", JULY_14, "hi")]


def test_the_chat_is_called_by_its_file(tmp_path: Path) -> None:
    line = {"_chat.txt": "14/07/2017, 10:00 - Ann: hi", "IMG-1.jpg": b"x"}
    archive = zipped(tmp_path / "WhatsApp Chat - Tea.zip", line)
    for path, title in ((write(tmp_path / "WhatsApp Chat - Club", line), "Club"), (archive, "Tea")):
        (made,) = (it for it in read("whatsapp", path) if isinstance(it, FoundConversation))
        assert made.conversation == made.title == title
    records = read("whatsapp", archive, conversation="Friends")
    assert planned(records).made()[0].source == "Friends"


CHAT = "14/07/2017, 10:00 - Ann: hi\n"
SENT = "14/07/2017, 10:00 - Zoe: private\n"
"""The export of another chat, which somebody sent as a file."""


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("Chat - Ann.zip", {"_chat.txt": CHAT, "00000002-notes.txt": "milk", "00000003-_chat.txt": SENT}),
        ("Chat de WhatsApp con Ann.zip", {"Chat de WhatsApp con Ann.txt": CHAT, "Chat con Zoe.txt": SENT}),
        ("all.zip", {"WhatsApp-Chat mit Ann/WhatsApp-Chat mit Ann.txt": CHAT, "WhatsApp-Chat mit Ann/a.txt": SENT}),
        ("Chat (1).zip", {"Chat.txt": CHAT, "notes.txt": "\nmilk", "old.txt": b"\xff", "empty.txt": ""}),
        ("a.zip", {"Ann.txt": CHAT, "sent/Zoe.txt": SENT}),
    ],
)  # fmt: skip
def test_a_text_that_somebody_sent_is_no_chat(tmp_path: Path, path: str, files: dict[str, str]) -> None:
    for export in (zipped(tmp_path / path, files), write(tmp_path / path.removesuffix(".zip"), files)):
        plan = planned(read("whatsapp", export, conversation="Family"))
        assert [(it.messages, it.members(9)) for it in plan.made()] == [(1, ("x:Ann",))]
        assert [(it.kind, it.count) for it in plan.omissions.values()] == [("files", len(files) - 1)]


@pytest.mark.parametrize(
    "files",
    [
        {"Ann.txt": CHAT, "Zoe.txt": SENT},
        {"Ann.txt": "hello", "Zoe.txt": "milk"},
        {"_chat.txt": CHAT, "export.txt": SENT},
        {"a/_chat.txt": CHAT, "b/_chat.txt": SENT},
    ],
)
def test_where_several_texts_may_be_the_chat_it_is_asked_for(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(ImportFileError, match=r"\.txt is the chat cannot be seen: import that file alone"):
        read("whatsapp", write(tmp_path / "export", files))


@pytest.mark.parametrize("text", ["hello\n", "Ann: hi\n14/07/2017, 10:00 - Ann: hi\n"])
def test_what_is_no_chat_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportFileError, match=r"txt:1: it does not begin like a chat"):
        found(tmp_path, text)
    with pytest.raises(ImportFileError, match="not there"):
        read("whatsapp", write(tmp_path / "empty", {"a.jpg": b""}))


def test_a_text_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="more than 1000000 characters"):
        found(tmp_path, "14/07/2017, 10:00 - Ann: hi\n" + ("x" * 100_000 + "\n") * 11)
