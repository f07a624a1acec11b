"""What a check says: what is wrong, by which invariant, and how much each of them has looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from .index import Index


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that breaks an invariant.

    Attributes:
        what: In words.
        conversation_id: Where; empty if it is about none.
        seq: Which entry, if it is about one.
        client_msg_id: Its sender's key, where the entry itself may be missing; then `user_id` is the sender.
        user_id: Whom it concerns.
        device_id: Which of his devices.
        at_s: When it showed.
    """

    what: str
    conversation_id: str = ""
    seq: int | None = None
    client_msg_id: str = ""
    user_id: str = ""
    device_id: str = ""
    at_s: float | None = None


Findings = Iterator[Breach | None]
"""One item for each fact that was looked at: None if it holds."""


Place = Literal["sender", "log", "bus", "session", "device"]
"""A part of the way of a message."""


class Invariant(msgspec.Struct, frozen=True):
    """Something that must always hold.

    Attributes:
        number: As in the programme: S for safety, L for liveness.
        title: In a line.
        place: The part that breaks it, unless the message in question was lost elsewhere.
        find: Looks at all facts that it is about; at none if the history holds none.
    """

    number: str
    title: str
    place: Place
    find: Callable[[Index], Findings]


class Violation(msgspec.Struct, frozen=True):
    """An invariant that does not hold, and one fact that shows it.

    Attributes:
        invariant: Its number.
        title: Its title.
        breach: The fact.
    """

    invariant: str
    title: str
    breach: Breach

    def __str__(self) -> str:
        return f"{self.invariant} ({self.title}): {self.breach.what}"


class Verdict(msgspec.Struct, frozen=True):
    """What became of a check.

    Attributes:
        violations: All that was found, in the order of `INVARIANTS`.
        facts: How many facts each invariant looked at, by number; 0 means that it could not be judged.
    """

    violations: list[Violation]
    facts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.violations

    @property
    def unjudged(self) -> list[str]:
        """Numbers of the invariants that looked at nothing."""
        return [number for number, count in self.facts.items() if count == 0]
