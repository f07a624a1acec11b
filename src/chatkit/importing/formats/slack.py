"""A Slack export: the zip, or the folder it was unpacked to.

`users.json` says who is who; `channels.json`, `groups.json` (private), `mpims.json` and `dms.json` which conversations
there are. Of each there is a folder, by its name, else by its id, with a file for each day. Exports of a whole
organisation have the same shape. A message is known by its `ts`.

What good guesses get wrong: the root of a thread that was deleted stays, as a `tombstone`; users of other workspaces
are in messages and not in `users.json`; a bot's message has a `bot_id` and often no `user`; `<`, `>` and `&` are
escaped in texts, and mentions, channels and links are in angle brackets; a day ends by the exporter's time zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ...types import ConversationType, History
from ..files import Files
from ..json_stream import JsonStream
from ..records import FoundConversation, FoundMessage, FoundUser, LeftOut, Options, Record
from ._text import names_of_files, text_of, texts_of

_LISTS: Final[dict[str, ConversationType]] = {
    "channels.json": "GROUP",
    "groups.json": "GROUP",
    "mpims.json": "GROUP",
    "dms.json": "SINGLE",
}
_TS: Final = re.compile(r"(\d{1,12})\.(\d{1,6})\Z")
_MARKUP: Final = re.compile(r"<([^<>]*)>")
_SAID: Final = {
    "",
    "bot_message",
    "me_message",
    "thread_broadcast",
    "file_share",
    "file_comment",
    "reply_broadcast",
}
"""Subtypes that somebody wrote; the others tell what happened."""

_SERVICE: Final = {
    "tombstone": "it was deleted there; its thread stays",
    "channel_join": "who came and went is not carried over",
    "channel_leave": "who came and went is not carried over",
    "group_join": "who came and went is not carried over",
    "group_leave": "who came and went is not carried over",
}


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of an export."""
    root = _root(files)
    reader = _Reader(files, root)
    yield from reader.users()
    lists = [it for it in sorted(_LISTS) if root + it in files.names]
    if not lists:
        others = ", ".join(it for it in _LISTS if it != "channels.json")
        words = f"it is not there, nor is any of {others}: this is no Slack export, or it is incomplete"
        raise files.error(f"{root}channels.json", words)
    for name in lists:
        yield from reader.conversations(root + name, _LISTS[name])
    for name in files.names:
        folder, _, file = name.removeprefix(root).rpartition("/")
        if name.startswith(root) and folder and "/" not in folder and file.endswith(".json"):
            yield from reader.day(name, folder)


def _root(files: Files) -> str:
    """A zip may hold the export in a folder."""
    for name in files.names:
        if name == "users.json" or (name.endswith("/users.json") and name.count("/") == 1):
            return name.removesuffix("users.json")
    raise files.error("users.json", "it is not there: this is no Slack export, or it is incomplete")


