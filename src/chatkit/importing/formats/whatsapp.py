"""A chat that WhatsApp exported: the text, or the zip or folder with it and its media.

What good guesses get wrong: dates are in the order of the phone's language, which no line names: it is found from all
of them (`--date-order` says it where they do not tell); times are the phone's (`--timezone`), on Android to the minute,
and lines can be out of order; between the time and AM or PM there may be a narrow space, and marks of direction before
a line; a text may have any number of lines. Messages have no ids: they are known by what they say, who says it, and
when. What happened has no author; where it holds a colon it looks like a message all the same. A file that somebody
sent lies beside the chat, and may be a text, even the export of another chat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ...errors import ConfigurationError, ImportFileError
from ..files import Files
from ..records import FoundConversation, FoundMessage, LeftOut, Options, Record
from ..times import Zone
from ._text import not_read

_MARKS: Final = "\u200e\u200f\u202a\u202c\ufeff"
_LINE: Final = re.compile(
    r"\[?(\d{1,4})[-/.]\s?(\d{1,2})[-/.]\s?(\d{1,4})\.?,?\s"  # the date, in some order
    r"(?:\D{0,12}\s)?(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?"
    r"(?:\s?([AaPp])\.?\s?[Mm]\.?)?(?:\]\s?|\s[-\u2013]\s)(.*)",
    re.DOTALL,
)
_AUTHOR: Final = re.compile(r"([^:\n]{1,200}): (.*)|([^:\n]{1,200}):\Z", re.DOTALL)
_ORDERS: Final = ("DMY", "MDY", "YMD")
_TEXT_CHARS_MAX: Final = 1_000_000


class _Line(NamedTuple):
    """The beginning of a message: the three numbers of its date, and the rest."""

    number: int
    date: tuple[str, str, str]
    hour: int
    minute: int
    second: int
    half: str
    rest: str


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of an export."""
    if options.date_order and options.date_order not in _ORDERS:
        raise ConfigurationError(f"--date-order must be one of {', '.join(_ORDERS)}")
    name = _name(files, options.encoding)
    yield from _chat(files, name, options)
    yield from not_read(files, {name})


def _name(files: Files, encoding: str) -> str:
    """The one text that is the chat: on iOS `_chat.txt`, on Android called like the zip, in any language."""
    texts = files.topmost(".txt")
    if not texts:
        raise files.error("*.txt", "it is not there: this is no chat that WhatsApp exported")
    if len(texts) == 1:
        return texts[0]
    chats = [it for it in texts if _stem(it) in {"_chat", files.stem, _folder(it)}]
    chats = chats or [it for it in texts if _looks_like_a_chat(files, it, encoding)]
    if len(chats) != 1:
        first, second, *_ = chats or texts
        raise files.error(
            first, f"whether this or {second} is the chat cannot be seen: import that file alone"
        )
    return chats[0]


def _looks_like_a_chat(files: Files, name: str, encoding: str) -> bool:
    try:
        first = next((text for _, text in files.lines(name, encoding) if text.strip(_MARKS + " ")), "")
    except ImportFileError:
        return False
    return _begins(1, first) is not None


def _chat(files: Files, name: str, options: Options) -> Iterator[Record]:
    order = options.date_order or _order(files, name, options.encoding)
    conversation = options.conversation or _title(files, name)
    yield FoundConversation(conversation, conversation)
    for line, text in _messages(files, name, options.encoding):
        where = f"{name}:{line.number}"
        found = _AUTHOR.match(text)
        if found is None:
            yield LeftOut("notice", "it tells what happened, and is no message", where)
            continue
        author, words = (
            (found[1] or found[3]).strip(_MARKS + "~ \u202f"),
            (found[2] or "").strip(_MARKS + " "),
        )
        if not words or not author:
            yield LeftOut("empty message", "it has no text", where)
            continue
        try:
            at_ms = _ms(line, order, options.zone)
        except ValueError:
            reason = f"there is no such time, if dates are {order}; see --date-order"
            raise files.error(name, reason, line.number) from None
        yield FoundMessage(conversation, author, at_ms, words)


def _title(files: Files, name: str) -> str:
    """What the chat is called, by the name of its file; of iOS's `_chat.txt` by its folder or zip."""
    stem = _stem(name)
    if stem == "_chat":
        stem = _folder(name) or files.stem
    return stem.removeprefix("WhatsApp Chat with ").removeprefix("WhatsApp Chat - ")


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".txt")


def _folder(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _messages(files: Files, name: str, encoding: str) -> Iterator[tuple[_Line, str]]:
    """Each message with all of its lines."""
    begun: _Line | None = None
    texts: list[str] = []
    chars = 0
    for number, text in files.lines(name, encoding):
        line = _begins(number, text)
        if line is None and begun is None:
            if text.strip(_MARKS + " "):
                raise files.error(name, "it does not begin like a chat that WhatsApp exported", number)
        elif line is None:
            chars += len(text) + 1
            if chars > _TEXT_CHARS_MAX:
                raise files.error(name, f"a message has more than {_TEXT_CHARS_MAX} characters", number)
            texts.append(text)
        else:
            if begun is not None:
                yield begun, "\n".join(texts)
            begun, texts, chars = line, [line.rest], 0
    if begun is not None:
        yield begun, "\n".join(texts)


def _begins(number: int, text: str) -> _Line | None:
    found = _LINE.match(text.lstrip(_MARKS))
    if found is None:
        return None
    first, second, third, hour, minute, seconds, half, rest = found.groups()
    times = (int(hour), int(minute), int(seconds or 0))
    return _Line(number, (first, second, third), *times, (half or "").lower(), rest.lstrip(_MARKS))


def _order(files: Files, name: str, encoding: str) -> str:
    """In which order the dates are: the one in which all of them are dates."""
    possible, last = set(_ORDERS), 0
    for number, text in files.lines(name, encoding):
        line = _begins(number, text)
        if line is None:
            continue
        last = number
        possible &= _orders_of(line)
        if len(possible) == 1:
            return possible.pop()
        if not possible:
            raise files.error(name, "the dates are in no one order", number)
    if not last:
        raise files.error(name, "it does not begin like a chat that WhatsApp exported", 1)
    either = " or ".join(sorted(possible))
    raise files.error(name, f"whether dates are {either} cannot be seen: say --date-order", last)


def _orders_of(line: _Line) -> set[str]:
    first, second, third = (int(it) for it in line.date)
    if len(line.date[0]) == 4:
        return {"YMD"} if second <= 12 and third <= 31 else set()
    found = set()
    if len(line.date[2]) != 1:
        if first <= 31 and second <= 12:
            found.add("DMY")
        if first <= 12 and second <= 31:
            found.add("MDY")
    if len(line.date[2]) <= 2 and second <= 12 and third <= 31 and len(line.date[0]) == 2 and first > 31:
        found.add("YMD")
    return found


def _ms(line: _Line, order: str, zone: Zone) -> int:
    numbers = dict(zip(order, (int(it) for it in line.date), strict=True))
    year = numbers["Y"] if numbers["Y"] > 99 else 2000 + numbers["Y"]
    hour = line.hour
    if line.half:
        if not 1 <= hour <= 12:
            raise ValueError("no such hour")
        hour = hour % 12 + (12 if line.half == "p" else 0)
    return zone.ms(year, numbers["M"], numbers["D"], hour, line.minute, line.second)
