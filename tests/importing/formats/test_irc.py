"""Logs of IRC clients. The forms are those of ZNC's own writer (modules/log.cpp), of irssi's logs in the tests of
irssilog, and of WeeChat's before and after 4.8; nicks and words are others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatkit.errors import ImportFileError
from chatkit.importing.records import FoundConversation

from ..exports import left_out, messages, planned, read, write

JULY_14 = 1499990400000
MINUTE = 60_000


def test_znc_has_a_file_for_each_day_and_a_folder_for_each_channel(tmp_path: Path) -> None:
    day = (
        "[00:00:01] <ann> hi: there\n[00:01] <bob|away>\u00a0two\n[00:02:00] * ann waves\n"
        "[00:03:00] *** Joins: cat (c@host)\n[00:04:00] -serv- notice me\n=== topyli has left\n\n[00:05:00] <ann>\n"
    )
    folder = write(
        tmp_path,
        {"#a/2017-07-14.log": day, "#a/2017-07-15.log": "[00:00:00] <ann> next\n", "#b/2017-07-14.log": ""},
    )
    records = read("znc", folder)

    assert messages(records) == [
        ("ann", JULY_14 + 1_000, "hi: there"),
        ("bob|away", JULY_14 + MINUTE, "\u00a0two"),
        ("ann", JULY_14 + 2 * MINUTE, "* ann waves"),
        ("serv", JULY_14 + 4 * MINUTE, "notice me"),
        ("ann", JULY_14 + 1440 * MINUTE, "next"),
    ]
    assert left_out(records) == ["notice", "notice", "empty line"]
    assert [it.title for it in records if isinstance(it, FoundConversation)] == ["#a", "#b"]


def test_znc_of_one_channel_is_called_by_its_folder_or_as_it_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "ubuntu", {"2017-07-14_03.txt": "[00:00] <ann> hi\n"})
    assert planned(read("znc", folder)).made()[0].source == "ubuntu"
    assert planned(read("znc", folder, conversation="#u")).made()[0].source == "#u"
    named = write(tmp_path / "b", {"net_#chan_20170714.log": "[00:00] <ann> hi\n"})
    assert planned(read("znc", named)).made()[0].source == "net_#chan"


def test_weechat_before_and_after_the_version_that_writes_utc(tmp_path: Path) -> None:
    log = (
        "2017-07-14 02:00:00\t@ann\thi\tthere\n"
        "2017-07-14 02:01:00\t-->\tbob (b@h) has joined #a\n"
        "2017-07-14 02:02:00\t *\tann waves\n"
        "2017-07-14T00:03:00.123456Z\tbob\tnew\n"
        "2017-07-14 02:04:00\t\tno prefix\n"
    )
    records = read("weechat", write(tmp_path, {"irc.net.#a.weechatlog": log}), zone="Europe/Berlin")
    assert messages(records) == [
        ("ann", JULY_14, "hi\tthere"),
        ("ann", JULY_14 + 2 * MINUTE, "* ann waves"),
        ("bob", JULY_14 + 3 * MINUTE + 123, "new"),
    ]
    assert left_out(records) == ["notice", "notice"]
    assert planned(records).made()[0].source == "irc.net.#a"


def test_irssi_says_the_day_now_and_then(tmp_path: Path) -> None:
    log = (
        "--- Log opened Fri Jul 14 00:00:00 2017\n"
        "00:01 <@ann> hi\n00:02 < bob> > quote\n00:03  * ann waves\n00:04 -!- cat [c@h] has joined #a\n"
        "00:05:30 <+bob> seconds\n--- Day changed lun. aoû 14 2017\nhm\n00:06 <ann> august\n--- Log closed x\n"
    )
    records = read("irssi", write(tmp_path, {"net/#a.log": log}))
    assert messages(records) == [
        ("ann", JULY_14 + MINUTE, "hi"),
        ("bob", JULY_14 + 2 * MINUTE, "> quote"),
        ("ann", JULY_14 + 3 * MINUTE, "* ann waves"),
        ("bob", JULY_14 + 5 * MINUTE + 30_000, "seconds"),
        ("ann", JULY_14 + 31 * 1440 * MINUTE + 6 * MINUTE, "august"),
    ]
    assert left_out(records) == ["notice", "notice"]
    assert planned(records).made()[0].source == "net/#a"


@pytest.mark.parametrize(
    ("days", "months"),
    [
        (["fre maj 05"], [5]),
        (["pią lip 14", "wto sie 01", "śro lis 01"], [7, 8, 11]),
        (["pet lip 14", "uto kol 01", "sri lis 01"], [6, 8, 10]),
        (["Fri Jul 14", "pią maj 05"], [7, 5]),
        (["ven. juil. 14", "mar. août 01", "ven jui 14"], [7, 8, 7]),
        (["pe marras 03", "ti huhti 04"], [11, 4]),
        (["ds. de març 04", "ds. d’abr. 01"], [3, 4]),
        (["пт мая 05", "Пт. Июл 14"], [5, 7]),
        (["金  7月 14", "金 11月 03"], [7, 11]),
    ],
)
def test_irssi_says_the_day_in_the_language_of_its_machine(
    tmp_path: Path, days: list[str], months: list[int]
) -> None:
    log = "".join(f"--- Day changed {day} 2017\n00:00 <ann> hi\n" for day in days)
    records = read("irssi", write(tmp_path, {"a.log": log}))
    assert [datetime.fromtimestamp(it[1] / 1000, UTC).month for it in messages(records)] == months


@pytest.mark.parametrize(
    "day",
    [
        "--- Day changed fre xyz 05 2017",
        "--- Day changed pet lip 14 2017",
        "--- Log opened Fri May 2017",
        "--- Day changed",
    ],
)
def test_a_day_that_irssi_says_in_unknown_words_is_an_error(tmp_path: Path, day: str) -> None:
    log = f"--- Log opened Fri Apr 14 00:00:00 2017\n00:01 <ann> hi\n{day}\n00:02 <ann> ho\n"
    with pytest.raises(ImportFileError, match=r"a\.log:3: the day cannot be read"):
        read("irssi", write(tmp_path, {"a.log": log}))


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        ("znc", {"a.log": "[00:00] <a> b"}, r"a\.log: its name has no date"),
        ("znc", {"#party-2016-12-31_20170714.log": "[00:00] <a> b"}, r"log: its name has several dates"),
        ("znc", {"2017-07-14.log": "[00:00] <a> b\nhello\n"}, r"2017-07-14\.log:2: it is no line"),
        ("znc", {"2017-07-14.log": "[25:00] <a> b\n"}, r"log:1: there is no such time"),
        ("znc", {"2017-13-14.log": "[00:00] <a> b\n"}, r"log:1: there is no such time"),
        ("znc", {"2017-07-14.log": b"[00:00] <a> \xe9\n"}, r"log:1: byte 13 is not utf-8; .*--encoding"),
        ("weechat", {"a.weechatlog": "hello\n"}, r"weechatlog:1: .*the time is missing"),
        ("weechat", {"a.weechatlog": "2017-07-14 02:00:00\n"}, r"weechatlog:1: .*the columns are missing"),
        ("irssi", {"a.log": "00:00 <a> b\n"}, r"a\.log:1: a line comes before the first date"),
        ("irssi", {"a.log": "--- Log opened Fri Jul 14 00:00:00 2017\n00:99 <a> b\n"}, r"a\.log:2: there is no such"),
        ("irssi", {"a.txt": ""}, "not there"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_an_error_that_names_the_line(
    tmp_path: Path, name: str, files: dict[str, str], words: str
) -> None:
    with pytest.raises(ImportFileError, match=words):
        read(name, write(tmp_path, files))


def test_another_encoding_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path, {"2017-07-14.log": b"[00:00] <a> \xe9\n"})
    assert messages(read("znc", folder, encoding="latin-1")) == [("a", JULY_14, "\u00e9")]
