"""JSON within a provider's limit: the body is cut, then the title, by whole characters. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .base import PAYLOAD_BYTES_MAX, Push

_CUT = "…"

Layout = Callable[[str | None, str | None], dict[str, Any]]
"""Makes a provider's document of a title and a body."""


def fitted(push: Push, layout: Layout, bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes | None:
    """The document of a push as JSON of at most `bytes_max` bytes; None if it does not fit even without words.

    The body is cut first. Only where none of it fits, the title is cut. What is cut ends with an ellipsis.
    """
    return _longest(push.body, lambda part: layout(push.title, part), bytes_max) or _longest(
        push.title, lambda part: layout(part, None), bytes_max
    )


def _longest(text: str | None, made: Callable[[str | None], dict[str, Any]], bytes_max: int) -> bytes | None:
    """JSON with the longest beginning of a text that fits; None if an empty one is too long."""
    whole = msgspec.json.encode(made(text))
    if len(whole) <= bytes_max:
        return whole
    best, low, high = None, 0, len(text or "") - 1
    while low <= high:
        middle = (low + high) // 2
        tried = msgspec.json.encode(made((text or "")[:middle] + _CUT))
        if len(tried) <= bytes_max:
            best, low = tried, middle + 1
        else:
            high = middle - 1
    return best
