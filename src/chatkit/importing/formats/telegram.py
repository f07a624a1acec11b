"""An export of Telegram Desktop as JSON: the folder, or its `result.json`; of one chat, or of all.

A message is known by its `id` in its chat.

What good guesses get wrong: text may be a list of texts and objects, and be missing where there is a `rich_message`;
old exports have local times without a zone (`--timezone`), and ids that are numbers; unedited messages are `edited` in
1970; a group that became a supergroup goes on under another id, with messages from 1 on; members are named, not
identified; a control character is written as `\\x0B`, which no JSON is: it is mended here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ...types import ConversationType
from ..files import Files
from ..json_stream import VALUE_CHARS_MAX, JsonStream
from ..records import FoundConversation, FoundMessage, LeftOut, Options, Record
from ..times import iso_ms
from ._json import objects
from ._text import id_of, names_of_files, text_of

_HEX: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\x([0-9A-Fa-f]{2})")
_MAY_GO_ON: Final = re.compile(r"(?:x[0-9A-Fa-f]?)?")
_FILES: Final = ("photo", "file", "contact_vcard")
_DEPTH_MAX: Final = 20


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of an export."""
    name = _result(files)
    document = JsonStream(_mended(files.pieces(name)), name)
    if document.next_char() != "{":
        raise files.error(document.where(), "an object is missing: this is no export of Telegram")
    reader = _Reader(files, options, document)
    yield from reader.root()
    document.end()


def _result(files: Files) -> str:
    if files.is_single:
        return files.names[0]
    for name in files.names:
        if name == "result.json" or (name.endswith("/result.json") and name.count("/") == 1):
            return name
    raise files.error("result.json", "it is not there: export from Telegram Desktop as JSON")


def _mended(pieces: Iterator[str]) -> Iterator[str]:
    kept = ""
    for piece in pieces:
        text = kept + piece
        text, kept = _without_tail(text)
        if text:
            yield _HEX.sub(r"\1\\u00\2", text) if "\\x" in text else text
    if kept:
        yield kept


def _without_tail(text: str) -> tuple[str, str]:
    """The text up to the backslashes at its end that may belong to what comes next, and the rest."""
    last = text.rfind("\\")
    if last < 0 or not _MAY_GO_ON.fullmatch(text, last + 1):
        return text, ""
    start = len(text[: last + 1].rstrip("\\"))
    return (text[:start], text[start:]) if len(text) - start <= VALUE_CHARS_MAX else (text, "")


class _Chat:
    """What is known of a chat before its messages."""

    def __init__(self) -> None:
        self.id = self.type = self.name = ""


class _Reader:
    def __init__(self, files: Files, options: Options, document: JsonStream) -> None:
        self._files, self._options, self._document = files, options, document
        self._me = options.me

    def root(self) -> Iterator[Record]:
        """One chat, or all of an account."""
        chat, document = _Chat(), self._document
        for key in document.fields():
            if key in {"chats", "left_chats"}:
                yield from self._lists(key)
            elif key == "personal_information":
                self._own(document.value())
            else:
                yield from self._part(chat, key)

    def _own(self, found: Any) -> None:
        if isinstance(found, dict) and id_of(found.get("user_id")):
            self._me = self._me or f"user{id_of(found.get('user_id'))}"

    def _lists(self, where: str) -> Iterator[Record]:
        document = self._document
        if document.next_char() != "{":
            document.skip()
            return
        for key in document.fields():
            if key != "list":
                document.skip()
                continue
            for _ in document.items():
                chat = _Chat()
                for part in document.fields():
                    yield from self._part(chat, part)

    def _part(self, chat: _Chat, key: str) -> Iterator[Record]:
        document = self._document
        if key in {"id", "type", "name"}:
            setattr(chat, key, id_of(document.value()))
        elif key == "messages":
            yield from self._messages(chat)
        else:
            document.skip()

    def _messages(self, chat: _Chat) -> Iterator[Record]:
        document = self._document
        if not chat.id:
            raise self._files.error(document.where(), "messages of a chat without an id")
        kind: ConversationType = "SINGLE" if chat.type in {"personal_chat", "bot_chat"} else "GROUP"
        members = (self._me,) if self._me and kind == "SINGLE" else None
        is_public = chat.type.startswith("public_")
        title = "" if kind == "SINGLE" else chat.name
        yield FoundConversation(chat.id, title, kind, members, "", "FROM_START" if is_public else "FROM_JOIN")
        for where, value in objects(self._files, document):
            yield from self._message(chat, value, where)

    def _message(self, chat: _Chat, it: dict[str, Any], where: str) -> Iterator[Record]:
        if it.get("type") != "message":
            kind = text_of(it.get("action")) or text_of(it.get("type")) or "service"
            yield LeftOut(kind, "it tells what happened, and is no message", where)
            return
        author, name = _author(it, chat)
        at_ms = self._at_ms(it)
        if at_ms is None:
            yield LeftOut("message", "it has no time", where)
            return
        text = "\n".join(filter(None, [_text(it), *_media(it)]))
        if not text:
            yield LeftOut("empty message", "it has no text and no file", where)
            return
        yield from _parts(it, where)
        yield FoundMessage(chat.id, author, at_ms, text, id_of(it.get("id")), name)

    def _at_ms(self, it: dict[str, Any]) -> int | None:
        seconds = id_of(it.get("date_unixtime"))
        if seconds.isdigit() and len(seconds) < 13:
            return int(seconds) * 1000
        try:
            return iso_ms(text_of(it.get("date")), self._options.zone)
        except ValueError:
            return None


