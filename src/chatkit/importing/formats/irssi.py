"""Logs of irssi: `--- Log opened`, `--- Day changed`, and lines that have no date.

`12:34 <@nick> text`, also with seconds; `12:34  * nick waves`; `-!-` tells what happened. Times are local
(`--timezone`). Days are in the language of the machine, which no line names: it is found from all of them, for `lip` is
July in Polish and June in Croatian.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from ..files import Files
from ..records import Options, Record
from ._irc import Channel, log_files

_NEW_DAY: Final = ("--- Log opened", "--- Day changed")
_DAY: Final = re.compile(
    r"--- (?:Log opened|Day changed) +\S+ +(?:de |d’)?(\S+?)\.? +(\d{1,2}) (?:\d\d:\d\d:\d\d )?(\d{4})"
)
_LINE: Final = re.compile(r"(\d\d):(\d\d)(?::(\d\d))? (?:<([^>]+)> ?| \* (\S+) ?|-!- )(.*)")
_UNKNOWN_DAY: Final = (
    "the day cannot be read; a month that is not known, or is another one in another language, can be"
    " written in English, such as Jul"
)

# The `abmon` of glibc's locales: what `strftime` prints for %b, in small letters and without a dot at the end.
_LANGUAGES: Final = tuple(
    {name: number for number, names in enumerate(year.split(), 1) for name in names.split("/")}
    for year in (
        "jan feb mar apr may jun jul aug sep oct nov dec",  # English
        "jan/jän feb mär apr mai jun jul aug sep okt nov dez",  # German
        "janv/jan févr/fév mars/mar avril/avr mai juin/jun juil/jui août/aoû sept/sep oct nov déc",  # French
        "ene feb mar abr may jun jul ago sep/set oct nov dic",  # Spanish
        "gen febr/feb març/mar abr maig/mai juny/jun jul ag/ago set oct nov des",  # Catalan
        "xan feb mar abr mai xuñ xul ago set out nov dec",  # Galician
        "jan fev mar abr mai jun jul ago set out nov dez",  # Portuguese
        "gen feb mar apr mag giu lug ago set ott nov dic",  # Italian
        "ian feb mar apr mai iun iul aug sep oct nov dec",  # Romanian
        "jan feb mrt apr mei jun jul aug sep okt nov dec",  # Dutch
        "jan feb mar apr maj jun jul aug sep okt nov dec",  # Swedish, Danish
        "jan feb mars april mai juni juli aug sep okt nov des",  # Norwegian
        "jan feb mar apr maí jún júl ágú sep okt nóv des",  # Icelandic
        "tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu",  # Finnish
        "jaan veebr märts apr mai juuni juuli aug sept okt nov dets",  # Estonian
        "jan feb mar apr mai jūn jūl aug sep okt nov dec",  # Latvian
        "saus vas kov bal geg birž liep rugp rugs spal lapkr gruod",  # Lithuanian
        "sty lut mar kwi maj cze lip sie wrz paź lis gru",  # Polish
        "led úno bře dub kvě čen čec srp zář říj lis pro",  # Czech
        "jan feb mar apr máj jún júl aug sep okt nov dec",  # Slovak
        "jan febr márc ápr máj jún júl aug szept okt nov dec",  # Hungarian
        "jan feb mar apr maj jun jul avg sep okt nov dec",  # Slovenian, Serbian
        "sij velj ožu tra svi lip srp kol ruj lis stu pro",  # Croatian
        "јан феб/фев мар апр мај јун јул авг сеп окт нов/ное дец/дек",  # Serbian, Macedonian
        "яну фев мар апр май юни юли авг сеп окт ное дек",  # Bulgarian
        "янв фев мар апр мая/май июн июл авг сен окт ноя дек",  # Russian
        "січ лют бер кві тра чер лип сер вер жов лис гру",  # Ukrainian
        "сту лют сак кра мая/май чэр ліп жні вер кас ліс сне",  # Belarusian
        "ιαν φεβ μαρ απρ μαΐ ιουν ιουλ αυγ σεπ οκτ νοε δεκ",  # Greek
        "oca şub mar nis may haz tem ağu eyl eki kas ara",  # Turkish
        "jan feb mar apr mei jun jul agu sep okt nov des",  # Indonesian
        "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",  # Chinese, Japanese
        "1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",  # Korean
    )
)


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of logs."""
    for name in log_files(files, ".log"):
        channel = Channel(options.conversation or name.removesuffix(".log"))
        yield from channel.begin()
        yield from _log(files, name, channel, options)


def _log(files: Files, name: str, channel: Channel, options: Options) -> Iterator[Record]:
    months = _months(files, name, options.encoding)
    day: tuple[int, int, int] | None = None
    for number, line in files.lines(name, options.encoding):
        if line.startswith(_NEW_DAY):
            day = _day(line, months)
            if day is None:
                raise files.error(name, _UNKNOWN_DAY, number)
            continue
        if line.startswith("--- "):
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


def _months(files: Files, name: str, encoding: str) -> dict[str, int]:
    """The names of months that mean one month, in the languages that have all of the log's, or else in any."""
    said = {found[1].lower() for _, line in files.lines(name, encoding) if (found := _DAY.match(line))}
    languages = [it for it in _LANGUAGES if said <= it.keys()] or _LANGUAGES
    pairs = {pair for it in languages for pair in it.items()}
    meanings = Counter(month for month, _ in pairs)
    return {month: number for month, number in pairs if meanings[month] == 1}


def _day(line: str, months: dict[str, int]) -> tuple[int, int, int] | None:
    found = _DAY.match(line)
    number = months.get(found[1].lower()) if found else None
    return (int(found[3]), number, int(found[2])) if found and number else None
