"""`chatkit import`: the export of another system into a log."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

import anyio
import click
import msgspec

from ..assemble import open_store, without_login
from ..drivers.file_lock import FileInUseError
from ..errors import ConfigurationError, ImportFileError
from ..importing import log_lines
from ..importing.files import Files
from ..importing.formats._all import FORMATS, reader_of
from ..importing.importer import Importer, ImportTerms, ImportTotals
from ..importing.log_import import LogImporter, LogTotals
from ..importing.names import Names
from ..importing.plan import Plan
from ..importing.records import Format, LeftOut, Options, Record
from ..importing.times import Zone
from ..ports import Ports
from ..storage.base import Store
from ..storage.verify_report import Progress
from ._import_report import counted, report_of, words_of
from ._progress import Shown, shown
from .common import exit_codes
from .configured import configured

_TOLD_EVERY = 1_000
_USERS_HEADER = ["source", "user_id", "name", "email"]


@configured("storage")
@click.command(
    "import", context_settings={"show_default": True}, short_help="Bring in another system's export."
)
@click.argument("format_name", metavar="FORMAT", type=click.Choice(["chatkit", *FORMATS]))
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--storage",
    default="sqlite:///chat.db",
    help="The log: sqlite:///PATH, whose server does not run, or postgresql://HOST/NAME, which may be served. It is"
    " made if it is not there.",
)
@click.option("--dry-run", is_flag=True, help="Say what is in it and what would be left out; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as a JSON object.")
@click.option(
    "--users", type=click.Path(path_type=Path, exists=True), help="Who is who: a CSV of --write-users."
)
@click.option("--write-users", type=click.Path(path_type=Path), help="Write a CSV of who is in it, and end.")
@click.option("--prefix", help="Before each id.  [default: FORMAT and a colon]")
@click.option("--timezone", default="UTC", help="Of times that name none, such as Europe/Berlin.")
@click.option("--encoding", default="utf-8", help="Of text files.")
@click.option("--date-order", default="", help="Of WhatsApp's dates, such as DMY, where they do not tell.")
@click.option("--conversation", default="", help="What a file of one conversation is called.")
@click.option("--me", default="", help="Who exported it, where the files only say that it was oneself.")
@click.option(
    "--unread", is_flag=True, help="Imported messages count as unread. They wake nobody all the same."
)
@click.option(
    "--add-members", is_flag=True, help="Add who is in the export to conversations that are there already."
)
@click.option(
    "--members-max", default=1_000, type=click.IntRange(2, 100_000), help="Most members of a conversation."
)
def import_command(
    format_name: str,
    path: Path,
    storage: str,
    dry_run: bool,
    as_json: bool,
    users: Path | None,
    write_users: Path | None,
    prefix: str | None,
    timezone: str,
    encoding: str,
    date_order: str,
    conversation: str,
    me: str,
    unread: bool,
    add_members: bool,
    members_max: int,
) -> None:
    """Bring an export of another system into a log, with its own times and authors. See docs/import.md.

    FORMAT is chatkit, slack, telegram, whatsapp, discord, mattermost, matrix, irssi, weechat or znc.

    It may be repeated: what is there already is left alone. Nobody is notified, and nothing of it counts as unread.
    Conversations and users get ids such as slack:C0123; --users says who of them is somebody here. FORMAT chatkit reads
    what `chatkit export` wrote, and makes the same log of it: only --storage, --dry-run and --json count there.
    """
    if format_name == "chatkit":
        with exit_codes():
            _import_log(path, storage, dry_run=dry_run, as_json=as_json)
        return
    with exit_codes():
        options = Options(Zone(timezone), _known_encoding(encoding), date_order.upper(), conversation, me)
        names = Names(
            f"{format_name}:" if prefix is None else prefix, {} if users is None else _read_users(users)
        )
        run = _Run(reader_of(format_name), path, options, Plan(names))
        with shown(Ports().clock) as progress:
            run.look(progress)
            if write_users is not None:
                _write_users(write_users, run.plan)
            read_as = _read_as(options, run.plan)
            if dry_run or write_users is not None:
                totals = None
            else:
                terms = ImportTerms(format_name, path.name, unread, add_members, members_max, read_as)
                totals = anyio.run(run.bring_in, storage, terms, progress)
    report = report_of(run.plan, totals, members_max, read_as)
    click.echo(msgspec.json.encode(report) if as_json else words_of(report, without_login(storage)))


class _Run:
    """One export, which is gone over twice."""

    def __init__(self, reader: Format, path: Path, options: Options, plan: Plan) -> None:
        self._reader, self._path, self._options, self.plan = reader, path, options, plan

    def look(self, progress: Shown) -> None:
        """Plan it."""
        files = Files(self._path)
        for link in files.links:
            self.plan.omit(LeftOut("links", "they are not followed", link, is_message=False))
        total = max(1, sum(map(files.size, files.names)) // 1024)
        for _ in self.plan.add(self._records(files)):
            progress.step(Progress("reading (KiB)", min(total, files.done_bytes // 1024), total))

    async def bring_in(self, storage: str, terms: ImportTerms, progress: Shown) -> ImportTotals:
        """Carry it out."""
        store, ports = open_store(storage), Ports()
        try:
            secret = await _migrated(store)
            importer = Importer(store, secret, self.plan, terms, ports)
            async for totals in importer.run(self._records(Files(self._path))):
                progress.step(Progress("messages", totals.done, self.plan.messages))
            return importer.totals
        finally:
            with anyio.CancelScope(shield=True):
                await store.aclose()

    def _records(self, files: Files) -> Iterator[Record]:
        try:
            yield from self._reader(files, self._options)
        finally:
            files.close()


def _read_as(options: Options, plan: Plan) -> dict[str, str]:
    """What of the options the times and words of the planned messages depend on."""
    read_as = {"timezone": options.zone.name} if options.zone.was_used else {}
    return read_as | ({"encoding": codecs.lookup(options.encoding).name} if plan.has_keyless else {})


def _import_log(path: Path, storage: str, *, dry_run: bool, as_json: bool) -> None:
    """A file of `chatkit export`: looked at as a whole, then appended."""
    with shown(Ports().clock) as progress:
        looked, edits = LogTotals(), log_lines.RecalledEdits()
        for it in log_lines.read(Files(path), edits):
            looked.conversations += isinstance(it, log_lines.ConversationLine)
            looked.done += isinstance(it, log_lines.Entry)
            if not looked.done % _TOLD_EVERY:
                progress.step(Progress("reading", looked.done, 0))
        totals = looked if dry_run else anyio.run(_append_log, path, storage, edits, looked.done, progress)
    if as_json:
        click.echo(msgspec.json.encode(totals))
        return
    counts = f"{counted(totals.conversations, 'conversation')}, {counted(totals.done, 'entry', 'entries')}"
    done = "nothing was written" if dry_run else f"{totals.added} added, {totals.known} there already"
    click.echo(f"{counts}: {done}")


async def _append_log(
    path: Path, storage: str, edits: log_lines.RecalledEdits, count: int, progress: Shown
) -> LogTotals:
    store, ports = open_store(storage), Ports()
    try:
        secret = await _migrated(store)
        importer = LogImporter(store, secret, path.name, ports)
        async for totals in importer.run(log_lines.read(Files(path), edits)):
            progress.step(Progress("entries", totals.done, count))
        return importer.totals
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


async def _migrated(store: Store) -> bytes:
    """Open the log to write; returns its secret."""
    try:
        secret = await store.migrate()
    except FileInUseError as error:
        raise ConfigurationError(
            f"the log {error.path} is in use by a server or another import: stop that one first, then import"
        ) from None
    if store.restored:
        raise ConfigurationError("this log was put back from a backup; start its server once, then import")
    return secret


def _known_encoding(name: str) -> str:
    """The encoding of this name, if its lines end where those of ASCII do."""
    try:
        if b"a\n".decode(name) == "a\n":
            return name
    except LookupError:
        raise ConfigurationError(f"there is no encoding {name!r}") from None
    except UnicodeDecodeError:
        pass  # as with UTF-32
    raise ConfigurationError(
        f"files in {name} are not read; make them UTF-8 first: iconv -f {name} -t utf-8 OLD > NEW"
    )


def _read_users(path: Path) -> dict[str, str]:
    """Our ids by the source's."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            if next(rows, [])[:2] != _USERS_HEADER[:2]:
                raise ImportFileError(f"{path}:1: the first line must be {','.join(_USERS_HEADER)}")
            return {row[0]: row[1] for row in rows if len(row) > 1 and row[0] and row[1]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImportFileError(f"{path}: {error}") from None


def _write_users(path: Path, plan: Plan) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="", errors="replace") as file:
            rows = csv.writer(file)
            rows.writerow(_USERS_HEADER)
            for it in plan.users.values():
                rows.writerow(
                    [it.user, plan.names.user(it.user), _no_formula(it.name), _no_formula(it.email)]
                )
    except OSError as error:
        raise ConfigurationError(f"cannot make the file {path}: {error.strerror}") from None


def _no_formula(text: str) -> str:
    """What a spreadsheet takes for a text: names are what others chose."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t"} else text