def _author(it: dict[str, Any], chat: _Chat) -> tuple[str, str]:
    """Who wrote it: of a deleted account only the id is known, of a channel's own posts not even that."""
    found, name = id_of(it.get("from_id")), text_of(it.get("from"))
    if found.isdigit():
        found = f"user{found}"  # as newer exports have it
    return found or name or f"channel{chat.id}", name


def _text(it: dict[str, Any]) -> str:
    for key in ("text", "text_entities"):
        found = _joined(it.get(key))
        if found:
            return found
    return _rich(it.get("rich_message"))


def _joined(value: Any) -> str:
    """A text that may be cut into parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    return "".join(it if isinstance(it, str) else _entity(it) for it in value)


def _entity(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    text, href = text_of(value.get("text")), text_of(value.get("href"))
    return f"{text} ({href})" if href and value.get("type") == "text_link" and href != text else text


def _rich(value: Any, depth: int = 0) -> str:
    """The words of a message that is a page of blocks."""
    if depth > _DEPTH_MAX:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        between = "" if all(isinstance(it, str) or _is_inline(it) for it in value) else "\n"
        return between.join(filter(None, (_rich(it, depth + 1) for it in value)))
    if isinstance(value, dict):
        wanted = ("title", "text", "caption", "blocks", "items", "content", "cells", "rows")
        return "\n".join(filter(None, (_rich(value.get(key), depth + 1) for key in wanted)))
    return ""


def _is_inline(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str) and len(value) <= 3


def _media(it: dict[str, Any]) -> Iterator[str]:
    yield from names_of_files([{"name": it[key]} for key in _FILES if text_of(it.get(key))], "name")
    if text_of(it.get("sticker_emoji")):
        yield text_of(it["sticker_emoji"])
    place, poll, contact = it.get("location_information"), it.get("poll"), it.get("contact_information")
    if isinstance(place, dict):
        yield f"[place] {text_of(it.get('place_name'))} {place.get('latitude')}, {place.get('longitude')}"
    if isinstance(poll, dict) and text_of(poll.get("question")):
        yield f"[poll] {text_of(poll.get('question'))}"
    if isinstance(contact, dict):
        words = (text_of(contact.get(key)) for key in ("first_name", "last_name", "phone_number"))
        yield "[contact] " + " ".join(filter(None, words))


def _parts(it: dict[str, Any], where: str) -> Iterator[LeftOut]:
    edited = text_of(it.get("edited"))
    if edited and not edited.startswith("1970-01-0"):
        yield LeftOut("edited messages", "the last text is carried over", where, is_message=False)
    if it.get("reply_to_message_id"):
        yield LeftOut("replies", "carried over without what they answer", where, is_message=False)
    if it.get("reactions"):
        yield LeftOut("messages with reactions", "carried over without them", where, is_message=False)
