"""Streamed messages that are open, as far as this device has their parts; and which of them must be asked for again.

Parts are hints: nothing of them is stored, and what is missing comes with the message when it is asked for, by a page
of one entry. That is also how the server learns that this connection wants its parts. Called by `inbox` with what
arrives, by `connection` for what is to be asked, by `history` for what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from ..core.marks import named_seq
from ..types import Marks, Message, StreamProgress
from ..wire import events as ev
from .events import (
    ChatEvent,
    ConversationChanged,
    EpochChanged,
    MessageEdited,
    MessageRecalled,
    MessageReceived,
    StreamGrew,
)

MISSED_MAX: Final = 256
"""Messages of which it is kept that parts came before them; of older ones the next part is waited for."""

OPEN_MAX: Final = 256
"""Streams that are followed at once; the oldest is let go for a new one, and its end brings all of it."""

Place = tuple[str, int]
"""(conversation id, seq)."""


class _Open:
    """One stream, with all of its text: each part makes that anew, which is 60 KiB at most."""

    __slots__ = ("message_id", "parts", "text")

    def __init__(self, message_id: str, parts: int, text: str) -> None:
        self.message_id = message_id
        self.parts = parts
        self.text = text


class OpenStreams:
    """The open streams of one client."""

    def __init__(self) -> None:
        self._open: dict[Place, _Open] = {}
        self._to_ask: dict[Place, None] = {}
        self._missed: dict[Place, None] = {}
        self._start: Callable[[], object] | None = None
        self._asking = False

    def note(self, event: ChatEvent) -> None:
        """Take note of what the app is told: a stream begins or ends."""
        kind = type(event)
        if kind is MessageReceived:
            if event.message.payload.get("type") == "STREAM":  # type: ignore[union-attr]
                self.see(event.message)  # type: ignore[union-attr]
        elif self._open and isinstance(event, MessageEdited | MessageRecalled):
            self._forget((event.conversation_id, event.seq))
        elif self._open and (
            isinstance(event, EpochChanged)
            or (isinstance(event, ConversationChanged) and event.change == "LEFT")
        ):
            for place in [it for it in self._open if it[0] == event.conversation_id]:
                self._forget(place)

    def sent(self, message: Message) -> None:
        """A message of this device has its place; the app is told by the answer to it, and of no edit."""
        target = named_seq(message) if message.type == "EDIT" else None
        if target is not None:
            self._forget((message.conversation_id, target))

    def see(self, message: Message) -> StreamGrew | None:
        """A message as it is shown. Returns what the app is to be told, if it is open and further than was known."""
        place = (message.conversation_id, message.seq)
        if not message.is_open:
            self._forget(place)
            return None
        shown = None if message.marks is None else message.marks.stream
        if shown is None:
            self.grew(place, message.message_id, 0, str(message.payload.get("text", "")))
            return None
        return self.grew(place, message.message_id, shown.parts, shown.text)

    def grew(self, place: Place, message_id: str, parts: int, text: str) -> StreamGrew | None:
        """So many parts are there. Returns what the app is to be told, if these are more than were known."""
        known = self._open.get(place)
        if known is not None and known.parts >= parts:
            return None
        if known is None and len(self._open) >= OPEN_MAX:
            self._forget(next(iter(self._open)))
        self._open[place] = _Open(message_id, parts, text)
        if self._missed.pop(place, False) is None:
            self._ask(place)
        return StreamGrew(place[0], message_id, place[1], parts, text) if parts else None

    def part(self, event: ev.StreamPartPush) -> StreamGrew | None:
        """A part arrived. Returns what the app is to be told, if it is the next one; after a hole it is asked for."""
        place = (event.conversation_id, event.seq)
        known = self._open.get(place)
        if (
            known is None
        ):  # its message waits for one before it, or this device has another reason to know nothing of it
            self._missed[place] = None
            if len(self._missed) > MISSED_MAX:
                del self._missed[next(iter(self._missed))]
            return None
        if event.part <= known.parts:
            return None
        if event.part > known.parts + 1:
            self._ask(place)
            return None
        known.parts += 1
        known.text += event.text
        return StreamGrew(event.conversation_id, known.message_id, event.seq, known.parts, known.text)

    def connected(self, start: Callable[[], object]) -> None:
        """A new connection: it was shown none of them yet.

        Args:
            start: Called when there is something to ask for and nobody asks: begins to take it, until there is nothing.
        """
        self._start, self._asking = start, False
        for place in self._open:
            self._ask(place)

    def disconnected(self) -> None:
        """Nothing can be asked for."""
        self._start = None

    def want(self, messages: Iterable[Message]) -> None:
        """The app looks at these: those that are open and not followed yet are asked for."""
        for message in messages:
            if message.is_open and (message.conversation_id, message.seq) not in self._open:
                self.see(message)
                self._ask((message.conversation_id, message.seq))

    def shown(self, message: Message) -> Message:
        """A message with what is known here of its text."""
        known = self._open.get((message.conversation_id, message.seq))
        if known is None or not message.is_open:
            return message
        marks = message.marks or Marks(message.seq)
        if marks.stream is not None and marks.stream.parts >= known.parts:
            return message
        return replace(message, marks=replace(marks, stream=StreamProgress(known.parts, known.text)))

    def dropped(self, conversation_id: str) -> None:
        """The server left something out of what it pushed of a conversation: parts, maybe."""
        for place in self._open:
            if place[0] == conversation_id:
                self._ask(place)

    def take(self) -> Place | None:
        """The next one to ask for; None if there is none, and whoever asked is done."""
        place = next(iter(self._to_ask), None)
        if place is None:
            self._asking = False
        else:
            del self._to_ask[place]
        return place

    def again(self, place: Place) -> None:
        """It could not be asked for now."""
        if place in self._open:
            self._ask(place)

    def gone(self, place: Place) -> None:
        """There is no such message any more, for this user."""
        self._forget(place)

    def _ask(self, place: Place) -> None:
        self._to_ask[place] = None
        if self._start is not None and not self._asking:
            self._asking = True
            self._start()

    def _forget(self, place: Place) -> None:
        for kept in (self._open, self._to_ask, self._missed):
            kept.pop(place, None)
