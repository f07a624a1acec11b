"""`chatkit doctor`: what will go wrong with this machine, these settings and what they lead to, before it does."""

from __future__ import annotations

from typing import Any

import anyio
import click
import msgspec

from ..errors import ConfigurationError
from .checks import certificates, disk, machine, services, versions
from .checks.base import Check, Finding, Subject, run_all
from .config import COMMANDS, PASSED_ON, assemble, context_of
from .configured import configuration

CHECKS: tuple[Check, ...] = (
    versions.python,
    versions.extras,
    versions.sqlite,
    machine.descriptors,
    machine.memory,
    machine.clocks,
    disk.disk,
    certificates.certificates,
    services.storage,
    services.bus,
    services.queue,
    services.archive,
    services.blobs,
    services.issuer,
)
"""All of them, in the order in which they are told."""

_FEATURES = {"metrics": "metrics", "traces": "otel"}
"""The extra that a setting needs, once it is given."""

_MARKS = {"ok": "ok     ", "warning": "warning", "failure": "FAILURE"}


@click.command(context_settings=PASSED_ON)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of {check, status, words, advice}.")
@click.option("--config", "file", metavar="FILE", help="The file with settings.")
@click.argument("command", type=click.Choice([*COMMANDS]), default="serve")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def doctor(as_json: bool, file: str | None, command: str, options: tuple[str, ...]) -> None:
    """Look at versions, extras, disk, clocks, descriptors and memory, and at what the settings lead to.

    COMMAND is serve or worker, and OPTIONS are its own. Nothing is changed, but for a small file that is written beside
    a SQLite log and removed. Each check has ten seconds. Ends with 0 if nothing failed, warnings or not, with 1 if
    something did, and with 2 if the settings cannot be read.
    """
    context = context_of(command, file, options)
    findings = [*_settings(context), *anyio.run(run_all, CHECKS, _subject(context))]
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        for found in findings:
            _tell(found)
    if any(found.status == "failure" for found in findings):
        context.exit(1)


def _settings(context: click.Context) -> list[Finding]:
    """Whether the command would take its settings: keys, certificates and other files are read."""
    found = [Finding("settings", "warning", words) for words in configuration(context).warnings(context)]
    try:
        assemble(context)
    except ConfigurationError as error:
        return [
            *found,
            Finding("settings", "failure", str(error), "chatkit config show says where it comes from"),
        ]
    return found or [Finding("settings", "ok", "every name and value fits")]


def _subject(context: click.Context) -> Subject:
    given, chosen = context.params, configuration(context)
    tables: Any = chosen.file.push() if chosen.file is not None else None
    kinds = [table.get("kind", name) for name, table in (tables or {}).items() if isinstance(table, dict)]
    return Subject(
        storage=given["storage"],
        bus=given.get("bus", "local://"),
        queue=given["queue"],
        archive=given.get("archive"),
        blobs=given.get("blobs"),
        workers=given.get("workers", 1),
        reads_archive="archive" in given,
        jwks_url=given.get("jwks_url"),
        config=chosen.settings.server(),
        pushes=kinds,
        features=[extra for name, extra in _FEATURES.items() if given.get(name) is not None],
    )


def _tell(found: Finding) -> None:
    click.echo(f"{_MARKS[found.status]}  {found.check:<12}  {found.words}")
    if found.advice:
        click.echo(f"{'':<23}{found.advice}")
