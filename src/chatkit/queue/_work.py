"""Work in the hands of one process: what waits, what is held until when, what is to be retried. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from math import inf

import msgspec

from .base import Item


class _Work(msgspec.Struct):
    """One piece of work: not given out before `due_s`; `held` until it is given back."""

    data: bytes
    key: str
    due_s: float
    attempt: int = 0
    held: bool = False


class WorkTable:
    """Gives work out, the longest due first, and again when its holder's time is over.

    Args:
        visibility_s: How long a piece of work is left to whoever holds it.
    """

    def __init__(self, visibility_s: float) -> None:
        self._visibility_s = visibility_s
        self._work: dict[int, _Work] = {}
        self._due: list[tuple[float, int]] = []  # a heap of (when, ticket); overtaken ones are passed over
        self._count = 0

    def __len__(self) -> int:
        return len(self._work)

    def add(self, data: bytes, key: str, now_s: float) -> int:
        """Add work that is due now. Returns its ticket, which no other work of this table ever has."""
        self._count += 1
        self._work[self._count] = _Work(data, key, now_s)
        heappush(self._due, (now_s, self._count))
        return self._count

    def take(self, limit: int, now_s: float) -> list[Item]:
        """What is due, at most `limit`: held from now on."""
        items: list[Item] = []
        while len(items) < limit and self.wait_s(now_s) <= 0:
            _, ticket = heappop(self._due)
            items.append(self._give_out(ticket, now_s))
        return items

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due: 0 or less if something is, infinite if there is nothing."""
        while self._due:
            due_s, ticket = self._due[0]
            work = self._work.get(ticket)
            if work is not None and work.due_s == due_s:
                return due_s - now_s
            heappop(self._due)
        return inf

    def done(self, ticket: int) -> bool:
        """Forget this work. Returns whether it was here."""
        return self._work.pop(ticket, None) is not None

    def retry(self, item: Item, due_s: float) -> bool:
        """Have this work given out again then. Returns False if it is no longer held by this item's holder."""
        work = self._work.get(int(item.ticket))
        if work is None or not work.held or work.attempt != item.attempt:
            return False
        work.held = False
        self._schedule(int(item.ticket), work, due_s)
        return True

    def drop(self, tickets: Iterable[int]) -> None:
        """Forget work that is somebody else's now."""
        for ticket in tickets:
            self._work.pop(ticket, None)

    def _give_out(self, ticket: int, now_s: float) -> Item:
        work = self._work[ticket]
        work.attempt += 1
        work.held = True
        self._schedule(ticket, work, now_s + self._visibility_s)
        return Item(work.data, work.key, work.attempt, ticket)

    def _schedule(self, ticket: int, work: _Work, due_s: float) -> None:
        work.due_s = due_s
        heappush(self._due, (due_s, ticket))
