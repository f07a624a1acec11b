"""What one received frame, or one page, changes: gathered first, then stored in one transaction, then told."""

from __future__ import annotations

from ..core.resend import Key
from ..errors import ChatkitError
from ..types import Sent
from .base import Change
from .conversations import Conversation
from .events import ChatEvent


class Batch:
    """Changes of the store, answers to sends and events for the app, in order."""

    def __init__(self) -> None:
        self._changes: dict[str, Change] = {}
        self._conversations: dict[str, Conversation] = {}
        self._standing: dict[str, Conversation] = {}
        self.settled: list[Key] = []
        self.answers: list[tuple[Key, Sent | ChatkitError]] = []
        self.events: list[ChatEvent] = []

    def change(self, conversation: Conversation) -> Change:
        """The change of this conversation, to be added to."""
        self._conversations[conversation.id] = conversation
        change = self._changes.get(conversation.id)
        if change is None:
            change = self._changes[conversation.id] = conversation.change()
        return change

    def stands(self, conversation: Conversation) -> None:
        """The server said how much it knows of what this device holds; the difference is told once all is stored."""
        self._standing[conversation.id] = conversation

    def to_confirm(self) -> list[Conversation]:
        """Every conversation that changed, or of which the server said where it stands."""
        return list((self._conversations | self._standing).values())

    def changes(self) -> list[Change]:
        """What to store, brought up to the conversations' present state."""
        for id_, conversation in self._conversations.items():
            change, timeline = self._changes[id_], conversation.timeline
            change.type, change.left = conversation.type, conversation.left
            change.epoch, change.prefix = timeline.epoch, timeline.prefix
        return list(self._changes.values())
