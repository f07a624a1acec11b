"""Text that can be stored and sent on: NUL and halves of surrogate pairs, which cannot, become U+FFFD."""

from __future__ import annotations

import re
from typing import Final

_BROKEN: Final = re.compile("[\x00\ud800-\udfff]")


def whole(text: str, chars_max: int | None = None) -> str:
    """The text without what nothing could send on, cut if it is longer."""
    return _BROKEN.sub("\ufffd", text[:chars_max])
