"""Text from strangers in one line of a terminal or a log: nothing in it can end the line or colour it."""

from __future__ import annotations

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""Controls (line ends and the start of ANSI sequences among them), other line ends, marks that turn the direction of
writing, and halves of characters, which cannot be written at all."""


def one_line(text: str) -> str:
    """The text with each such character as its escape, `\\x1b` or `\\u2028`. A backslash stays one."""
    return _UNPRINTABLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
