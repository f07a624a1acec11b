"""`chatkit backup`: copy a log, also while it is served; and keep the newest few copies."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click
import msgspec

from ..ports import Clock, SystemClock
from ..storage.sqlite.backup import PARTIAL_SUFFIX, BackedUp, backup_file, remove_partial
from ._progress import shown
from .common import exit_codes
from .utc import utc

_NICENESS: Final = 10
"""The server beside it goes first, on the processor and, with most schedulers, on the disk."""


class BackupResult(msgspec.Struct, frozen=True):
    """The object that `--json` prints.

    Attributes:
        log: What was copied.
        removed: Older backups that `--keep` removed.
    """

    log: str
    file: str
    bytes: int
    verified: bool
    conversations: int
    messages: int
    removed: list[str]
    seconds: float


@click.command(short_help="Copy a log, also while it is served.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a backup that has this name.")
@click.option("--no-verify", is_flag=True, help="Do not read all of the copy before it gets its name.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="DEST is a folder: keep so many of the backups that were made there of this log, and remove older ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as a JSON object.")
def backup(file: Path, dest: Path, force: bool, no_verify: bool, keep: int | None, as_json: bool) -> None:
    """Copy the log FILE, a server's SQLite file, to DEST, as it is at this moment.

    A server may be running on FILE: it goes on meanwhile, and its file `-wal` grows until the copy is made. DEST is a
    new file, or a folder, where the backup gets a name from the log and the time: NAME-20261129T134500Z.db. It is one
    file with mode 0600, which has its name only once it is whole and on the disk. `chatkit restore` puts it back.

    Ends with 0 if the backup is there, with 1 if the log is damaged, busy, or larger than the disk has room for, and
    with 2 if FILE or DEST cannot be used. Then nothing has the name of the backup that had it not before.
    """
    clock = SystemClock()
    started_s = clock.now_s()
    if keep is not None and not dest.is_dir():
        raise click.UsageError("--keep needs a folder as DEST")
    target = dest
    if dest.is_dir():
        target = dest / _name(file, clock)
        _remove_partials(file, dest)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with exit_codes(), shown(clock) as progress:
        made = backup_file(
            str(file),
            str(target),
            replace=force,
            verify=not no_verify,
            on_step=progress.step,
            tick=progress.tick,
        )
    removed = [] if keep is None else _rotate(file, target, keep)
    _print(file, made, removed, clock.now_s() - started_s, as_json=as_json)


def _name(file: Path, clock: Clock) -> str:
    return f"{file.stem}-{utc(clock.now_ms()):%Y%m%dT%H%M%SZ}.db"


def _ours(file: Path) -> re.Pattern[str]:
    """The names of backups of a log that have their name from this command."""
    return re.compile(re.escape(file.stem) + r"-\d{8}T\d{6}Z\.db")


def _remove_partials(file: Path, folder: Path) -> None:
    """Remove what killed backups of a log left in a folder: the next one has another name, and takes nothing over."""
    ours = _ours(file)
    for it in folder.glob("*" + PARTIAL_SUFFIX):
        if ours.fullmatch(it.stem):
            remove_partial(str(it.with_suffix("")))


def _rotate(file: Path, newest: Path, keep: int) -> list[str]:
    """Remove the oldest backups of a log beside the newest one; whatever has another kind of name is left."""
    ours = _ours(file)
    older = sorted(it for it in newest.parent.iterdir() if ours.fullmatch(it.name) and it.name != newest.name)
    removed = older[: max(0, len(older) - (keep - 1))]
    try:
        for it in removed:
            it.unlink()
    except OSError as error:
        raise click.ClickException(
            f"{newest} is made, but {error.filename} cannot be removed: {error.strerror}"
        ) from None
    return [str(it) for it in removed]


def _print(file: Path, made: BackedUp, removed: list[str], seconds: float, *, as_json: bool) -> None:
    if as_json:
        result = BackupResult(
            str(file),
            made.file,
            made.bytes,
            made.verified,
            made.conversations,
            made.messages,
            removed,
            round(seconds, 2),
        )
        click.echo(msgspec.json.encode(result))
        return
    counts = f"{made.conversations} conversations and {made.messages} messages, all read and whole"
    what = counts if made.verified else "it was not checked"
    click.echo(f"{made.file} has {made.bytes / 2**20:.1f} MiB of {file}: {what}; {seconds:.1f} s")
    for it in removed:
        click.echo(f"removed {it}")
