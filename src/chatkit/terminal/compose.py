"""Where a message is written."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key
from textual.message import Message as Event
from textual.widgets import TextArea

from ..types import Message
from .words import brief, text_of


class Compose(TextArea):
    """A few lines of text for one conversation; Enter posts `Submitted` and empties it, unless it is all space."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send"),
        Binding("ctrl+j", "new_line", "New line"),
    ]

    class Submitted(Event):
        """A message is to be sent.

        Attributes:
            conversation_id: Where it was written, whatever is open by now.
            text: What it says.
            reply_to: What it answers, if anything.
        """

        def __init__(self, conversation_id: str, text: str, reply_to: Message | None) -> None:
            super().__init__()
            self.reply_to = reply_to
            self.conversation_id = conversation_id
            self.text = text

    class Finish(Event):
        """Asks it for `Finished`, in turn behind the keys that it was sent."""

    class Finished(Event):
        """Every `Submitted` of the keys before has been posted before this."""

    def __init__(self, *, id: str, disabled: bool) -> None:
        super().__init__(
            id=id,
            disabled=disabled,
            tab_behavior="focus",
            placeholder="Write a message",
            highlight_cursor_line=False,
        )
        self._conversation_id = ""
        self._reply_to: Message | None = None

    def put(self, conversation_id: str, text: str) -> None:
        """Have this text of a conversation in it, and the cursor at its end."""
        self._conversation_id = conversation_id
        self.answer(None)
        self.text = text
        self.move_cursor(self.document.end)

    def answer(self, message: Message | None) -> None:
        """What is written answers this message, which the title says; None: it answers none."""
        self._reply_to = message
        self.border_title = "" if message is None else Content(f"answers {brief(text_of(message))}")

    def on_compose_finish(self, event: Finish) -> None:
        """Answer it behind what those keys led to."""
        event.stop()
        self.post_message(self.Finished())

    async def _on_key(self, event: Key) -> None:
        """Take Enter in its turn: a binding with priority would overtake letters that came in one burst with it."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_submit()

    def action_submit(self) -> None:
        """Hand over what was written."""
        text = self.text
        if text.strip():
            self.post_message(self.Submitted(self._conversation_id, text, self._reply_to))
            self.clear()
            self.answer(None)

    def action_new_line(self) -> None:
        """Begin another line."""
        self.insert("\n")
