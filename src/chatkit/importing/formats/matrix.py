"""A room that Element exported as JSON: the file, or the zip that it makes with attachments.

A message is known by its event id. Attachments are in folders beside `export.json` (element-web, Exporter.ts), and may
be JSON too: a room is what lies in no deeper folder than another file of JSON.

What good guesses get wrong: who made the room and who exported it are given as display names, which are nobody's ids;
the room's id stands in its events alone; an edit is an event of its own (`m.replace`), whose fallback text begins
with an asterisk; what was redacted has an empty content; what could not be decrypted is there without its words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..files import Files
from ..json_stream import JsonStream
from ..records import FoundConversation, FoundMessage, LeftOut, Options, Record
from ._json import documents, objects
from ._text import not_read, text_of

_FILES: Final = {"m.image", "m.file", "m.audio", "m.video"}


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of an export."""
    names, advice = files.topmost(".json"), "export the room from Element as JSON"
    for name, document in documents(files, names, "export.json", "room that Element exported", advice):
        yield from _Reader(files, options, document, name).root()
    yield from not_read(files, names)


class _Reader:
    def __init__(self, files: Files, options: Options, document: JsonStream, name: str) -> None:
        self._files, self._options, self._document, self._name = files, options, document, name
        self._title, self._room = "", ""
        self._members: dict[str, bool] = {}

    def root(self) -> Iterator[Record]:
        document = self._document
        for key in document.fields():
            if key == "room_name":
                self._title = text_of(document.value())
            elif key == "messages":
                yield from self._messages()
            else:
                document.skip()

    def _messages(self) -> Iterator[Record]:
        for where, it in objects(self._files, self._document):
            if isinstance(it.get("decrypted"), dict):
                it = it["decrypted"]
            if not self._room:
                self._room = text_of(it.get("room_id")) or self._options.conversation or self._name
                yield FoundConversation(self._room, self._title)
            yield from self._event(it, where)
        present = tuple(sorted(user for user, is_in in self._members.items() if is_in))
        if present:
            yield FoundConversation(self._room, self._title, members=present)

    def _event(self, it: dict[str, Any], where: str) -> Iterator[Record]:
        kind, sender, at_ms = text_of(it.get("type")), text_of(it.get("sender")), it.get("origin_server_ts")
        content = it.get("content") if isinstance(it.get("content"), dict) else {}
        assert isinstance(content, dict), "it was looked at"
        if kind == "m.room.member" and text_of(it.get("state_key")):
            self._members[text_of(it.get("state_key"))] = content.get("membership") == "join"
        reason = _reason(kind, content, it)
        if reason:
            yield LeftOut(kind or "event", reason, where)
            return
        if not sender or type(at_ms) is not int or at_ms < 0:
            yield LeftOut(kind, "it has no sender or no time", where)
            return
        self._members.setdefault(sender, True)
        if content.get("m.relates_to"):
            yield LeftOut("replies", "carried over without what they answer", where, is_message=False)
        yield FoundMessage(self._room, sender, at_ms, _text(kind, content), text_of(it.get("event_id")))


def _reason(kind: str, content: dict[str, Any], it: dict[str, Any]) -> str:
    """Why an event is left out; empty: it is a message."""
    relation = content.get("m.relates_to")
    if kind == "m.room.encrypted" or text_of(content.get("msgtype")) == "m.bad.encrypted":
        return "it could not be decrypted when it was exported"
    if kind not in {"m.room.message", "m.sticker"}:
        return "it is no message"
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        return "it is an edit; the first text is carried over"
    unsigned = it.get("unsigned")
    if not content or (isinstance(unsigned, dict) and "redacted_because" in unsigned):
        return "it was redacted"
    return "" if _text(kind, content) else "it has no text and no file"


def _text(kind: str, content: dict[str, Any]) -> str:
    body = text_of(content.get("body"))
    if kind == "m.sticker" or text_of(content.get("msgtype")) in _FILES:
        file = content.get("file")
        url = text_of(content.get("url")) or (text_of(file.get("url")) if isinstance(file, dict) else "")
        return f"[file] {body} {url}".rstrip()
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and "m.in_reply_to" in relation and body.startswith("> "):
        return _without_quote(body)
    return body


def _without_quote(body: str) -> str:
    """A reply without what it quotes: its fallback stands before it, up to an empty line."""
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        lines.pop(0)
    if lines and not lines[0]:
        lines.pop(0)
    return "\n".join(lines) or body
