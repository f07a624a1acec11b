"""The messages of one conversation, as a list that stays where its reader is."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message as Event
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from .words import Row


class MessageList(OptionList):
    """Rows, the newest at the bottom. What is at the end stays at the end; what was scrolled to stays in view.

    Posts `EdgeReached` whenever its first or its last row comes into view by scrolling.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "reply", "Reply")]

    class ReplyWanted(Event):
        """The chosen row is to be answered.

        Attributes:
            row_id: Its id.
        """

        def __init__(self, row_id: str) -> None:
            super().__init__()
            self.row_id = row_id

    class EdgeReached(Event):
        """The oldest or the newest row is in view."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._shown: list[Row] = []
        self._follows = True  # the end, also where another size has just put it out of view

    def show(self, rows: list[Row]) -> None:
        """Show these rows in place of those before."""
        if rows == self._shown:
            return
        self._follows |= self.at_end
        ids = [id_ for id_, _ in rows]
        if ids == [id_ for id_, _ in self._shown]:
            self._replace(rows)
        else:
            self._rebuild(rows, ids)
        self._shown = rows

    def begin(self) -> None:
        """Forget the rows, for another conversation."""
        self._shown = []
        self._follows = True
        self.clear_options()

    @property
    def at_end(self) -> bool:
        """Whether the newest row is in view."""
        return self.scroll_y >= self.max_scroll_y - 1

    def action_reply(self) -> None:
        """Ask for an answer to the chosen row."""
        chosen = self.highlighted_option
        if chosen is not None and chosen.id is not None:
            self.post_message(self.ReplyWanted(chosen.id))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Say that an edge is in view."""
        super().watch_scroll_y(old_value, new_value)
        self._follows = self.at_end
        if new_value != old_value and (new_value <= 0 or self.at_end):
            self.post_message(self.EdgeReached())

    def on_resize(self) -> None:
        """Stay at the end: another size alone scrolls nothing."""
        self._follows |= self.at_end
        if self._follows:
            self.scroll_end(animate=False)

    def _replace(self, rows: list[Row]) -> None:
        for index, (row, former) in enumerate(zip(rows, self._shown, strict=True)):
            if row != former:
                self.replace_option_prompt_at_index(index, row[1])
        if self._follows:
            self.scroll_end(animate=False)

    def _rebuild(self, rows: list[Row], ids: list[str]) -> None:
        follows, from_top = self._follows, self.scroll_y
        from_bottom = self.max_scroll_y - from_top
        chosen = self.highlighted_option
        is_older = bool(self._shown) and self._shown[0][0] in ids[1:]
        self.set_options(Option(content, id=id_) for id_, content in rows)
        if chosen is not None and chosen.id in ids:
            self.highlighted = ids.index(str(chosen.id))
        if follows:
            self.scroll_end(animate=False, immediate=True)
        else:
            y = self.max_scroll_y - from_bottom if is_older else from_top
            self.scroll_to(y=y, animate=False, immediate=True, force=True)
