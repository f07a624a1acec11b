"""JSON of DiscordChatExporter: one file for each channel or thread; a file, a folder or a zip of them.

A message is known by its `id`. A channel that was exported in parts is one conversation. What hangs on messages is in
a folder `NAME.json_Files` (DiscordChatExporter, ExportRequest.cs), and may be JSON too.

What good guesses get wrong: offsets are those of whoever exported, and differ from file to file; fractions have 2, 3 or
7 digits or none; kinds that the exporter does not know are written as numbers, and 20 and 23, answers to commands, are
messages; of a forwarded message the text stands in `forwardedMessage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..files import Files
from ..json_stream import JsonStream
from ..records import FoundConversation, FoundMessage, LeftOut, Options, Record
from ..times import iso_ms
from ._json import documents, objects
from ._text import id_of, names_of_files, not_read, text_of

_MEDIA: Final = "_Files/"
_SAID: Final = {"Default", "Reply", "0", "19", "20", "23", "ChatInputCommand", "ContextMenuCommand"}


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of an export."""
    names = [it for it in files.names if files.is_single or (it.endswith(".json") and _MEDIA not in it)]
    advice = "export with DiscordChatExporter as JSON"
    for _, document in documents(files, names, "*.json", "export of DiscordChatExporter", advice):
        yield from _Reader(files, options, document).root()
    yield from not_read(files, {*names})


class _Reader:
    def __init__(self, files: Files, options: Options, document: JsonStream) -> None:
        self._files, self._options, self._document = files, options, document
        self._guild: Any = None
        self._channel: Any = None

    def root(self) -> Iterator[Record]:
        document = self._document
        for key in document.fields():
            if key == "guild":
                self._guild = document.value()
            elif key == "channel":
                self._channel = document.value()
            elif key == "messages":
                yield from self._messages()
            else:
                document.skip()

    def _messages(self) -> Iterator[Record]:
        document = self._document
        channel = self._channel if isinstance(self._channel, dict) else {}
        conversation = id_of(channel.get("id"))
        if not conversation:
            raise self._files.error(document.where(), "messages without a channel: this is no whole export")
        yield self._conversation(conversation, channel)
        for where, value in objects(self._files, document):
            yield from self._message(conversation, value, where)

    def _conversation(self, conversation: str, channel: dict[str, Any]) -> FoundConversation:
        kind = text_of(channel.get("type"))
        if kind == "DirectTextChat":
            return FoundConversation(conversation, type="SINGLE")
        guild = self._guild if isinstance(self._guild, dict) else {}
        names = (text_of(guild.get("name")), text_of(channel.get("category")), text_of(channel.get("name")))
        title = names[2] if kind.startswith("Direct") else " / ".join(filter(None, names))
        return FoundConversation(conversation, title)

    def _message(self, conversation: str, it: dict[str, Any], where: str) -> Iterator[Record]:
        kind = id_of(it.get("type"))
        if kind not in _SAID:
            yield LeftOut(kind or "message", "it tells what happened, and is no message", where)
            return
        author = it.get("author") if isinstance(it.get("author"), dict) else {}
        assert isinstance(author, dict), "it was looked at"
        try:
            at_ms = iso_ms(text_of(it.get("timestamp")), self._options.zone)
        except ValueError:
            yield LeftOut("message", "it has no time", where)
            return
        user = id_of(author.get("id"))
        text = "\n".join(filter(None, _words(it)))
        if not user or not text:
            yield LeftOut("empty message", "it has no author, or no text and no file", where)
            return
        yield from _parts(it, where)
        name = text_of(author.get("nickname")) or text_of(author.get("name"))
        yield FoundMessage(conversation, user, at_ms, text, id_of(it.get("id")), name)


def _words(it: dict[str, Any]) -> Iterator[str]:
    yield text_of(it.get("content"))
    forwarded = it.get("forwardedMessage")
    if isinstance(forwarded, dict):
        yield text_of(forwarded.get("content"))
        yield from names_of_files(forwarded.get("attachments"), "fileName", "url")
    yield from names_of_files(it.get("attachments"), "fileName", "url")
    yield from names_of_files(it.get("stickers"), "name")
    for embed in it["embeds"] if isinstance(it.get("embeds"), list) and not it.get("content") else ():
        if isinstance(embed, dict):
            parts = (text_of(embed.get(key)) for key in ("title", "description", "url"))
            yield "\n".join(filter(None, parts))


def _parts(it: dict[str, Any], where: str) -> Iterator[LeftOut]:
    if it.get("timestampEdited"):
        yield LeftOut("edited messages", "the last text is carried over", where, is_message=False)
    if it.get("reference"):
        yield LeftOut("replies", "carried over without what they answer", where, is_message=False)
    if it.get("reactions"):
        yield LeftOut("messages with reactions", "carried over without them", where, is_message=False)
