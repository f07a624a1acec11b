"""A JSON document of any length, read value by value: what is in memory is one value and one piece of the file.

for key in document.fields():          # the object that comes next; each of its values has to be taken
    if key == "messages":
        for _ in document.items():   # an array
            use(document.value())
    else:
        document.skip()
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from ..errors import ImportFileError

VALUE_CHARS_MAX: Final = 4_000_000
"""Longest value that is taken as a whole: a message with all that hangs on it."""

_DEPTH_MAX: Final = 100
_IN_A_NUMBER: Final = ".eE+-"
"""What may follow the digits that have been read; nothing, at the end of a piece, is in it too."""

_NUMBER_CHARS_MAX: Final = 1_000
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_decode: Final = json.JSONDecoder().raw_decode


_CUT_OFF: Final = "; the file may be incomplete"


class JsonStream:
    """Reads from its beginning to its end.

    Args:
        pieces: The text, in pieces that are not empty.
        file: What errors name.

    Raises:
        ImportFileError: It is no JSON, is nested too deeply, or one value is too long; names the file and the line.
    """

    def __init__(self, pieces: Iterator[str], file: str) -> None:
        self._pieces = pieces
        self._file = file
        self._text = ""
        self._at = 0
        self._line = 1
        self._counted = 0
        self._ended = False

    def where(self) -> str:
        """File and line."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return f"{self._file}:{self._line}"

    def next_char(self) -> str:
        """The first character of what comes next; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None, "it matches nothing too"
            self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def fields(self, depth: int = 0) -> Iterator[str]:
        """The names of the object that comes next, each once its value is to be taken."""
        self._take("{", depth)
        if self.next_char() == "}":
            self._at += 1
            return
        while True:
            if self.next_char() != '"':
                raise self._missing("a name in quotes")
            name = self.value()
            self._take(":", depth)
            yield name
            if not self._goes_on("}"):
                return

    def items(self, depth: int = 0) -> Iterator[None]:
        """Once for each value of the array that comes next, which is then to be taken."""
        self._take("[", depth)
        if self.next_char() == "]":
            self._at += 1
            return
        while True:
            self.next_char()  # so that `where` names the line of the value
            yield
            if not self._goes_on("]"):
                return

    def value(self) -> Any:
        """The value that comes next, as a whole."""
        if not self.next_char():
            raise self._error("the file ends in the middle: it may be incomplete")
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except RecursionError:
                raise self._error("it is nested too deeply") from None
            except ValueError as error:
                if len(self._text) - self._at > VALUE_CHARS_MAX:
                    raise self._error(
                        f"a value has more than {VALUE_CHARS_MAX} characters, or is no JSON"
                    ) from None
                offset = max(0, getattr(error, "pos", self._at) - self._at)
                if not self._more():
                    raise self._error(_why(error), self._at + offset) from None
                continue
            may_go_on = (
                self._text[end : end + 1] in _IN_A_NUMBER and len(self._text) - end < _NUMBER_CHARS_MAX
            )
            if not may_go_on or not self._more():
                self._at = end
                return value

    def skip(self, depth: int = 1) -> None:
        """Pass over the value that comes next, however long it is."""
        kind = self.next_char()
        if kind == "{":
            for _ in self.fields(depth):
                self.skip(depth + 1)
        elif kind == "[":
            for _ in self.items(depth):
                self.skip(depth + 1)
        else:
            self.value()

    def end(self) -> None:
        """Nothing may follow."""
        if self.next_char():
            raise self._error("something follows the end")

    def _take(self, char: str, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise self._error("it is nested too deeply")
        if self.next_char() != char:
            raise self._missing(char)
        self._at += 1

    def _goes_on(self, end: str) -> bool:
        found = self.next_char()
        if found not in {",", end} or not found:
            raise self._missing(f", or {end}")
        self._at += 1
        return found == ","

    def _more(self) -> bool:
        """Read on, at least as much as is kept already: a long value is not looked at too often."""
        if self._ended:
            return False
        self.where()
        kept = self._text[self._at :]
        pieces, count = [kept], 0
        while count <= len(kept):
            piece = next(self._pieces, "")
            if not piece:
                self._ended = True
                break
            pieces.append(piece)
            count += len(piece)
        self._text, self._at, self._counted = "".join(pieces), 0, 0
        return count > 0

    def _missing(self, chars: str) -> ImportFileError:
        return self._error(f"no JSON: {chars} is missing{'' if self.next_char() else _CUT_OFF}")

    def _error(self, words: str, at: int | None = None) -> ImportFileError:
        if at is not None:
            self._at = at
        return ImportFileError(f"{self.where()}: {words}")


def _why(error: ValueError) -> str:
    """A sentence of what `json` says, whose own goes on with a place in the text that was kept."""
    if not isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error}"
    words = error.msg.removesuffix(" at").removesuffix(" starting")
    return f"no JSON: {words[:1].lower()}{words[1:]}{_CUT_OFF}"
