"""Exports in JSON: files with one object each, and lists of objects. Used by the readers of formats that are such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..files import Files
from ..json_stream import JsonStream


def documents(
    files: Files, names: Sequence[str], pattern: str, maker: str, advice: str
) -> Iterator[tuple[str, JsonStream]]:
    """(name, document) of each file, in order; each is to be read whole before the next.

    Args:
        files: What was exported.
        names: Which of it.
        pattern: What a file is called.
        maker: What made it, for messages: "this is no {maker}".
        advice: What to do where there is none.

    Raises:
        ImportFileError: There is no such file, or one holds no object, or more than one.
    """
    if not names:
        raise files.error(pattern, f"it is not there: {advice}")
    for name in names:
        document = files.json(name)
        if document.next_char() != "{":
            raise files.error(document.where(), f"an object is missing: this is no {maker}")
        yield name, document
        document.end()


def objects(files: Files, document: JsonStream) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of the list that comes next. Raises ImportFileError for what is no object."""
    for _ in document.items():
        where, value = document.where(), document.value()
        if not isinstance(value, dict):
            raise files.error(where, "an object is missing")
        yield where, value
