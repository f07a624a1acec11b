"""`chatkit restore`: put a backup in the place of a server's log, or say that a database was put back."""

from __future__ import annotations

from pathlib import Path

import anyio
import click
import msgspec

from ..assemble import without_login
from ..ports import SystemClock
from ..storage.sqlite.restore import Restored, restore_file
from .common import exit_codes


class MarkedResult(msgspec.Struct, frozen=True):
    """The object that `--json` prints of a database.

    Attributes:
        storage: Its address, without the login.
        put_back: That it counts as put back now.
    """

    storage: str
    put_back: bool = True


@click.command(short_help="Put a backup in the place of a log.")
@click.argument("backup", type=click.Path(path_type=Path), required=False)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--storage",
    help="In place of BACKUP and FILE: postgresql://HOST/NAME, which PostgreSQL's own tools have put back.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as a JSON object.")
def restore(backup: Path | None, file: Path | None, storage: str | None, as_json: bool) -> None:
    """Put a copy of the log BACKUP in the place of FILE, a server's SQLite file.

    All of the copy is checked before it is put there, and BACKUP is not changed. No server may be running on FILE; the
    log that is there now is kept beside it under another name, and the new one gets its owner and mode. Anything else
    than a log is left alone. At the next start of the server every conversation gets a new epoch, and clients compare
    what they hold with what there is: nothing more has to be done.

    With --storage nothing is copied: it says that this database is an older state than what clients have seen, as after
    a recovery to a moment, or a failover to a standby that may lack something. The next server that starts on it, or
    one that runs, within seconds, gives every conversation a new epoch.
    """
    if storage is not None:
        if backup is not None or file is not None:
            raise click.UsageError("give BACKUP and FILE, or --storage")
        _say_put_back(storage, as_json=as_json)
        return
    if backup is None or file is None:
        raise click.UsageError("give BACKUP and FILE, or --storage")
    suffix = f".replaced-{SystemClock().now_ms()}"
    with exit_codes():
        restored = restore_file(str(backup), str(file), suffix)
    click.echo(msgspec.json.encode(restored) if as_json else _words(restored))


def _say_put_back(address: str, *, as_json: bool) -> None:
    if not address.startswith(("postgresql://", "postgres://")):
        raise click.UsageError("--storage must be postgresql://HOST/NAME")
    from ..storage.postgres.put_back import mark_put_back  # here: it is slow to load

    with exit_codes():
        anyio.run(mark_put_back, address)
    name = without_login(address)
    words = f"{name} counts as put back: servers renew every conversation now, or when they start."
    click.echo(msgspec.json.encode(MarkedResult(name)) if as_json else words)


def _words(restored: Restored) -> str:
    counts = f"{restored.conversations} conversations and {restored.messages} messages"
    kept = f" The former log is kept as {restored.kept}." if restored.kept else ""
    return f"{restored.file} holds the backup now: {counts}.{kept} Start the server; nothing more has to be done."