class _Reader:
    def __init__(self, files: Files, root: str) -> None:
        self._files, self._root = files, root
        self._names: dict[str, str] = {}
        self._channels: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def users(self) -> Iterator[Record]:
        for document, it in self._objects(self._root + "users.json"):
            user = it.get("id")
            if not isinstance(user, str) or not user:
                raise self._files.error(document.where(), "a user without an id")
            profile = it.get("profile") if isinstance(it.get("profile"), dict) else {}
            assert isinstance(profile, dict), "it was looked at"
            names = (
                profile.get("display_name"),
                profile.get("real_name"),
                it.get("real_name"),
                it.get("name"),
            )
            name = next((text_of(found) for found in names if text_of(found)), user)
            self._names[user] = name
            yield FoundUser(user, name, text_of(profile.get("email")))

    def conversations(self, file: str, kind: ConversationType) -> Iterator[Record]:
        for document, it in self._objects(file):
            channel = it.get("id")
            if not isinstance(channel, str) or not channel:
                raise self._files.error(document.where(), "a conversation without an id")
            name = text_of(it.get("name"))
            self._channels[channel] = name or channel
            self._folders[channel] = channel
            if name:
                self._folders[name] = channel
            is_open = file.endswith("channels.json")
            members = tuple(texts_of(it.get("members")))
            history: History = "FROM_START" if is_open else "FROM_JOIN"
            title = "" if kind == "SINGLE" else name
            yield FoundConversation(channel, title, kind, members, text_of(it.get("creator")), history)

    def day(self, file: str, folder: str) -> Iterator[Record]:
        channel = self._folders.get(folder)
        if channel is None:
            yield LeftOut("files", "their folder is no conversation of the export", file, is_message=False)
            return
        for document, it in self._objects(file):
            yield from self._message(document, channel, it)

    def _message(self, document: JsonStream, channel: str, it: dict[str, Any]) -> Iterator[Record]:
        kind = text_of(it.get("subtype"))
        if kind not in _SAID or it.get("type", "message") != "message":
            reason = _SERVICE.get(kind, "it tells what happened, and is no message")
            yield LeftOut(kind or text_of(it.get("type")), reason, document.where())
            return
        found = _TS.match(text_of(it.get("ts")))
        author = text_of(it.get("user")) or text_of(it.get("bot_id")) or text_of(it.get("username"))
        if found is None or not author:
            yield LeftOut("message", "it has no time or no author", document.where())
            return
        text = self._plain(text_of(it.get("text"))) or _of_attachments(it)
        text = "\n".join(filter(None, [text, *names_of_files(_files(it), "name", "url_private")]))
        if not text:
            yield LeftOut("empty message", "it has no text and no file", document.where())
            return
        yield from _parts(it, document)
        at_ms = int(found[1]) * 1000 + int(found[2].ljust(6, "0")[:3])
        profile = it.get("user_profile")
        name = (
            text_of(profile.get("display_name")) if isinstance(profile, dict) else text_of(it.get("username"))
        )
        yield FoundMessage(channel, author, at_ms, text, found[0], name)

    def _plain(self, text: str) -> str:
        """A text without Slack's markup; what is in angle brackets in words."""
        if "<" in text:
            text = _MARKUP.sub(self._in_words, text)
        return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") if "&" in text else text

    def _in_words(self, found: re.Match[str]) -> str:
        target, _, label = found[1].partition("|")
        kind, name = target[:1], target[1:]
        if kind == "@":
            return f"@{label or self._names.get(name, name)}"
        if kind == "#":
            return f"#{label or self._channels.get(name, name)}"
        if kind == "!":
            return label if label.startswith("@") else f"@{label or name.partition('^')[0]}"
        return target if not label or label == target else f"{label} ({target.removeprefix('mailto:')})"

    def _objects(self, file: str) -> Iterator[tuple[JsonStream, dict[str, Any]]]:
        document = self._files.json(file)
        for _ in document.items():
            value = document.value()
            if not isinstance(value, dict):
                raise self._files.error(document.where(), "an object is missing")
            yield document, value
        document.end()


def _files(it: dict[str, Any]) -> Any:
    """Its files; in exports of before 2018 it has one, and under another name."""
    return it["files"] if "files" in it else [it.get("file")]


def _of_attachments(it: dict[str, Any]) -> str:
    """What a bot said, where all of it is in attachments."""
    attachments = it.get("attachments")
    if not isinstance(attachments, list):
        return ""
    found = (
        text_of(one.get("fallback")) or text_of(one.get("text"))
        for one in attachments
        if isinstance(one, dict)
    )
    return "\n".join(filter(None, found))


def _parts(it: dict[str, Any], document: JsonStream) -> Iterator[LeftOut]:
    if it.get("reactions"):
        yield LeftOut(
            "messages with reactions", "carried over without them", document.where(), is_message=False
        )
    if it.get("thread_ts") not in (None, it.get("ts")):
        yield LeftOut(
            "replies in threads",
            "they stand in their conversation by time",
            document.where(),
            is_message=False,
        )
    if it.get("edited"):
        yield LeftOut("edited messages", "the last text is carried over", document.where(), is_message=False)
