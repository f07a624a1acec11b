"""Whether one peer may do something now: the rates of `Limits`, counted.

What is refused was not counted, so whoever waits as long as they are told gets through. Each node counts for itself.
Called by `engine`, `dispatch`, `typing`, `sync`, `login` and the HTTP gateway; never for the verbs of the host.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Any

from ..core.rate_limit import Rate, RateLimiter
from ..errors import RateLimitedError
from ..ports import Clock
from .limits import Limits

_Counted = tuple[RateLimiter[Any], Hashable, float]
"""Where something counts, under which key, and how much."""


class Allowance:
    """What every user, device and conversation has left of its rates."""

    def __init__(self, limits: Limits, typing_interval_s: float, clock: Clock) -> None:
        self._clock = clock
        self._sends: RateLimiter[str] = RateLimiter(limits.sends_per_user)
        self._sends_to: RateLimiter[str] = RateLimiter(limits.sends_per_conversation)
        self._parts: RateLimiter[str] = RateLimiter(limits.stream_parts_per_user)
        self._parts_in: RateLimiter[str] = RateLimiter(limits.stream_parts_per_conversation)
        self._events: RateLimiter[str] = RateLimiter(limits.events_per_user)
        self._counts_events = limits.events_per_user is not None
        self._events_beyond: RateLimiter[str] = RateLimiter(limits.events_per_user)
        self._typing: RateLimiter[str] = RateLimiter(limits.typing_per_user)
        self._typing_in: RateLimiter[tuple[str, str]] = RateLimiter(_once_in(typing_interval_s))
        self._requests: RateLimiter[str] = RateLimiter(limits.requests_per_user)
        self._logins: RateLimiter[str] = RateLimiter(limits.logins_per_user)
        self._new_devices: RateLimiter[str] = RateLimiter(limits.new_devices_per_user)
        self._created: RateLimiter[str] = RateLimiter(limits.conversations_created_per_user)
        self._adds: RateLimiter[str] = RateLimiter(limits.members_added_per_user)
        self._added: RateLimiter[str] = RateLimiter(limits.added_per_user)
        self._reports: RateLimiter[str] = RateLimiter(limits.reports_per_user)
        self._searches: RateLimiter[str] = RateLimiter(limits.searches_per_user)
        self.limits_new_devices = limits.new_devices_per_user is not None

    def send(self, user_id: str, conversation_id: str, now_s: float) -> None:
        """A message. Raises RateLimitedError."""
        wait_s = self._sends.admit(user_id, now_s)
        if wait_s == 0.0:
            wait_s = self._sends_to.admit(conversation_id, now_s)
            if wait_s == 0.0:
                return
            self._sends.give_back(user_id)
        raise _too_many("messages", wait_s)

    def not_sent(self, conversation_id: str) -> None:
        """Of `send`: its user may not write there, and takes nothing from those who may. It counts for the user."""
        self._sends_to.give_back(conversation_id)

    def recall(self, user_id: str) -> None:
        """A recall, which counts as a message of its user. Raises RateLimitedError."""
        self._take("messages and recalls", (self._sends, user_id, 1.0))

    def report(self, user_id: str) -> None:
        """A report of a message. Raises RateLimitedError."""
        self._take("reports", (self._reports, user_id, 1.0))

    def search(self, user_id: str) -> None:
        """A page of a search. Raises RateLimitedError."""
        self._take("searches", (self._searches, user_id, 1.0))

    def event(self, user_id: str, now_s: float) -> None:
        """Any event of a connection. Raises RateLimitedError."""
        if self._counts_events and (wait_s := self._events.admit(user_id, now_s)) > 0:
            raise _too_many("events", wait_s)

    def goes_on(self, user_id: str) -> bool:
        """Count an event that was refused as one too many. Returns whether these come at more than the rate too."""
        return self._events_beyond.admit(user_id, self._clock.now_s()) > 0

    def stream_part(self, user_id: str, conversation_id: str) -> None:
        """A part of a streamed message. Raises RateLimitedError."""
        self._take("parts", (self._parts, user_id, 1.0), (self._parts_in, conversation_id, 1.0))

    def not_streamed(self, conversation_id: str) -> None:
        """Of `stream_part`: it was refused, and takes nothing from other authors. It counts for the user."""
        self._parts_in.give_back(conversation_id)

    def typing(self, user_id: str, conversation_id: str) -> None:
        """A TYPING. Raises RateLimitedError."""
        place = (user_id, conversation_id)
        self._take("TYPING", (self._typing_in, place, 1.0), (self._typing, user_id, 1.0))

    def request(self, user_id: str) -> None:
        """An HTTP request, or a pull. Raises RateLimitedError."""
        self._take("requests", (self._requests, user_id, 1.0))

    def login(self, user_id: str) -> None:
        """A login. Raises RateLimitedError."""
        self._take("logins", (self._logins, user_id, 1.0))

    def new_device(self, user_id: str) -> None:
        """A login from a device that was not seen before. Raises RateLimitedError."""
        self._take("new devices", (self._new_devices, user_id, 1.0))

    def create(self, user_id: str, member_ids: Collection[str]) -> None:
        """A new conversation with its members; `not_created` takes it back. Raises RateLimitedError."""
        created = (self._created, user_id, 1.0)
        self._take("new conversations or members", created, *self._adding(user_id, member_ids))

    def not_created(self, user_id: str, member_ids: Collection[str]) -> None:
        """Of `create`: it was refused, or exists already."""
        self._created.give_back(user_id)
        self.not_added(user_id, member_ids)

    def add(self, user_id: str, member_ids: Collection[str]) -> None:
        """More members for a group; `not_added` takes them back. Raises RateLimitedError."""
        self._take("new members", *self._adding(user_id, member_ids))

    def not_added(self, user_id: str, member_ids: Collection[str]) -> None:
        """Of `add`: these were members already, or were refused."""
        for limiter, key, cost in self._adding(user_id, member_ids):
            limiter.give_back(key, cost)

    def _adding(self, user_id: str, member_ids: Iterable[str]) -> list[_Counted]:
        others = {it for it in member_ids if it != user_id}
        if not others:
            return []
        return [(self._adds, user_id, float(len(others))), *((self._added, it, 1.0) for it in others)]

    def _take(self, what: str, *counted: _Counted) -> None:
        """Count all of it, or nothing. Raises RateLimitedError."""
        now_s = self._clock.now_s()
        waits_s = [limiter.admit(key, now_s, cost) for limiter, key, cost in counted]
        if any(waits_s):
            for (limiter, key, cost), wait_s in zip(counted, waits_s, strict=True):
                if wait_s == 0.0:
                    limiter.give_back(key, cost)
            raise _too_many(what, max(waits_s))


def _too_many(what: str, wait_s: float) -> RateLimitedError:
    return RateLimitedError(f"too many {what}; wait before the next", retry_after_s=wait_s)


def _once_in(interval_s: float) -> Rate | None:
    return Rate(1 / interval_s, 1) if interval_s > 0 else None
