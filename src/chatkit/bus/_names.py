"""Topics as names that servers take: the fixed prefix, a dot, and the topic in an alphabet without any meaning."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Final

PREFIX = "chatkit"
"""What all names begin with, by default."""

TOPIC_CHARACTERS_MAX = 200

NAMES_KEPT: Final = 4096
"""Names that were made last: with a frame for each message, making them took a tenth of what a publish takes."""


@lru_cache(NAMES_KEPT)
def name_of(prefix: str, topic: str) -> str:
    """The name of a topic: at most 1,132 ASCII characters; no blank, wildcard or control character, and one dot.

    Two topics never have the same name. Lone surrogates are as good as any character.
    """
    assert 1 <= len(topic) <= TOPIC_CHARACTERS_MAX, "topics have 1 to 200 characters"
    token = urlsafe_b64encode(topic.encode("utf-8", "surrogatepass")).rstrip(b"=")
    return f"{prefix}.{token.decode()}"
