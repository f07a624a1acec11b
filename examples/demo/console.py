"""Prints what the demo observed, and stops it where an expectation failed.

Nothing here decides what happened; `story` and `replay` pass in what they awaited or read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from rich.console import Console as Output
from rich.markup import escape

from chatkit.ports import Clock

Value = TypeVar("Value")

PATIENCE_S = 30.0
"""How long the demo waits for anything it expects."""


class ExpectationError(Exception):
    """What the demo expected did not come; the message says what, and what came instead."""


class Console:
    """Prints steps with the time since the start.

    Args:
        output: Where to.
        clock: Where the time comes from.
    """

    def __init__(self, output: Output, clock: Clock) -> None:
        self.output = output
        self._clock = clock
        self._started_s = clock.now_s()
        self.steps: list[str] = []

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock.now_s() - self._started_s

    def heading(self, title: str) -> None:
        """Open a chapter."""
        self.output.print(f"\n[bold]{_shown(title)}[/bold]")

    def say(self, text: str) -> None:
        """A remark that is no observation."""
        self.output.print(f"        [dim]{_shown(text)}[/dim]")

    def saw(self, who: str, text: str) -> None:
        """One thing that was observed, and who observed it."""
        self.steps.append(f"{who}: {text}")
        self.output.print(f"{self.elapsed_s():6.2f}s [cyan]{_shown(who):<14}[/cyan] {_shown(text)}")


def counted(count: int, noun: str) -> str:
    """ "1 member", "2 members"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _shown(text: str) -> str:
    """A text from a log, harmless to a terminal: control characters and markup come as what they are."""
    return escape("".join(it if it.isprintable() else f"\\x{ord(it):02x}" for it in text))


def expect(holds: bool, expected: str, found: object) -> None:
    """Go on only if it holds.

    Raises:
        ExpectationError: It does not.
    """
    if not holds:
        raise ExpectationError(f"expected {expected}; found {found}")


@contextmanager
def within(expected: str, seconds: float = PATIENCE_S) -> Iterator[None]:
    """The body must end in time.

    Raises:
        ExpectationError: It did not; the message says what was expected of it.
    """
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise ExpectationError(f"expected {expected} within {seconds:g} s; it did not come") from None


async def eventually(
    read: Callable[[], Awaitable[Value]], good: Callable[[Value], bool], expected: str
) -> Value:
    """Read until the value is as expected: for facts that are pulled because no event announces them.

    Raises:
        ExpectationError: It was not in time.
    """
    with within(expected):
        while True:
            value = await read()
            if good(value):
                return value
            await anyio.sleep(0.02)
