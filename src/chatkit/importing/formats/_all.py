"""Every format by its name, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from ..records import Format

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
    """The reader of a format of `FORMATS`."""
    return cast("Format", import_module(f".{name}", __package__).read)
