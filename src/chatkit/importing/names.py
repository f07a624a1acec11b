"""Ids of other systems as ours: two are never made one, and the same one always gives the same.

Letters, digits and `.:@-_` stay. Every other character is written as `_x` and two hexadecimal digits for each byte of
its UTF-8, and so is a `_` where what follows it would look like that. What does not fit is cut, and ends in a digest
of all of it. `\N{LATIN SMALL LETTER U WITH DIAERESIS}ber 1` is `_xC3_xBCber_x201`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from ..errors import ConfigurationError

ID_CHARS_MAX: Final = 128
_PLAIN: Final = re.compile(r"[A-Za-z0-9.:@_-]+\Z")
_ID: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:@-]{1,128}\Z")
_TO_ESCAPE: Final = re.compile(r"[^A-Za-z0-9.:@_-]|_(?=x[0-9A-F]{2}|h[0-9A-F]{32}\Z)")
_DIGEST_CHARS: Final = 34


def escaped(raw: str, chars_max: int = ID_CHARS_MAX) -> str:
    """An id of another system, in our alphabet.

    Args:
        raw: Not empty.
        chars_max: Longest result.
    """
    plain = raw if _PLAIN.match(raw) and "_x" not in raw and "_h" not in raw else _TO_ESCAPE.sub(_hex, raw)
    if plain in {".", ".."}:
        plain = "_x2E" * len(plain)
    if len(plain) <= chars_max:
        return plain
    digest = hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()[:32].upper()
    return f"{plain[: chars_max - _DIGEST_CHARS]}_h{digest}"


def _hex(found: re.Match[str]) -> str:
    return "".join(f"_x{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


def is_id(text: str) -> bool:
    """Whether it is an id of ours as it is."""
    return _ID.match(text) is not None


class Names:
    """How the users and conversations of one source are called here.

    Args:
        prefix: Before each id, such as `slack:`, so that nobody of the source becomes somebody of this log by chance.
        users: Who is somebody of this log: our id by the source's.

    Raises:
        ConfigurationError: The prefix is too long or has other characters, or one of the users is no id.
    """

    def __init__(self, prefix: str, users: Mapping[str, str] | None = None) -> None:
        if len(prefix) > 32 or (prefix and not _PLAIN.match(prefix)):
            raise ConfigurationError("a prefix has at most 32 characters of A-Z a-z 0-9 . : @ _ -")
        self._prefix = prefix
        self._users = dict(users or {})
        self._escaped: dict[str, str] = {}
        for source, user_id in self._users.items():
            if not is_id(user_id):
                raise ConfigurationError(
                    f"{user_id[:60]!r}, for {source[:60]!r}, is no id: 1 to 128 of A-Z a-z 0-9 . _ : @ -"
                )

    def user(self, source: str) -> str:
        """Our id of one of the source's users; never empty for what is not."""
        found = self._users.get(source) or self._escaped.get(source)
        if found is None:
            found = self._escaped[source] = self.conversation(source)
        return found

    def conversation(self, source: str) -> str:
        """Our id of one of the source's conversations."""
        made = self._prefix + escaped(source, ID_CHARS_MAX - len(self._prefix))
        return made if made not in {".", ".."} else escaped(made)
