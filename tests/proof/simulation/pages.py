"""Short pages: wherever chatkit reads or sends in parts, a part is so small that runs fill it, exactly and beyond.

With the true sizes (200 conversations, 500 changes of memberships) no simulated user ever has one full page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from chatkit.server import sync
from chatkit.server.cluster import bridge, reconcile

PAGES: Final[tuple[tuple[ModuleType, str], ...]] = (
    (sync, "HEADS_PER_PAGE"),
    (sync, "BEHIND_MAX"),
    (bridge, "MESSAGES_PER_FRAME"),
    (reconcile, "HEADS_PER_READ"),
    (reconcile, "ENTRIES_PER_READ"),
    (reconcile, "CHANGES_PER_READ"),
)
"""Where the sizes are: constants of the server, that no host has a reason to set."""


@contextmanager
def short_pages(size: int | None) -> Iterator[None]:
    """Inside, every page has this size; None leaves them as they are."""
    usual = [(module, name, getattr(module, name)) for module, name in PAGES]
    try:
        for module, name in PAGES if size is not None else ():
            setattr(module, name, size)
        yield
    finally:
        for module, name, value in usual:
            setattr(module, name, value)
