"""About how many bytes a message takes in memory; what bounds in bytes count with."""

from __future__ import annotations

from sys import getsizeof
from typing import Any

from ..types import Message, Payload

ENTRY_BYTES = 500
"""What an entry counts beside its payload."""


def size_of(message: Message) -> int:
    """About how many bytes a message takes in memory: all values of its payload, and what is around it."""
    return size_of_payload(message.payload)


def size_of_payload(payload: Payload | None) -> int:
    """Likewise, of something else that holds a payload, such as an edit."""
    return ENTRY_BYTES + _size_of(payload)


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
