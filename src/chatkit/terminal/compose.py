"""Where a message is written."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message as Event
from textual.widgets import TextArea


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
        """

        def __init__(self, conversation_id: str, text: str) -> None:
            super().__init__()
            self.conversation_id = conversation_id
            self.text = text

    def __init__(self, *, id: str, disabled: bool) -> None:
        super().__init__(
            id=id,
            disabled=disabled,
            tab_behavior="focus",
            placeholder="Write a message",
            highlight_cursor_line=False,
        )
        self._conversation_id = ""

    def put(self, conversation_id: str, text: str) -> None:
        """Have this text of a conversation in it, and the cursor at its end."""
        self._conversation_id = conversation_id
        self.text = text
        self.move_cursor(self.document.end)

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
            self.clear()
            self.post_message(self.Submitted(self._conversation_id, text))

    def action_new_line(self) -> None:
        """Begin another line."""
        self.insert("\n")
