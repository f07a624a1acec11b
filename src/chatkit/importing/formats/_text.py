"""What the readers share: values that may be anything, as text; and files that hang on messages."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ..files import Files
from ..records import LeftOut


def text_of(value: Any) -> str:
    """A text as it is; empty for anything else."""
    return value if isinstance(value, str) else ""


def texts_of(value: Any) -> Iterator[str]:
    """The texts of a list that are not empty; none of anything else."""
    if isinstance(value, list):
        yield from (it for it in value if isinstance(it, str) and it)


def id_of(value: Any) -> str:
    """An id that is a text in one version of a format, and a number in another."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(value)


def names_of_files(files: Any, *keys: str) -> Iterator[str]:
    """A line for each file that hangs on a message: its name and its address. Nothing is fetched.

    Args:
        files: A list of objects, or anything else.
        keys: Where each has its name, its address and so on.
    """
    for it in files if isinstance(files, list) else ():
        if isinstance(it, dict):
            found = " ".join(text_of(it.get(key)) for key in keys if text_of(it.get(key)))
            if found:
                yield f"[file] {found}"


def not_read(files: Files, read: Collection[str]) -> Iterator[LeftOut]:
    """Each file of an export that is none of these: what hangs on its messages."""
    for name in files.names:
        if name not in read:
            yield LeftOut("files", "they hang on messages, which name them", name, is_message=False)
