"""Logs of WeeChat: `irc.server.#channel.weechatlog`, a file or a folder of them.

Three columns, with tabs between: time, prefix, text. `-->`, `<--`, `--` and an empty prefix tell what happened, ` *` is
an action. Until 4.7 times are local (`--timezone`); from 4.8 on they are UTC with microseconds, such as
`2025-10-01T12:00:00.123456Z`. One file may hold both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..files import Files
from ..records import Options, Record
from ..times import iso_ms
from ._irc import Channel, log_files

_HAPPENED: Final = {"", "--", "-->", "<--", "=!=", "==="}


def read(files: Files, options: Options) -> Iterator[Record]:
    """Records of logs."""
    for name in log_files(files, ".weechatlog"):
        channel = Channel(options.conversation or name.removesuffix(".weechatlog"))
        yield from channel.begin()
        for number, line in files.lines(name, options.encoding):
            if not line.strip():
                continue
            time, tab, rest = line.partition("\t")
            prefix, _, text = rest.partition("\t")
            try:
                at_ms = iso_ms(time, options.zone)
            except ValueError:
                raise files.error(
                    name, "it is no line of a log of WeeChat: the time is missing", number
                ) from None
            if not tab:
                raise files.error(name, "it is no line of a log of WeeChat: the columns are missing", number)
            yield _record(channel, prefix.strip(), at_ms, text, f"{name}:{number}")


def _record(channel: Channel, prefix: str, at_ms: int, text: str, where: str) -> Record:
    if prefix in _HAPPENED:
        return channel.happened(where)
    if prefix == "*":
        nick = text.partition(" ")[0]
        return channel.said(nick, at_ms, f"* {text}", where)
    return channel.said(prefix, at_ms, text, where)
