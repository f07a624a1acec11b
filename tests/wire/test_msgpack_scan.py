"""What the scan lets through can be built at a bounded price; everything that JSON knows is let through."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.wire.msgpack_scan import DEPTH_MAX, VALUES_MAX, check_value

pack = msgspec.msgpack.encode
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.text(min_size=300)
)
json_values = st.recursive(scalars, lambda it: st.lists(it) | st.dictionaries(st.text(), it), max_leaves=60)


@given(json_values)
def test_every_json_value_passes(value: object) -> None:
    check_value(pack(value))


@given(json_values, st.sampled_from([1, -1, 2.5, None, True, b"k", (1, 2)]))
def test_a_key_that_is_no_string_is_refused_at_any_depth(value: object, key: object) -> None:
    for holder in ({key: value}, {"a": value, "b": [{"c": 1, key: 2}]}, [value, {key: 0}]):
        with pytest.raises(ValueError, match=r"keys must be strings|JSON does not know"):
            check_value(pack(holder))


def test_what_is_cut_off_is_never_taken() -> None:
    data = pack({"a": [1, 2**40, -5, 1.5], "long": "x" * 300, "c": {"d": None, "e": ["f" * 40]}})
    for end in range(len(data)):
        with pytest.raises(ValueError, match="truncated"):
            check_value(data[:end])
    for last in ("text", "x" * 300, 2**40, 1.5):
        with pytest.raises(ValueError, match="truncated"):
            check_value(pack(last)[:-1])


@pytest.mark.parametrize("size", [15, 16, 60_000])
def test_long_containers(size: int) -> None:
    check_value(pack([1] * size))
    check_value(pack({str(n): n for n in range(min(size, 30_000))}))


def test_bounds_are_exact() -> None:
    deepest = b"\x91" * DEPTH_MAX + b"\x01"
    check_value(deepest)
    with pytest.raises(ValueError, match="nested deeper than 32"):
        check_value(b"\x91" + deepest)

    most = VALUES_MAX - 1  # and the array itself
    check_value(b"\xdd" + most.to_bytes(4, "big") + b"\x01" * most)
    with pytest.raises(ValueError, match="holds more than 65536"):
        check_value(b"\xdd" + (most + 1).to_bytes(4, "big") + b"\x01" * (most + 1))


@pytest.mark.parametrize("announced", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"])
def test_an_announced_size_alone_costs_nothing(announced: bytes) -> None:
    with pytest.raises(ValueError, match="truncated"):
        check_value(announced)


@pytest.mark.parametrize("binary", [b"\xc4\x01x", b"\xd4\x01x", b"\xc7\x01\x01x", b"\xc1"])
def test_binary_extensions_and_the_unused_byte_are_refused(binary: bytes) -> None:
    with pytest.raises(ValueError, match="JSON does not know"):
        check_value(b"\x91" + binary)
