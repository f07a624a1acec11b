"""`chatkit export`: a log as JSON lines, from which `chatkit import chatkit` makes the same log."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

import anyio
import click

from .._abilities import offers
from .._one_line import one_line
from ..assemble import open_archive, open_store
from ..errors import ConfigurationError, RefusedError
from ..importing.log_export import export_log
from ..ports import SystemClock
from ..server.archiving.config import ArchiveConfig
from ..server.archiving.reader import ArchiveReader
from ..storage.base import OpensToRead
from ..storage.verify_report import Progress
from ._import_report import counted
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
    place = "standard output" if str(file) == "-" else one_line(str(file))
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
        with _output(file) as out:
            try:
                async for line, _ in lines:
                    out.write(line)
                    count += 1
                    if not count % _TOLD_EVERY:
                        progress.step(Progress("lines", count, 0))
                out.flush()
                os.fsync(out.fileno()) if str(file) != "-" else None
            except (RefusedError, OSError):
                _take_away(file)
                raise
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()
    return count


def _output(file: Path) -> IO[bytes]:
    """Standard output, or a file that was not there, for its owner alone."""
    if str(file) == "-":
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        more = "; name another file, or - for standard output" if isinstance(error, FileExistsError) else ""
        raise ConfigurationError(f"cannot make the file {file}: {error.strerror}{more}") from None


def _take_away(file: Path) -> None:
    """Half an export is none."""
    if str(file) != "-":
        file.unlink(missing_ok=True)
