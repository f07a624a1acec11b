"""`chatkit demo`: its options. What it shows is in `chatkit._demo`, which is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from .common import exit_codes


@click.command(short_help="Show what chatkit does, on a real server.")
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
@click.option("--limit", type=click.IntRange(min=1), help="Replay only so many lines.")
@click.option("--serve", is_flag=True, help="Stay up with two users, an echo bot and the web page.")
@click.option("--port", type=click.IntRange(0, 65535), help="With --serve; 0, the default, for any.")
@click.option("--storage", help="With --serve; a temporary SQLite file by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as a JSON object.")
def demo(
    file: Path | None, limit: int | None, serve: bool, port: int | None, storage: str | None, as_json: bool
) -> None:
    """Tell the story of a message on a real server, then replay a group chat.

    FILE is an IRC log; without it, the transcript that ships with chatkit is replayed. Ends with 1 where something did
    not happen as chatkit promises.
    """
    if serve and (file is not None or limit is not None):
        raise click.UsageError("--serve replays nothing: FILE and --limit do not go with it")
    if not serve and (port is not None or storage is not None):
        raise click.UsageError("--port and --storage go with --serve")
    from .._demo import main
    from .._demo.console import ExpectationError

    with exit_codes(ExpectationError), TemporaryDirectory(prefix="chatkit-demo-") as folder:
        if serve:
            main.serve(storage, port or 0, Path(folder), as_json=as_json)
        else:
            main.show(file, limit, Path(folder), as_json=as_json)
