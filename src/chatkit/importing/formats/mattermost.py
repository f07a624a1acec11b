"""A bulk export of Mattermost: its `.jsonl`, or the zip or folder that `mmctl export` makes.

What good guesses get wrong: posts have no id, so they are known by what they say, who says it, where and when; replies
hang on their post and stand in the log right after it, with later times; `teams`, `replies` and others may be null;
people who write to each other are named once for each direct channel or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...types import ConversationType, History
from ..files import Files
from ..records import FoundConversation, FoundMember, FoundMessage, FoundUser, LeftOut, Options, Record
from ._text import names_of_files, text_of, texts_of

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of an export."""
    names = [it for it in files.names if it.endswith((".jsonl", ".json")) and it.count("/") <= 1]
    names = files.names if files.is_single else [it for it in names if it.endswith(".jsonl")] or names
    if not names:
        raise files.error("*.jsonl", "it is not there: this is no bulk export of Mattermost")
    for name in names:
        yield from _Reader(files, name).all()


class _Reader:
    def __init__(self, files: Files, name: str) -> None:
        self._files, self._name = files, name

    def all(self) -> Iterator[Record]:
        has_version = False
        for number, line in self._files.lines(self._name):
            if not line.strip():
                continue
            try:
                it = _decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise self._files.error(self._name, f"no JSON object: {error}", number) from None
            kind = text_of(it.get("type"))
            if not has_version and kind != "version":
                raise self._files.error(self._name, "the first line must be the version", number)
            has_version = True
            value = it.get(kind)
            yield from self._line(kind, value if isinstance(value, dict) else {}, f"{self._name}:{number}")

    def _line(self, kind: str, it: dict[str, Any], where: str) -> Iterator[Record]:
        if kind == "channel":
            is_open = it.get("type") == "O"
            title = text_of(it.get("display_name")) or text_of(it.get("name"))
            history: History = "FROM_START" if is_open else "FROM_JOIN"
            yield FoundConversation(
                _channel(it.get("team"), it.get("name")), title, members=(), history=history
            )
        elif kind == "user":
            yield from _user(it)
        elif kind == "direct_channel":
            yield from _direct(it.get("members"))
        elif kind == "post":
            yield from _post(_channel(it.get("team"), it.get("channel")), it, where)
        elif kind == "direct_post":
            yield from _direct(it.get("channel_members"))
            yield from _post(_pair(it.get("channel_members")), it, where)
        elif kind not in {"version", "team"}:
            yield LeftOut(kind or "line", "it is no message", where, is_message=False)


def _channel(team: Any, name: Any) -> str:
    return f"{text_of(team)}:{text_of(name)}"


def _pair(members: Any) -> str:
    """What a direct channel is called: it has no name of its own."""
    return "direct:" + ",".join(sorted(set(texts_of(members))))


def _direct(members: Any) -> Iterator[Record]:
    users = tuple(sorted(set(texts_of(members))))
    if users:
        kind: ConversationType = "SINGLE" if len(users) == 2 else "GROUP"
        yield FoundConversation(_pair(members), type=kind, members=users)


def _user(it: dict[str, Any]) -> Iterator[Record]:
    user = text_of(it.get("username"))
    if not user:
        return
    names = (
        text_of(it.get("nickname")),
        f"{text_of(it.get('first_name'))} {text_of(it.get('last_name'))}".strip(),
    )
    yield FoundUser(user, next(filter(None, names), user), text_of(it.get("email")))
    teams = it.get("teams")
    for team in teams if isinstance(teams, list) else ():
        channels = team.get("channels") if isinstance(team, dict) else None
        for channel in channels if isinstance(channels, list) else ():
            if isinstance(channel, dict):
                yield FoundMember(_channel(team.get("name"), channel.get("name")), user)


def _post(conversation: str, it: dict[str, Any], where: str) -> Iterator[Record]:
    author, at_ms = text_of(it.get("user")), it.get("create_at")
    kind = text_of(it.get("type"))
    if kind.startswith("system_"):
        yield LeftOut(kind, "it tells what happened, and is no message", where)
    elif not author or type(at_ms) is not int or at_ms < 0:
        yield LeftOut("post", "it has no author or no time", where)
    else:
        text = "\n".join(
            filter(None, [text_of(it.get("message")), *names_of_files(it.get("attachments"), "path")])
        )
        if text:
            yield FoundMessage(conversation, author, at_ms, text)
        else:
            yield LeftOut("empty post", "it has no text and no file", where)
    if it.get("reactions"):
        yield LeftOut("messages with reactions", "carried over without them", where, is_message=False)
    replies = it.get("replies")
    for reply in replies if isinstance(replies, list) else ():
        if isinstance(reply, dict):
            yield LeftOut("replies in threads", "they stand behind their post", where, is_message=False)
            yield from _post(conversation, {**reply, "replies": None}, where)
