"""What `chatkit demo` calls: `show` tells the story and replays a log, `serve` stays up as a playground."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console as Output

from chatkit.ports import SystemClock, SystemIds

from .console import Console, counted, expect
from .irc import Line, parse_log
from .node import NodeProcess
from .playground import Playground
from .replay import ReplayResult, check_log, replay
from .story import StoryResult, tell_story

_TRANSCRIPT = Path(__file__).with_name("transcript.txt")


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


def serve(storage: str | None, port: int, folder: Path, *, as_json: bool) -> None:
    """Serve the playground until SIGTERM or Ctrl-C. Raises as `Playground.serve`.

    Args:
        storage: An address of a store; by default a file in `folder`.
        port: Where it listens; 0 for any.
    """
    logging.getLogger("chatkit.storage").setLevel(
        logging.ERROR
    )  # what it warns of matters to files that are kept
    Playground(as_json=as_json).serve(storage or f"sqlite:///{folder / 'demo.db'}", port)


def show(file: Path | None, limit: int | None, folder: Path, *, as_json: bool) -> None:
    """Tell the story and replay a log.

    Args:
        file: The log; by default the transcript beside this module.
        limit: Most lines of it; None for all.
        folder: Where the server and the devices keep their files.
        as_json: Print the results as a JSON object, and the steps on stderr.

    Raises:
        ExpectationError: Something did not happen as chatkit promises. May come inside an exception group.
        ConfigurationError: The log cannot be replayed.
        click.Abort: SIGTERM or SIGINT came first.
    """
    logging.getLogger("chatkit.client").setLevel(
        logging.ERROR
    )  # the story kills its server, and says so itself
    transcript = _transcript(file, limit)
    console = Console(Output(stderr=as_json, highlight=False, soft_wrap=True), SystemClock())
    check_log(transcript.lines)
    result = anyio.run(_until_signalled, transcript, folder, console)
    if result is None:
        raise click.Abort
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        _summary(result, console)


async def _until_signalled(transcript: Transcript, folder: Path, console: Console) -> DemoResult | None:
    """The result; None if a signal came first. The server is gone either way."""
    result: DemoResult | None = None
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await anext(signals)
                tasks.cancel_scope.cancel()

            tasks.start_soon(stop)
            result = await _demonstrate(transcript, folder, console)
            tasks.cancel_scope.cancel()
    return result


async def _demonstrate(transcript: Transcript, folder: Path, console: Console) -> DemoResult:
    console.output.print(
        "[bold]chatkit demo[/bold]: each line is what an event or an answer of the server said"
    )
    async with NodeProcess.running(folder, SystemIds()) as node:
        story = await tell_story(node, folder, console)
        replayed = await replay(node, transcript.lines, console)
        status = await node.stop()
        expect(status in (0, -signal.SIGTERM), "the server to end in order", status)
        console.saw("server", f"was asked to end (SIGTERM) and did: exit status {status}")
    return DemoResult(True, transcript.name, story, replayed, round(console.elapsed_s(), 2))


def _transcript(file: Path | None, limit: int | None) -> Transcript:
    if file is not None:
        name, content = str(file), file.read_bytes()
    else:
        name, content = _TRANSCRIPT.name, _TRANSCRIPT.read_bytes()
    return Transcript(name, parse_log(content.decode("utf-8", errors="replace"))[:limit])


def _summary(result: DemoResult, console: Console) -> None:
    story, replayed = result.story, result.replay
    console.heading("Summary")
    for name, text in (
        ("story", f"{story.entries} entries, nothing lost, nothing doubled; {story.duration_s:.1f} s"),
        (
            "replay",
            f"{counted(replayed.lines, 'message')} of {result.transcript}, {counted(replayed.members, 'member')}",
        ),
        (
            "deliveries",
            f"{replayed.deliveries} in {replayed.send_s:.1f} s: {replayed.deliveries_per_s} a second",
        ),
        ("all in all", f"{result.duration_s:.1f} s; every expectation held"),
    ):
        console.output.print(f"        {name:<14} {text}")
