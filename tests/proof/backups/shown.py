"""What an app shows, by the events it was told: the judge of "nothing is shown twice"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from chatkit.client.events import ChatEvent, EpochChanged, MessageReceived, MessageSent
from chatkit.types import Message

_DIFFERENCES_MAX: Final = 3


class Shown(NamedTuple):
    """One entry as the app shows it."""

    message_id: str
    text: str | None


class Screen:
    """What one device's app shows: it adds what it is told, and drops what `EpochChanged` takes back.

    Args:
        name: Whose it is, for words.

    Attributes:
        wrong: What must not happen, in words: an entry or a text told again while it is shown, or a seq out of order.
        taken_back: How many entries an epoch took back.
        epochs: How many epochs changed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: dict[str, dict[int, Shown]] = defaultdict(dict)
        self._told_up_to: dict[str, int] = defaultdict(int)
        self.wrong: list[str] = []
        self.taken_back = 0
        self.epochs = 0

    def take(self, event: ChatEvent) -> None:
        """The app is told this."""
        match event:
            case MessageReceived(message):
                self._receive(
                    message.conversation_id, message.seq, Shown(message.message_id, message.text or None)
                )
            case MessageSent(sent):
                self._add(sent.conversation_id, sent.seq, Shown(sent.message_id, sent.client_msg_id))
            case EpochChanged(conversation_id=name, kept_seq=kept_seq):
                self._take_back(name, kept_seq)
            case _:
                pass

    def open(self, own: Iterable[Message]) -> None:
        """The app starts, and shows its own messages as its store has them: `MessageSent` comes once, or never.

        Args:
            own: What the store holds of this user's.
        """
        for it in own:
            if it.seq not in self._shown[it.conversation_id]:
                self._add(it.conversation_id, it.seq, Shown(it.message_id, it.text or None))

    def _receive(self, name: str, seq: int, entry: Shown) -> None:
        if seq <= self._told_up_to[name]:
            self.wrong.append(f"{self._name} was told seq {seq} of {name} after {self._told_up_to[name]}")
        self._told_up_to[name] = max(seq, self._told_up_to[name])
        self._add(name, seq, entry)

    def _add(self, name: str, seq: int, entry: Shown) -> None:
        shown = self._shown[name]
        if seq in shown:
            self.wrong.append(f"{self._name} shows seq {seq} of {name} and was told it again")
        shown[seq] = entry

    def _take_back(self, name: str, kept_seq: int) -> None:
        shown = self._shown[name]
        gone = [seq for seq in shown if seq > kept_seq]
        for seq in gone:
            del shown[seq]
        self.taken_back += len(gone)
        self.epochs += 1
        self._told_up_to[name] = min(self._told_up_to[name], kept_seq)

    def count(self, name: str) -> int:
        """How many entries of a conversation are shown."""
        return len(self._shown[name])

    def differs(self, name: str, log: Iterable[tuple[int, Shown]]) -> list[str]:
        """How what is shown of a conversation differs from all of its log, in words; and what is shown twice."""
        shown, wanted = self._shown[name], dict(log)
        seqs = sorted(seq for seq in {*shown, *wanted} if shown.get(seq) != wanted.get(seq))
        texts = [it.text for it in shown.values() if it.text is not None]
        doubled = (
            sorted({text for text in texts if texts.count(text) > 1}) if len(set(texts)) < len(texts) else []
        )
        return [
            *(
                f"{self._name} shows {shown.get(seq)} at seq {seq} of {name}, where {wanted.get(seq)} is"
                for seq in seqs[:_DIFFERENCES_MAX]
            ),
            *(f"{self._name} shows {text!r} of {name} twice" for text in doubled[:_DIFFERENCES_MAX]),
        ]
