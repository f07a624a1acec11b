"""Every format by its name, each loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Final, cast

from ..files import Files
from ..records import Format, FoundMessage, LeftOut, Options, Record
from ..times import is_storable

FORMATS: Final = (
    "slack",
    "telegram",
    "whatsapp",
    "discord",
    "mattermost",
    "matrix",
    "irssi",
    "weechat",
    "znc",
)


def reader_of(name: str) -> Format:
    """The reader of a format of `FORMATS`; messages whose times cannot be stored are left out."""
    return partial(_timely, cast("Format", import_module(f".{name}", __package__).read))


def _timely(read: Format, files: Files, options: Options) -> Iterator[Record]:
    for it in read(files, options):
        if type(it) is FoundMessage and not is_storable(it.at_ms):
            where = f"{it.conversation} {it.key}".rstrip()
            yield LeftOut("message", "its time is before 1970 or after 9999", where)
        else:
            yield it
