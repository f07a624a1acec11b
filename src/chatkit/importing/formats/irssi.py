"""Logs of irssi: `--- Log opened`, `--- Day changed`, and lines that have no date.

`12:34 <@nick> text`, also with seconds; `12:34  * nick waves`; `-!-` tells what happened. Days are in the language of
the machine, but a month's first three letters are known in some of them. Times are local (`--timezone`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ..files import Files
from ..records import Options, Record
from ._irc import Channel, log_files

_OPENED: Final = re.compile(r"--- Log (opened|closed) \S+ (\S+) +(\d{1,2}) \d\d:\d\d:\d\d (\d{4})")
_CHANGED: Final = re.compile(r"--- Day changed \S+ (\S+) +(\d{1,2}) (\d{4})")
_LINE: Final = re.compile(r"(\d\d):(\d\d)(?::(\d\d))? (?:<([^>]+)> ?| \* (\S+) ?|-!- )(.*)")
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        ("jan ene gen janv", "feb fév fev", "mar mär mrt", "apr abr avr", "may mai mei mag", "jun jui giu juin",
         "jul lug juil", "aug ago aoû aou", "sep set", "oct okt ott out", "nov", "dec dez dic déc"), 1
    )
    for name in names.split()
}  # fmt: skip


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of logs."""
    for name in log_files(files, ".log"):
        channel = Channel(options.conversation or name.removesuffix(".log"))
        yield from channel.begin()
        yield from _log(files, name, channel, options)


def _log(files: Files, name: str, channel: Channel, options: Options) -> Iterator[Record]:
    day: tuple[int, int, int] | None = None
    for number, line in files.lines(name, options.encoding):
        if line.startswith("--- "):
            day = _day(line) or day
            continue
        found = _LINE.match(line)
        if found is None:
            if line.strip():
                yield channel.happened(f"{name}:{number}")
            continue
        if day is None:
            raise files.error(
                name, "a line comes before the first date: it does not begin like a log of irssi", number
            )
        hour, minute, second, said, waved, text = found.groups()
        nick = said or waved
        if nick is None:
            yield channel.happened(f"{name}:{number}")
            continue
        try:
            at_ms = options.zone.ms(*day, int(hour), int(minute), int(second or 0))
        except ValueError:
            raise files.error(name, "there is no such time", number) from None
        yield channel.said(nick, at_ms, f"* {nick} {text}" if waved else text, f"{name}:{number}")


def _day(line: str) -> tuple[int, int, int] | None:
    opened, changed = _OPENED.match(line), _CHANGED.match(line)
    if opened is not None:
        month, day, year = opened[2], opened[3], opened[4]
    elif changed is not None:
        month, day, year = changed[1], changed[2], changed[3]
    else:
        return None
    number = _MONTHS.get(month[:4].lower().rstrip(".")) or _MONTHS.get(month[:3].lower())
    return None if number is None else (int(year), number, int(day))
