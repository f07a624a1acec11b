"""How much of a log that was replaced by another one is the same in both.

A log put back from a backup agrees with the lost one up to some seq, and may differ above it: entries keep their ids,
and no id is given twice. So the last common entry is looked for from the newest one down, a window at a time; what lies
up to it needs not be fetched, and the app not be notified of it again. Pure: `client.inbox` asks and compares.
"""

from __future__ import annotations

from collections.abc import Mapping

WINDOW = 50
"""Entries that are compared at a time."""


class Renewal:
    """The search for the last entry that two logs of a conversation have in common.

    Args:
        epoch: Identity of the new log.
        up_to_seq: How far both go: the lesser of what is held of the old one and the head of the new one.
        floor: Nothing of the old log is held up to here.
        delivered_seq: What this device has confirmed of the new log; it counts where nothing can be compared.
        read_seq: How far the user had read in the old log.

    Attributes:
        kept_seq: Nothing up to here is known to differ; it only falls.
    """

    __slots__ = ("_asked", "_bottom", "_common", "_delivered_seq", "_floor", "epoch", "kept_seq", "read_seq")

    def __init__(self, epoch: str, up_to_seq: int, floor: int, delivered_seq: int, read_seq: int) -> None:
        self.epoch = epoch
        self.kept_seq = up_to_seq
        self.read_seq = read_seq
        self._floor = floor
        self._delivered_seq = delivered_seq
        self._bottom = up_to_seq  # the window ends here; what is above was compared
        self._asked = 0  # how far into the window pages have come
        self._common = False  # the window has an entry that is the same in both

    @property
    def last_seq(self) -> int:
        """Where the next page to compare begins (not included)."""
        return max(self._asked, self._window_start)

    @property
    def _window_start(self) -> int:
        return max(0, self._bottom - WINDOW)

    def compare(
        self, last_seq: int, up_to_seq: int, held: Mapping[int, str], listed: Mapping[int, str]
    ) -> bool:
        """Compare a page (last_seq, up_to_seq] of the new log with what is held of the old one.

        A seq that only one of the two has says nothing: the store may keep the newest entries only, and what was not
        visible to this user is not listed.

        Args:
            last_seq: Where the page begins, not included.
            up_to_seq: Where it ends, included.
            held: Message ids of the old log, by seq.
            listed: Message ids of the page, by seq.

        Returns:
            Whether the search is over: `kept_seq` is final.
        """
        if last_seq != self.last_seq:
            return False  # an answer to an earlier question
        both = sorted(seq for seq in held.keys() & listed.keys() if last_seq < seq <= self._bottom)
        differing = next((seq for seq in both if held[seq] != listed[seq]), None)
        self._common = self._common or bool(both and both[0] != differing)
        if differing is not None:
            self.kept_seq = differing - 1 if self._common else self._window_start
        elif last_seq < up_to_seq < self._bottom:
            self._asked = up_to_seq
            return False  # a page may be shorter than the window
        return self._common or self._goes_down()

    def _goes_down(self) -> bool:
        """The window has nothing in common; go on below it. Returns whether there is nothing below it."""
        self._bottom, self._asked = self._window_start, 0
        if self._bottom > self._floor:
            return False
        self.kept_seq = min(self.kept_seq, self._delivered_seq)
        return True
