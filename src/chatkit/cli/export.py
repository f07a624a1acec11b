"""`chatkit export`: a log as JSON lines, from which `chatkit import chatkit` makes the same log."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from .._abilities import offers
from .._one_line import one_line
from ..assemble import open_archive, open_store
from ..errors import ConfigurationError
from ..importing.log_export import export_log
from ..ports import SystemClock
from ..server.archiving.config import ArchiveConfig
from ..server.archiving.reader import ArchiveReader
from ..storage.base import OpensToRead
from ..storage.verify_report import Progress
from ._import_report import counted
from ._output import STDOUT, output
from ._progress import Shown, shown
from .common import exit_codes
from .configured import configured

_TOLD_EVERY = 1_000


@configured("storage", "archive")
@click.command(
    context_settings={"show_default": True}, short_help="A log as JSON lines, to be imported again."
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--storage",
    default="sqlite:///chat.db",
    help="The log: sqlite:///PATH, also while a server runs on it, or postgresql://HOST/NAME. It is only read.",
)
@click.option("--archive", help="Where older messages are, if the server has an archive.")
@click.option(
    "--conversation", "conversations", multiple=True, help="Only this one; may be said several times."
)
def export(file: Path, storage: str, archive: str | None, conversations: tuple[str, ...]) -> None:
    """Write a log to FILE, a new one, or to standard output (-). See docs/import.md for what is not in it.

    All messages are in it, whoever may read them. The server may run meanwhile.
    """
    with exit_codes(), shown(SystemClock()) as progress:
        count = anyio.run(_write, file, storage, archive, conversations, progress)
    place = "standard output" if file == STDOUT else one_line(str(file))
    click.echo(f"{counted(count, 'line')} written to {place}", err=True)


async def _write(
    file: Path, storage: str, archive: str | None, conversations: tuple[str, ...], progress: Shown
) -> int:
    """Returns how many lines were written."""
    bodies = None if archive is None else open_archive(archive)
    store = open_store(storage)
    if not offers(store, OpensToRead):
        raise ConfigurationError("a log in the memory of a server cannot be read here; ask the server")
    await store.open_to_read()
    count = 0
    try:
        entries = ArchiveReader(store, bodies, ArchiveConfig())
        lines = export_log(store, entries, conversations)
        with output(file) as out:
            async for line, _ in lines:
                out.write(line)
                count += 1
                if not count % _TOLD_EVERY:
                    progress.step(Progress("lines", count, 0))
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()
    return count
