"""Topics as names that servers take: the fixed prefix, a dot, and the topic in an alphabet without any meaning."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode

from ..errors import ConfigurationError

PREFIX = "chatkit"
"""What all names begin with, by default."""

TOPIC_CHARACTERS_MAX = 200

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_prefix(prefix: str) -> str:
    """Raises ConfigurationError for anything but 1-64 letters, digits, `_` and `-`."""
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(f"bus prefix {prefix!r}: use 1 to 64 ASCII letters, digits, _ and -")
    return prefix


def name_of(prefix: str, topic: str) -> str:
    """The name of a topic: at most 1,132 ASCII characters; no blank, wildcard or control character, and one dot.

    Two topics never have the same name. Lone surrogates are as good as any character.
    """
    assert 1 <= len(topic) <= TOPIC_CHARACTERS_MAX, "topics have 1 to 200 characters"
    token = urlsafe_b64encode(topic.encode("utf-8", "surrogatepass")).rstrip(b"=")
    return f"{prefix}.{token.decode()}"
