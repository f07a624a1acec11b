"""`chatkit verify`: check all of a log, and say what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import click
import msgspec

from .._abilities import offers
from ..assemble import open_archive, open_store, without_login
from ..errors import UnavailableError
from ..ports import Clock, SystemClock
from ..server.archiving.checker import check_objects
from ..storage.base import OpensToRead
from ..storage.cold import Archivable
from ..storage.sqlite.verify import verify_file
from ..storage.verify_report import Finding, Report
from ._progress import shown
from .common import exit_codes

_INTERRUPTED = 130  # as shells say of a process that Ctrl-C ended


class VerifyResult(msgspec.Struct, frozen=True):
    """The object that `--json` prints.

    Attributes:
        file: The log, or the address of its database without the login.
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
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--storage",
    envvar="CHATKIT_STORAGE",
    show_envvar=True,
    help="In place of FILE: postgresql://HOST/NAME, or sqlite:///PATH.",
)
@click.option("--archive", help="Read all of its archive too: file:///FOLDER or s3://BUCKET/PREFIX.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as a JSON object.")
def verify(file: Path | None, storage: str | None, archive: str | None, as_json: bool) -> None:
    """Read all of a log and report what is wrong with it: of FILE, a server's SQLite file, or of a database.

    Ends with 0 if the log is whole, with 1 if it is damaged, and with 2 if it cannot be checked. Nothing is changed.
    Servers may be running on it. Of a file one state is read, and its `-wal` grows until the check has ended. A
    database is read part by part, each as it is then; `target_session_attrs=any` in the address lets a standby be read.
    """
    log = _log(file, storage)
    clock = SystemClock()
    started_s, report = clock.now_s(), Report()
    try:
        with exit_codes():
            log.check(report, clock)
            if archive is not None:
                anyio.run(_check_archive, log.address, archive, report)
    except click.ClickException as error:
        if as_json:
            click.echo(msgspec.json.encode(VerifyError(log.name, error.message)))
        raise
    except KeyboardInterrupt:
        so_far = f"{report.found.total()} findings" if report.findings else "nothing wrong was found"
        words = f"Interrupted: {so_far} until then; the check is not complete."
        click.echo(words, err=True)
        if as_json:
            click.echo(msgspec.json.encode(VerifyError(log.name, words)))
        sys.exit(_INTERRUPTED)
    _print(log.name, report, clock.now_s() - started_s, as_json=as_json)
    sys.exit(0 if report.whole else 1)


class _Log(NamedTuple):
    """What is to be checked, as it is called, where it is, and how."""

    name: str
    address: str
    check: Callable[[Report, Clock], None]


def _log(file: Path | None, storage: str | None) -> _Log:
    if file is not None:
        return _Log(str(file), f"sqlite:///{file}", partial(_check_file, str(file)))
    if storage is None:
        raise click.UsageError("give FILE or --storage")
    if storage.startswith(("postgresql://", "postgres://")):
        return _Log(without_login(storage), storage, partial(_check_database, storage))
    if storage.startswith("sqlite:///"):
        path = storage.removeprefix("sqlite:///")
        return _Log(path, storage, partial(_check_file, path))
    raise click.UsageError("--storage must be postgresql://HOST/NAME or sqlite:///PATH")


async def _check_archive(address: str, archive: str, report: Report) -> None:
    """Hold every object to its digest; an object that is no good is a finding."""
    objects, store = open_archive(archive), open_store(address)
    assert offers(store, Archivable)
    assert offers(store, OpensToRead)
    await store.open_to_read()
    try:
        async for words in check_objects(store.cold, objects):
            if words:
                report.add("archive", words)
    finally:
        await store.aclose()
        await objects.aclose()


def _check_file(path: str, report: Report, clock: Clock) -> None:
    """Run the check to its end and show how far it is. Raises UsageError if the file is busy."""
    try:
        with shown(clock) as progress:
            for step in verify_file(path, report, progress.tick):
                progress.step(step)
    except UnavailableError as error:
        raise click.UsageError(f"the file cannot be checked now: {error}") from None


def _check_database(address: str, report: Report, clock: Clock) -> None:
    """Run the check to its end and show how far it is. Raises UsageError if the server cannot do it now."""
    from ..storage.postgres.verify import verify_database  # here: it is slow to load

    async def check() -> None:
        with shown(clock) as progress:
            async for step in verify_database(address, report):
                progress.step(step)

    try:
        anyio.run(check)
    except UnavailableError as error:
        raise click.UsageError(f"the database cannot be checked now: {error}") from None


def _print(name: str, report: Report, seconds: float, *, as_json: bool) -> None:
    if as_json:
        result = VerifyResult(
            name,
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
    click.echo(f"{name} is {'whole' if report.whole else 'damaged'}; {read}{advice}")
