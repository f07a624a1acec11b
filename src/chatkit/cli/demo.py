"""`chatkit demo`: the story and the replay on a real server, or with `--serve` a playground that stays up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import click
import msgspec
from rich.console import Console

from ..ports import SystemClock, SystemIds
from .common import exit_codes
from .irc import Line, parse_log
from .node import NodeProcess
from .playground import Playground
from .replay import ReplayResult, check_size, replay
from .story import StoryResult, tell
from .teller import ExpectationError, Teller, expect

_LOGS = Path("../shared/data/ubuntu-irc")
_TRANSCRIPT = "demo_transcript.txt"


class Transcript(msgspec.Struct, frozen=True):
    """What is replayed, and where it is from."""

    name: str
    lines: list[Line]


class DemoResult(msgspec.Struct, frozen=True, rename="camel"):
    """Everything `chatkit demo` found; the object that `--json` prints."""

    ok: bool
    transcript: str
    story: StoryResult
    replay: ReplayResult
    duration_s: float


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

    FILE is an IRC log; by default the first one in ../shared/data/ubuntu-irc, or the transcript that ships with
    chatkit. Ends with 1 where something did not happen as chatkit promises.
    """
    if serve and (file is not None or limit is not None):
        raise click.UsageError("--serve replays nothing: FILE and --limit do not go with it")
    if not serve and (port is not None or storage is not None):
        raise click.UsageError("--port and --storage go with --serve")
    with exit_codes(ExpectationError), _temporary_folder() as folder:
        if serve:
            Playground(as_json=as_json).serve(storage or f"sqlite:///{folder / 'demo.db'}", port or 0)
        else:
            _run(_transcript(file, limit), folder, as_json=as_json)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="chatkit-demo-") as folder:
        yield Path(folder)


def _run(transcript: Transcript, folder: Path, *, as_json: bool) -> None:
    teller = Teller(Console(stderr=as_json, highlight=False, soft_wrap=True), SystemClock())
    check_size(transcript.lines)
    result = anyio.run(_until_signalled, transcript, folder, teller)
    if result is None:
        raise click.Abort
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        _summary(result, teller)


async def _until_signalled(transcript: Transcript, folder: Path, teller: Teller) -> DemoResult | None:
    """The result; None if a signal came first. The server is gone either way."""
    result: DemoResult | None = None
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await anext(signals)
                tasks.cancel_scope.cancel()

            tasks.start_soon(stop)
            result = await _demonstrate(transcript, folder, teller)
            tasks.cancel_scope.cancel()
    return result


async def _demonstrate(transcript: Transcript, folder: Path, teller: Teller) -> DemoResult:
    teller.console.print(
        "[bold]chatkit demo[/bold]: each line is what an event or an answer of the server said"
    )
    async with NodeProcess.running(folder, SystemIds()) as node:
        told = await tell(node, folder, teller)
        played = await replay(node, transcript.lines, teller)
        status = await node.stop()
        expect(status in (0, -signal.SIGTERM), "the server to end in order", status)
        teller.saw("server", f"was asked to end (SIGTERM) and did: exit status {status}")
    return DemoResult(True, transcript.name, told, played, round(teller.elapsed_s(), 2))


def _transcript(file: Path | None, limit: int | None) -> Transcript:
    file = file or next(iter(sorted(_LOGS.glob("*.txt"))), None)
    if file is not None:
        name, content = str(file), file.read_bytes()
    else:
        name, content = _TRANSCRIPT, resources.files(__package__).joinpath(_TRANSCRIPT).read_bytes()
    return Transcript(name, parse_log(content.decode("utf-8", errors="replace"))[:limit])


def _summary(result: DemoResult, teller: Teller) -> None:
    told, played = result.story, result.replay
    teller.heading("Summary")
    for name, text in (
        ("story", f"{told.entries} entries, nothing lost, nothing doubled; {told.duration_s:.1f} s"),
        ("replay", f"{played.lines} messages of {result.transcript}, {played.members} members"),
        ("deliveries", f"{played.deliveries} in {played.send_s:.1f} s: {played.deliveries_per_s} a second"),
        ("all in all", f"{result.duration_s:.1f} s; every expectation held"),
    ):
        teller.console.print(f"        {name:<14} {text}")
