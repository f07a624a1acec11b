"""About how many bytes a message takes in memory; what bounds in bytes count with."""

from __future__ import annotations

from sys import getsizeof
from typing import Any

from ..types import Message

ENTRY_BYTES = 500
"""What an entry counts beside its payload."""


def size_of(message: Message) -> int:
    """About how many bytes a message takes in memory: all values of its payload, and what is around it."""
    return ENTRY_BYTES + _size_of(message.payload)


def _size_of(value: Any) -> int:
    """The values below `value` too, however deep: without recursion."""
    size_bytes, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        size_bytes += getsizeof(each)
        if isinstance(each, dict):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return size_bytes
