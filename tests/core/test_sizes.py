"""What a message counts: more with each value that it holds, however deep."""

from __future__ import annotations

from typing import Any

from chatkit.core.sizes import ENTRY_BYTES, size_of
from chatkit.types import Message


def message(data: Any) -> Message:
    return Message("c-1", 1, "m-1", "u-1", 1, {"type": "CUSTOM", "data": data})


def test_a_text_counts_its_length() -> None:
    assert size_of(message("x" * 10_000)) - size_of(message("")) == 10_000
    assert size_of(message("")) > ENTRY_BYTES


def test_what_is_inside_counts_too_however_deep() -> None:
    deep: Any = "x" * 10_000
    for _ in range(5_000):
        deep = [{"k": deep}]
    assert size_of(message(deep)) > 10_000 + 5_000 * 64
