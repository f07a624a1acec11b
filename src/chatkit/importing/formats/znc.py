"""Logs of ZNC's module `log`, and others of its form: a file for each day, whose name has the date.

`[12:34:56] <nick> text`, also without seconds; `* nick waves`; what happened begins with `***` or `===`. A folder with
several channels has a folder for each of them. Times are the bouncer's (`--timezone`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ..files import Files
from ..records import Options, Record
from ._irc import Channel, log_files

_DAY: Final = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?!\d)")
_LINE: Final = re.compile(
    r"\[(\d\d):(\d\d)(?::(\d\d))?\]\s+(?:<([^>\s]+)> ?|\* (\S+) |-([^\s*-][^\s]*)- )(.*)"
)
_TIMED: Final = re.compile(r"\[\d\d:\d\d(?::\d\d)?\] |===")


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of logs."""
    begun: set[str] = set()
    for name in log_files(files, ".log", ".txt"):
        dates = _DAY.findall(name.rpartition("/")[2])
        if not dates:
            raise files.error(name, "its name has no date such as 2024-02-29")
        if len(dates) > 1:
            raise files.error(name, "its name has several dates")
        channel = Channel(options.conversation or _channel(name) or files.stem)
        if channel.name not in begun:
            begun.add(channel.name)
            yield from channel.begin()
        year, month, day = map(int, dates[0])
        yield from _day(files, name, channel, (year, month, day), options)


def _channel(name: str) -> str:
    """The folder; of files that are in none, what stands before the date."""
    folder, _, file = name.rpartition("/")
    return folder or _DAY.split(file)[0].strip("_-.")


def _day(
    files: Files, name: str, channel: Channel, day: tuple[int, int, int], options: Options
) -> Iterator[Record]:
    for number, line in files.lines(name, options.encoding):
        found = _LINE.match(line)
        if found is None:
            if line.strip() and not _TIMED.match(line):
                raise files.error(name, "it is no line of such a log", number)
            if line.strip():
                yield channel.happened(f"{name}:{number}")
            continue
        hour, minute, second, said, waved, noticed, text = found.groups()
        try:
            at_ms = options.zone.ms(*day, int(hour), int(minute), int(second or 0))
        except ValueError:
            raise files.error(name, "there is no such time", number) from None
        nick = said or waved or noticed
        yield channel.said(nick, at_ms, f"* {nick} {text}" if waved else text, f"{name}:{number}")
