"""What a MessagePack value is made of, read from its heads alone: nothing is built before its keys are known.

A map with keys that are no strings can be made so that building it takes minutes: keys with equal hashes. Values that
the decoder checks while it builds them need no scan; this is for the few that it would have to build first. Called by
`codec` only.

Source: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from typing import Final, NamedTuple

DEPTH_MAX: Final = 32
"""Arrays and maps inside each other, the outermost counted. The same as of a payload."""

VALUES_MAX: Final = 65_536
"""Keys and values in all. A payload within its bound in bytes has fewer: each needs two bytes of JSON."""

_CUT_OFF: Final = "input data was truncated"


class _Head(NamedTuple):
    """What the first byte of a value says.

    Attributes:
        text: Whether it is a string.
        size: Bytes that follow, or values in it if it is a container.
        size_bytes: Bytes of a size that follows instead, 0 for none.
        per_item: Values in it for each counted item: 1 for an array, 2 for a map, 0 if it holds none.
    """

    text: bool = False
    size: int = 0
    size_bytes: int = 0
    per_item: int = 0


def _head(first: int) -> _Head | None:
    if first < 0x80 or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
        return _Head()
    if first < 0x90:
        return _Head(size=first & 0x0F, per_item=2)
    if first < 0xA0:
        return _Head(size=first & 0x0F, per_item=1)
    if first < 0xC0:
        return _Head(text=True, size=first & 0x1F)
    return _LONG_HEADS.get(first)


_LONG_HEADS: Final = {
    **{0xCA: _Head(size=4), 0xCB: _Head(size=8)},
    **{0xCC + power: _Head(size=1 << power) for power in range(4)},
    **{0xD0 + power: _Head(size=1 << power) for power in range(4)},
    **{0xD9 + power: _Head(text=True, size_bytes=1 << power) for power in range(3)},
    **{0xDC: _Head(size_bytes=2, per_item=1), 0xDD: _Head(size_bytes=4, per_item=1)},
    **{0xDE: _Head(size_bytes=2, per_item=2), 0xDF: _Head(size_bytes=4, per_item=2)},
}
"""Binary and extension values are not in it: no event and no payload holds them."""

_HEADS: Final = [_head(first) for first in range(256)]


def check_value(data: memoryview | bytes) -> None:
    """Make sure that one value can be built at a bounded price.

    Raises:
        ValueError: A key is no string, the value holds too much or too deep, binary, or is cut off.
    """
    place = 0
    left = [(1, False)]  # of each container that is open: values to come, and whether it is a map
    for _ in range(VALUES_MAX + 1):  # once more to see that nothing is left
        while left and left[-1][0] == 0:
            left.pop()
        if not left:
            if place > len(data):
                raise ValueError(_CUT_OFF)
            return
        count, is_map = left[-1]
        head = _head_at(data, place)
        if is_map and count % 2 == 0 and not head.text:
            raise ValueError("object keys must be strings")
        left[-1] = (count - 1, is_map)
        place += 1 + head.size_bytes
        size = head.size or int.from_bytes(data[place - head.size_bytes : place], "big")
        if head.per_item == 0:
            place += size
        elif len(left) > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX}")
        else:
            left.append((size * head.per_item, head.per_item == 2))
    raise ValueError(f"holds more than {VALUES_MAX} keys and values")


def _head_at(data: memoryview | bytes, place: int) -> _Head:
    if place >= len(data):
        raise ValueError(_CUT_OFF)
    head = _HEADS[data[place]]
    if head is None:
        raise ValueError("holds a value that JSON does not know")
    return head
