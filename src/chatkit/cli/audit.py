"""`chatkit audit`: who did what; whether nothing of that was changed; and a copy to keep elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio
import click
import msgspec

from .._abilities import offers
from .._one_line import one_line
from ..assemble import open_store
from ..errors import ConfigurationError, UnavailableError
from ..ports import SystemClock
from ..storage.audit import AuditFilter, AuditRow
from ..storage.audit_file import compare_audit, export_audit
from ..storage.base import OpensToRead, Store
from ..storage.verify_audit import check_audit
from ..storage.verify_report import Finding, Report
from ._progress import shown
from .common import exit_codes
from .configured import configured
from .utc import ms_of, utc

_Result = TypeVar("_Result")

_ROWS_PER_READ: Final = 1_000
_NEWEST: Final = 2**63 - 1
_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_storage = click.option(
    "--storage",
    default="sqlite:///chat.db",
    help="The log: sqlite:///PATH, also while a server runs on it, or postgresql://HOST/NAME. It is only read.",
)


class AuditResult(msgspec.Struct, frozen=True):
    """The object that `audit verify --json` prints; at most 20 findings are listed."""

    whole: bool
    findings: list[Finding]
    rows: int


@click.group(short_help="Who did what, and whether that was changed.")
def audit() -> None:
    """Show, check and export the audit: each privileged act, in the order in which they were done."""


@configured("storage")
@audit.command(context_settings={"show_default": True})
@_storage
@click.option("--conversation", help="Only acts in this conversation.")
@click.option("--user", help="Only acts that name this user: who did it, or whom it was done to.")
@click.option("--actor", help="Only acts of this user.")
@click.option("--host", is_flag=True, help="Only acts of the host.")
@click.option("--action", help="Only acts of this kind, such as BANNED.")
@click.option("--since", help="Only acts from then on: 30m, 12h, 7d, or 2026-11-29T13:45 (UTC).")
@click.option(
    "--after", type=click.IntRange(min=0), help="Those behind the act with this number, the oldest first."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, help="Most acts. Without --after, the newest."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one in a line.")
def show(
    storage: str,
    conversation: str | None,
    user: str | None,
    actor: str | None,
    host: bool,
    action: str | None,
    since: str | None,
    after: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print acts, one in a line: number, time, who, what, where, whom or what. The newest come last."""
    if host and actor is not None:
        raise click.UsageError("give --actor or --host")
    since_ms = None if since is None else _since_ms(since, SystemClock().now_ms())
    wanted = AuditFilter(conversation, user, "" if host else actor, action, since_ms)

    async def read(store: Store) -> None:
        rows = _newest(store, wanted, limit) if after is None else _following(store, wanted, after, limit)
        async for row in rows:
            click.echo(msgspec.json.encode(row) if as_json else one_line(_line(row)))

    with exit_codes():
        _reading(storage, read)


@configured("storage")
@audit.command(context_settings={"show_default": True})
@_storage
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An export, or one of its heads, that was kept elsewhere: everything in it must still be there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as a JSON object.")
def verify(storage: str, against: Path | None, as_json: bool) -> None:
    """See that no act was changed, taken out or put elsewhere; `chatkit verify` does that too, with everything else.

    Ends with 0 if all is as it was written, with 1 if it is not, and with 2 if it cannot be checked. Servers may be
    running on the log. That somebody who may write everything took out the newest acts, or wrote all of them anew, is
    seen only with --against.
    """
    report = Report()

    async def check(store: Store) -> int:
        rows = 0
        with shown(SystemClock()) as progress:
            async for step in check_audit(store, report):
                progress.step(step)
                rows = step.done
            if against is not None:
                async for step in compare_audit(store, str(against), report):
                    progress.step(step)
        return rows

    with exit_codes():
        rows = _reading(storage, check)
    _print_report(report, rows, as_json=as_json)
    sys.exit(0 if report.whole else 1)


@configured("storage")
@audit.command(context_settings={"show_default": True})
@_storage
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(storage: str, file: Path) -> None:
    """Append to FILE what is in the audit and not yet there, as JSON lines, and a head: one digest over all of it.

    Run again it goes on, also where it was cut off. Keep FILE, or its last line, where the users of the log cannot
    write: `chatkit audit verify --against FILE` says later whether the log still holds what it held.
    """

    async def write(store: Store) -> None:
        with shown(SystemClock()) as progress:
            async for step in export_audit(store, str(file), SystemClock().now_ms()):
                progress.step(step)

    with exit_codes():
        _reading(storage, write)
    click.echo(f"{file} holds the audit now", err=True)


def _reading(address: str, work: Callable[[Store], Awaitable[_Result]]) -> _Result:
    """Run something on a log that is opened to read. What storage cannot do now ends as what cannot be checked."""

    async def main() -> _Result:
        store = open_store(address)
        if not offers(store, OpensToRead):
            raise ConfigurationError("a log in the memory of a server cannot be read here; ask the server")
        await store.open_to_read()
        try:
            return await work(store)
        finally:
            with anyio.CancelScope(shield=True):
                await store.aclose()

    try:
        return anyio.run(main)
    except UnavailableError as error:
        raise click.UsageError(f"the log cannot be read now: {error}") from None


async def _newest(store: Store, wanted: AuditFilter, limit: int) -> AsyncIterator[AuditRow]:
    for row in reversed(await store.newest_acts(wanted, _NEWEST, limit)):
        yield row


async def _following(store: Store, wanted: AuditFilter, after: int, limit: int) -> AsyncIterator[AuditRow]:
    while limit and (rows := await store.acts(wanted, after, min(limit, _ROWS_PER_READ))):
        for row in rows:
            yield row
        after, limit = rows[-1].audit_id, limit - len(rows)


def _since_ms(text: str, now_ms: int) -> int:
    """A time, or how long ago. Raises UsageError."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000
    try:
        return ms_of(text)
    except ValueError:
        raise click.UsageError("--since takes 30m, 12h, 7d, or a time such as 2026-11-29T13:45") from None


def _line(row: AuditRow) -> str:
    where = f" in {row.conversation_id}" if row.conversation_id else ""
    detail = "".join(f" {name}={value}" for name, value in sorted(row.detail.items()))
    began = f"{row.audit_id:>8}  {utc(row.at_ms):%Y-%m-%d %H:%M:%S}  {row.actor_id or '(host)'}"
    return f"{began} {row.action}{where} {row.subject}{detail}"


def _print_report(report: Report, rows: int, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(AuditResult(report.whole, report.findings, rows)))
        return
    for finding in report.findings:
        click.echo(f"{finding.check}: {finding.words}")
    click.echo(f"the audit is {'whole' if report.whole else 'not what was written'}; {rows} acts were read")
