"""`chatkit verify`: check all of a log, and say what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from ..errors import UnavailableError
from ..ports import Clock, SystemClock
from ..storage.sqlite.verify import verify_file
from ..storage.verify_report import Finding, Report
from ._progress import shown
from .common import exit_codes

_INTERRUPTED = 130  # as shells say of a process that Ctrl-C ended


class VerifyResult(msgspec.Struct, frozen=True):
    """The object that `--json` prints.

    Attributes:
        found: How many findings there are of each kind; not more than 20 of a kind are listed.
    """

    file: str
    whole: bool
    findings: list[Finding]
    found: dict[str, int]
    conversations: int
    messages: int
    seconds: float


class VerifyError(msgspec.Struct, frozen=True):
    """The object that `--json` prints if the check did not come to its end."""

    file: str
    error: str


@click.command(short_help="Check all of a log.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as a JSON object.")
def verify(file: Path, as_json: bool) -> None:
    """Read all of the log in FILE, a server's SQLite file, and report what is wrong with it.

    Ends with 0 if the log is whole, with 1 if it is damaged, and with 2 if FILE cannot be checked. Nothing is changed.
    A server may be running on FILE: it goes on meanwhile, and its file `-wal` grows until the check has ended.
    """
    clock = SystemClock()
    started_s, report = clock.now_s(), Report()
    try:
        with exit_codes():
            _check(str(file), report, clock)
    except click.ClickException as error:
        if as_json:
            click.echo(msgspec.json.encode(VerifyError(str(file), error.message)))
        raise
    except KeyboardInterrupt:
        so_far = f"{report.found.total()} findings" if report.findings else "nothing wrong was found"
        words = f"Interrupted: {so_far} until then; the check is not complete."
        click.echo(words, err=True)
        if as_json:
            click.echo(msgspec.json.encode(VerifyError(str(file), words)))
        sys.exit(_INTERRUPTED)
    _print(file, report, clock.now_s() - started_s, as_json=as_json)
    sys.exit(0 if report.whole else 1)


def _check(path: str, report: Report, clock: Clock) -> None:
    """Run the check to its end and show how far it is. Raises UsageError if the file is busy."""
    try:
        with shown(clock) as progress:
            for step in verify_file(path, report, progress.tick):
                progress.step(step)
    except UnavailableError as error:
        raise click.UsageError(f"the file cannot be checked now: {error}") from None


def _print(file: Path, report: Report, seconds: float, *, as_json: bool) -> None:
    if as_json:
        result = VerifyResult(
            str(file),
            report.whole,
            report.findings,
            {str(check): count for check, count in report.found.items()},
            report.conversations,
            report.messages,
            round(seconds, 2),
        )
        click.echo(msgspec.json.encode(result))
        return
    for finding in report.findings:
        click.echo(f"{finding.check}: {finding.words}")
    if unlisted := report.found.total() - len(report.findings):
        click.echo(f"and {unlisted} more findings of the same kinds")
    read = f"{report.conversations} conversations and {report.messages} messages were read in {seconds:.1f} s"
    advice = "" if report.whole else "; restore a backup (rows that were deleted by hand are damage too)"
    click.echo(f"{file} is {'whole' if report.whole else 'damaged'}; {read}{advice}")
