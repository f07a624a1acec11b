"""`chatkit archive`: move old messages to an archive, see what is there, and put it back."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from .._abilities import offers
from .._one_line import one_line
from ..assemble import open_archive, open_store
from ..errors import ConfigurationError
from ..ports import Ports
from ..server.archiving.archiver import Archived, Archiver
from ..server.archiving.config import ArchiveConfig
from ..server.archiving.restorer import Restored, Restorer
from ..storage.base import Expire, OpensToRead, Store
from ..storage.cold import Archivable, ColdStore, ColdTerms, ColdTotals, Space
from ..storage.sqlite.shrink import shrink_file
from .common import exit_codes
from .configured import configuration, configured
from .existing_log import existing_log
from .logging_setup import LEVELS, set_up_logging

_storage = click.option(
    "--storage",
    default="sqlite:///chat.db",
    help="The log: sqlite:///PATH, whose server does not run, or postgresql://HOST/NAME, which may be served.",
)
_archive = click.option("--archive", required=True, help="file:///FOLDER or s3://BUCKET/PREFIX.")
_log_level = click.option(
    "--log-level", default="warning", type=click.Choice(LEVELS), help="What is told on stderr."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")


@click.group(short_help="Old messages in a folder or a bucket.")
def archive() -> None:
    """Old messages in a folder or a bucket: docs/archive.md."""


class Status(msgspec.Struct, frozen=True):
    """What `status --json` prints.

    Attributes:
        archived: What is in the archive.
        waiting: Conversations with entries that are old enough, but not there yet.
        space: The log on its disk.
    """

    archived: ColdTotals
    waiting: int
    space: Space


@configured("storage", "archive")
@archive.command(short_help="Move what is old to the archive.", context_settings={"show_default": True})
@_storage
@_archive
@click.option("--no-sweep", is_flag=True, help="Do not look for objects that no log knows.")
@click.option(
    "--claim",
    is_flag=True,
    help="Take the archive over from another copy of this log: once after a log was put back from a backup.",
)
@_log_level
@_json
def run(storage: str, archive: str, no_sweep: bool, claim: bool, log_level: str, as_json: bool) -> None:
    """Do once what a server with --archive does by itself: move what is old, and write anew what was recalled.

    Settings are those of `archiving`, such as --set archiving.after_s=2592000. A SQLite file belongs to its server,
    which does this itself; so this is for a file that nobody serves. On PostgreSQL it may run at any time, also several
    times at once: from cron, say. SIGTERM ends it between two steps, and nothing is lost wherever it ends.
    """
    set_up_logging(log_level)
    config = configuration().settings.archiving()

    async def work(store: Store, cold: ColdStore, secret: bytes) -> Archived:
        async def expire(command: Expire) -> None:
            await store.commit([command])

        archiver = Archiver(cold, opened, secret, config, Ports(), expire=expire)
        return await _until_signalled(archiver, sweep=not no_sweep, claim=claim)

    with exit_codes():
        opened = open_archive(archive)
        done = anyio.run(_with_log, storage, work)
    _say(
        done,
        as_json,
        f"{done.entries} entries are in {done.objects} new objects, and {done.moved} bodies have left the log;"
        f" {done.rewritten} objects were written anew, {done.expired} have expired;"
        f" entries of {done.ended} conversations were deleted; {done.unknown} belonged to no log;"
        f" the log is {done.given_back_bytes} bytes smaller",
    )


@configured("storage")
@archive.command(short_help="Say what is in the archive.", context_settings={"show_default": True})
@_storage
@_json
def status(storage: str, as_json: bool) -> None:
    """Say what of a log is in its archive, and what waits. A server may be running on it; nothing is changed."""
    config = configuration().settings.archiving()
    with exit_codes():
        found = anyio.run(_status, storage, config)
    it = found.archived
    _say(
        found,
        as_json,
        f"{it.entries} entries of {it.conversations} conversations are in {it.objects} objects, "
        f"{it.object_bytes} bytes\n"
        f"{found.waiting} conversations have entries that are to be moved there\n"
        f"{it.unfinished} objects are being written, {it.stale} hold messages that were recalled since\n"
        f"the log has {found.space.total_bytes} bytes, {found.space.free_bytes} of them free"
        + ("" if found.space.shrinks or not found.space.free_bytes else "; it does not shrink by itself"),
    )


@configured("storage", "archive")
@archive.command(
    short_help="Put archived messages back into the log.", context_settings={"show_default": True}
)
@_storage
@_archive
@click.option("--conversation", help="Only this one. Without it all of them.")
@_log_level
@_json
def restore(storage: str, archive: str, conversation: str | None, log_level: str, as_json: bool) -> None:
    """Put the bodies of archived messages back into the log, each object checked by its digest, and remove it.

    For whoever gives up archiving, or moves to another archive. Nothing may archive the log meanwhile; servers on
    PostgreSQL may go on reading. Ends with 1 if an object was lost or damaged: the rest came back, and what is older in
    that conversation stayed in the archive.
    """
    set_up_logging(log_level)

    async def work(store: Store, cold: ColdStore, secret: bytes) -> Restored:
        return await Restorer(cold, opened, secret, Ports()).run(conversation)

    with exit_codes():
        opened = open_archive(archive)
        done = anyio.run(_with_log, storage, work)
    failed = "".join(f"\nan object of {name} is lost or damaged" for name in done.failed)
    _say(done, as_json, f"{done.entries} entries of {done.objects} objects are in the log again{failed}")
    sys.exit(1 if done.failed else 0)


@archive.command(short_help="Give the free space of a SQLite log back.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_json
def shrink(file: Path, as_json: bool) -> None:
    """Write the log FILE anew without its free space, which takes as much room beside it. No server may run on it.

    Needed once for a log that was made before it could give space back by itself; `status` says so.
    """
    with exit_codes():
        before, after = shrink_file(str(file))
    _say({"before": before, "after": after}, as_json, f"{file} had {before} bytes, and has {after}")


@asynccontextmanager
async def _opened(store: Store) -> AsyncIterator[tuple[ColdStore, bytes]]:
    if not offers(store, Archivable):
        raise ConfigurationError("nothing of this log can be archived")
    secret = await store.migrate()
    try:
        yield store.cold, secret
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


async def _with_log(storage: str, work: Any) -> Any:
    store = await existing_log(storage)
    async with _opened(store) as (cold, secret):
        return await work(store, cold, secret)


async def _until_signalled(archiver: Archiver, *, sweep: bool, claim: bool) -> Archived:
    done = Archived()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                await anext(signals)
                archiver.stop()

            tasks.start_soon(wait)
            done = await archiver.run(sweep=sweep, claim=claim)
            tasks.cancel_scope.cancel()
    return done


async def _status(storage: str, config: ArchiveConfig) -> Status:
    store = open_store(storage)
    if not offers(store, Archivable) or not offers(store, OpensToRead):
        raise ConfigurationError("a log in the memory of a server cannot be read here")
    await store.open_to_read()
    try:
        return Status(await store.cold.totals(), await _waiting(store.cold, config), await store.cold.space())
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


async def _waiting(cold: ColdStore, config: ArchiveConfig) -> int:
    before_ms = Ports().clock.now_ms() - round(config.after_s * 1000)
    terms, count, after_key = ColdTerms(before_ms, config.keep_entries), 0, 0
    while True:
        due = await cold.due(terms, after_key)
        count += len(due.conversations)
        after_key = due.after_key
        if not after_key:
            return count


def _say(found: object, as_json: bool, words: str) -> None:
    click.echo(msgspec.json.encode(found) if as_json else "\n".join(map(one_line, words.split("\n"))))
