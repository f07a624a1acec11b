"""`chatkit restore`: put a backup in the place of a server's log."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ..ports import SystemClock
from ..storage.sqlite.restore import Restored, restore_file
from .common import exit_codes


@click.command(short_help="Put a backup in the place of a log.")
@click.argument("backup", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was done as a JSON object.")
def restore(backup: Path, file: Path, as_json: bool) -> None:
    """Put a copy of the log BACKUP in the place of FILE, a server's SQLite file.

    All of BACKUP is checked first, and it is not changed. No server may be running on FILE; the log that is there now
    is kept beside it under another name, and the new one gets its owner and mode. Anything else than a log is left
    alone. At the next start of the server every conversation gets a new epoch, and clients compare what they hold with
    what there is: nothing more has to be done.
    """
    suffix = f".replaced-{SystemClock().now_ms()}"
    with exit_codes():
        restored = restore_file(str(backup), str(file), suffix)
    click.echo(msgspec.json.encode(restored) if as_json else _words(restored))


def _words(restored: Restored) -> str:
    counts = f"{restored.conversations} conversations and {restored.messages} messages"
    kept = f" The former log is kept as {restored.kept}." if restored.kept else ""
    return f"{restored.file} holds the backup now: {counts}.{kept} Start the server; nothing more has to be done."
