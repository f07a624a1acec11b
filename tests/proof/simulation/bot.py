"""An app that takes its events with `ChatClient.consume`, and whose handler crashes now and then.

S26 is judged here, with what outlives the app: every entry of the logs is handled, in order of seq, and not again once
its handler has returned, unless the app was killed at that very moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from chatkit.client.events import Delivery, EpochChanged
from chatkit.client.store.base import LocalStore
from chatkit.testing.rng import Stream

ATTEMPTS_MAX = 4
"""No handler crashes over one entry more often."""

_ENTRIES_MAX = 1_000_000

Key = tuple[str, int]
"""(conversation, seq): under a new epoch an entry is the same, for no log loses any here."""


class HandlerCrashError(Exception):
    """What a handler of a bot raises."""


class Bot:
    """What one bot has handled, over all its starts.

    Args:
        name: Its device's name, for alarms.
        rng: Says when its handler crashes.
        crash_share: Part of the entries at which it does.
        alarm: Told what must never happen.
        concurrency: Entries that it handles at once, each of another conversation.
    """

    def __init__(
        self,
        name: str,
        rng: Stream,
        crash_share: float,
        alarm: Callable[[str], None],
        concurrency: int = 1,
    ) -> None:
        self.concurrency = concurrency
        self._name = name
        self._rng = rng
        self._crash_share = crash_share
        self._alarm = alarm
        self._handled: set[Key] = set()
        self._last_seqs: dict[str, int] = {}
        self._attempts: dict[Key, int] = {}
        self._last: deque[Key] = deque(maxlen=concurrency)
        self._maybe_again: set[Key] = set()

    def started(self) -> None:
        """The app runs (again): it may have been killed just as its last handlers had returned."""
        self._maybe_again = set(self._last)

    def handle(self, delivery: Delivery) -> bool:
        """Take a delivery. Returns whether it is new; raises HandlerCrashError now and then."""
        if delivery.seq == 0:
            if isinstance(delivery.event, EpochChanged):  # attempts are counted anew in a replaced log
                self._attempts = {
                    key: count for key, count in self._attempts.items() if key[0] != delivery.conversation_id
                }
            return True
        key = delivery.conversation_id, delivery.seq
        self._check(key, delivery.attempt)
        if delivery.attempt < ATTEMPTS_MAX and self._rng.random() < self._crash_share:
            raise HandlerCrashError
        is_new = key not in self._handled
        self._handled.add(key)
        self._last_seqs[key[0]] = max(delivery.seq, self._last_seqs.get(key[0], 0))
        self._last.append(key)
        return is_new

    def has_handled(self, user_id: str, store: LocalStore, conversation_id: str) -> bool:
        """Whether it has handled every entry of others that its store holds up to the prefix, from its first one on.

        What is older than that was there before this device, and came by `history`.
        """
        (prefix,) = (it.prefix for it in store.records() if it.conversation_id == conversation_id)
        handled = [seq for name, seq in self._handled if name == conversation_id]
        held = store.messages(conversation_id, prefix + 1, _ENTRIES_MAX)
        others = (it for it in held if it.sender_id != user_id and it.seq >= min(handled, default=prefix + 1))
        return all((conversation_id, it.seq) in self._handled for it in others)

    def _check(self, key: Key, attempt: int) -> None:
        if key in self._handled and key not in self._maybe_again:
            self._alarm(f"S26 {self._name} was given {key} again, which it had taken")
        if key not in self._handled and key[1] < self._last_seqs.get(key[0], 0):
            self._alarm(f"S26 {self._name} was given {key} after seq {self._last_seqs[key[0]]}")
        if attempt <= self._attempts.get(key, 0) and key not in self._handled:
            self._alarm(f"S26 {self._name} was given {key} as attempt {attempt} again")
        self._attempts[key] = attempt
