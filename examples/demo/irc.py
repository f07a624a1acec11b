"""IRC logs as messages: pure parsing of lines, and the encoding of nicks into user ids.

Every line of a log becomes exactly one message:

- `[12:18] <nick> text`: TEXT by the nick; the text may be empty.
- `[12:18]  * nick waves`, and `=== nick waves` in logs of 2004: CUSTOM `irc.action` by the nick, data `{action}`.
- `=== nick [user@host]  has joined #x`, has left, has quit: CUSTOM `irc.event` by the nick, data `{event}`.
- `=== old is now known as new`: CUSTOM `irc.event` by the old nick, data `{event: "renamed", to: "new"}`.
- Anything else (modes, topics, blank lines): TEXT by the user `log`, counted as not understood.

A CUSTOM carries the words of the line as `fallbackText`. A rename links nothing: old and new nick stay two users.
What messages cannot hold is replaced: NUL by U+FFFD. Used by `replay`; does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from chatkit.errors import ConfigurationError
from chatkit.types import Payload

Kind = Literal["text", "action", "event", "unknown"]
KINDS: tuple[Kind, ...] = ("text", "action", "event", "unknown")

LOG_USER_ID = "log"
"""Who sends the lines that belong to no nick; cannot be a nick's id."""

_PREFIX = "irc:"
_ID_LENGTH_MAX = 128
_LINE_CHARACTERS_MAX = 16_000
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")
_ENCODED = re.compile(r"(?:[A-Za-z0-9-]|_[0-9a-f]{2})+")

_TEXT = re.compile(r"\[\d\d:\d\d\] <([^<>\s]+) *>(?: (.*))?", re.DOTALL)
_ACTION = re.compile(r"\[\d\d:\d\d\] +\* (\S+)(?: (.*))?", re.DOTALL)
_STAR_LINE = re.compile(r"=== ([^\s/#]+) +(?!:)(.*)", re.DOTALL)
_EVENT = re.compile(r"(?:\[[^\]]*\] +)?has (joined|left|quit)\b", re.DOTALL)
_RENAME = re.compile(r"is now known as (\S+)", re.DOTALL)


class Line(msgspec.Struct, frozen=True):
    """One line of a log, as the message it becomes.

    Attributes:
        user_id: Who sends it: the nick's id, or `LOG_USER_ID`.
        kind: What it was taken for; `unknown` goes to the log user.
        payload: What is sent.
    """

    user_id: str
    kind: Kind
    payload: Payload


def parse_log(text: str) -> list[Line]:
    """Every line of a log, in order. Lines end with LF or CR LF; a last line without an end counts too.

    Raises:
        ConfigurationError: It holds no line, or one so long that it is no chat.
    """
    return list(_parse_lines(text))


def parse_line(line: str) -> Line:
    """The message that one line becomes; never fails."""
    return _spoken(line) or _starred(line) or _unknown(line)


def nick_to_user_id(nick: str) -> str:
    """The user id of a nick: `irc:`, then letters, digits and hyphens as they are, other bytes of its UTF-8 as `_hh`.

    Different nicks have different ids; `user_id_to_nick` is the way back.

    Raises:
        ValueError: The nick is empty, or its id would be longer than ids may be.
    """
    user_id = _PREFIX + "".join(
        chr(byte) if byte in _SAFE else f"_{byte:02x}" for byte in nick.encode("utf-8")
    )
    if not nick or len(user_id) > _ID_LENGTH_MAX:
        raise ValueError(f"no user id for a nick of {len(nick)} characters")
    return user_id


def user_id_to_nick(user_id: str) -> str:
    """The nick that `nick_to_user_id` made this id of.

    Raises:
        ValueError: It is not such an id.
    """
    encoded = user_id.removeprefix(_PREFIX)
    if encoded == user_id or not _ENCODED.fullmatch(encoded):
        raise ValueError(f"{user_id!r} is not the id of a nick")
    nick = re.sub(rb"_(..)", lambda match: bytes.fromhex(match[1].decode()), encoded.encode()).decode("utf-8")
    if nick_to_user_id(nick) != user_id:
        raise ValueError(f"{user_id!r} is not the id of a nick")
    return nick


def _parse_lines(text: str) -> Iterator[Line]:
    lines = text.replace("\x00", "\ufffd").split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise ConfigurationError("the log holds no line")
    for number, line in enumerate(lines, 1):
        if len(line) > _LINE_CHARACTERS_MAX:
            raise ConfigurationError(f"line {number} has {len(line)} characters; that is no chat log")
        yield parse_line(line.removesuffix("\r"))


def _spoken(line: str) -> Line | None:
    match = _TEXT.fullmatch(line)
    return _by(match[1], "text", {"type": "TEXT", "text": match[2] or ""}) if match else None


def _starred(line: str) -> Line | None:
    if match := _ACTION.fullmatch(line):
        return _action(match[1], match[2] or "")
    match = _STAR_LINE.fullmatch(line)
    if match is None or match[1] == "Topic":
        return None
    nick, rest = match[1], match[2]
    if event := _EVENT.match(rest):
        return _event(nick, line, {"event": event[1]})
    if renamed := _RENAME.fullmatch(rest):
        return _event(nick, line, {"event": "renamed", "to": renamed[1]})
    return _action(nick, rest)


def _action(nick: str, action: str) -> Line | None:
    fallback = f"* {nick} {action}".rstrip()
    return _by(nick, "action", _custom("irc.action", {"action": action}, fallback))


def _event(nick: str, line: str, data: dict[str, str]) -> Line | None:
    return _by(nick, "event", _custom("irc.event", data, line.removeprefix("=== ")))


def _custom(schema: str, data: dict[str, str], fallback: str) -> Payload:
    return {"type": "CUSTOM", "schema": schema, "data": data, "fallbackText": fallback}


def _by(nick: str, kind: Kind, payload: Payload) -> Line | None:
    try:
        return Line(nick_to_user_id(nick), kind, payload)
    except ValueError:
        return None


def _unknown(line: str) -> Line:
    return Line(LOG_USER_ID, "unknown", {"type": "TEXT", "text": line})
