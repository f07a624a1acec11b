"""What a script demands: that its trap is set off, and that the promise holds; now, or after a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio

from .scenario import PromiseBrokenError, TrapNotSetOffError

PATIENCE_S = 30.0
"""What has not come about by then does not come about."""

_LOOK_EVERY_S = 0.01

ItemT = TypeVar("ItemT")


def require(fact: object, what: str) -> None:
    """The trap is set only if this is so. Raises TrapNotSetOffError."""
    if not fact:
        raise TrapNotSetOffError(f"not so: {what}")


def holds(fact: object, what: str) -> None:
    """It is promised that this is so. Raises PromiseBrokenError."""
    if not fact:
        raise PromiseBrokenError(f"not so: {what}")


def exactly(count: int, found: Sequence[ItemT], what: str) -> Sequence[ItemT]:
    """What was found, if it is so many; the script relies on it. Raises TrapNotSetOffError."""
    require(len(found) == count, f"{count} of {what}; there are {len(found)}")
    return found


async def until(fact: Callable[[], object], what: str) -> None:
    """Return once this is so, which the trap needs. Raises TrapNotSetOffError."""
    require(await _comes(fact), f"{what}, within {PATIENCE_S:g} s")


async def promised(fact: Callable[[], object], what: str) -> None:
    """Return once this is so, which is promised. Raises PromiseBrokenError."""
    holds(await _comes(fact), f"{what}, within {PATIENCE_S:g} s")


async def _comes(fact: Callable[[], object]) -> bool:
    for _ in range(int(PATIENCE_S / _LOOK_EVERY_S)):
        if fact():
            return True
        await anyio.sleep(_LOOK_EVERY_S)
    return False
