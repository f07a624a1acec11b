"""What the readers of IRC logs share. A log has no ids: lines are known by what they say, who says it, and when.

They do not say who is in a channel now: its members are those who wrote, the last ones if `--members-max` is less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..files import Files
from ..records import FoundConversation, FoundMessage, LeftOut, Record

NICK_MODES: Final = "~&@%+!* "
_HAPPENED: Final = "it tells what happened, and is no message"


def log_files(files: Files, *ends: str) -> list[str]:
    """The logs of a folder, or the one file."""
    names = [it for it in files.names if files.is_single or it.endswith(ends)]
    if not names:
        raise files.error("*" + ends[0], "it is not there: this is no folder of logs")
    return names


class Channel:
    """The records of one log."""

    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self) -> Iterator[Record]:
        yield FoundConversation(self.name, self.name.rpartition("/")[2], history="FROM_START")

    def said(self, nick: str, at_ms: int, text: str, where: str) -> Record:
        """A line that somebody wrote."""
        author = nick.strip(NICK_MODES)
        if not author or not text:
            return LeftOut("empty line", "it has no author or no text", where)
        return FoundMessage(self.name, author, at_ms, text)

    def happened(self, where: str) -> Record:
        """A line that the client wrote."""
        return LeftOut("notice", _HAPPENED, where)
