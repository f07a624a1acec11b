"""`chatkit config`: which settings are in force and where each comes from, and whether all of them fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from .common import exit_codes
from .configured import configuration, is_setting
from .login_options import Login
from .masking import MASK, masked, masked_place
from .metrics_port import parts_of
from .serve import assembled, check_sharing, serve
from .settings import DEFAULT, default_of, fields, option_of, said
from .traces_option import traces_of
from .worker import log_of, worker, worker_parts_of

COMMANDS = {"serve": serve, "worker": worker}
PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_URLS = ("url", "endpoint")


class Setting(msgspec.Struct, frozen=True):
    """One line of `config show`."""

    name: str
    value: Any
    source: str


@click.group()
def config() -> None:
    """The settings of a server or a worker: which are in force, and whether they fit."""


@config.command(context_settings=PASSED_ON)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of {name, value, source}.")
@click.option("--config", "file", metavar="FILE", help="The file with settings.")
@click.argument("command", type=click.Choice([*COMMANDS]), default="serve")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def show(as_json: bool, file: str | None, command: str, options: tuple[str, ...]) -> None:
    """Print each setting with its value and its source: `option`, a variable, a file, `default`.

    COMMAND is serve or worker, and OPTIONS are its own. Secrets are shown as ***, also inside addresses.
    """
    settings = list(_settings(context_of(command, file, options)))
    if as_json:
        click.echo(msgspec.json.encode(settings))
        return
    width = max(len(setting.name) for setting in settings)
    for setting in settings:
        source = "" if setting.source == DEFAULT else f"  ({setting.source})"
        click.echo(f"{setting.name:<{width}}  {_words(setting.value)}{source}")


@config.command(context_settings=PASSED_ON)
@click.option("--config", "file", metavar="FILE", help="The file with settings.")
@click.argument("command", type=click.Choice([*COMMANDS]), default="serve")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def check(file: str | None, command: str, options: tuple[str, ...]) -> None:
    """See that a server or worker would take its settings: names, values, addresses, keys, files. Connects to nothing.

    Ends with 0, or with 2 and what is wrong. `chatkit doctor` looks at what the addresses lead to.
    """
    context = context_of(command, file, options)
    with exit_codes():
        assemble(context)
    for words in configuration(context).warnings(context):
        click.echo(f"warning: {words}", err=True)
    chosen = configuration(context).file
    click.echo(f"the settings of chatkit {command} fit{'' if chosen is None else f' ({chosen.path})'}")


def context_of(command: str, file: str | None, options: tuple[str, ...]) -> click.Context:
    arguments = [*(() if file is None else ("--config", file)), *options]
    return COMMANDS[command].make_context(command, arguments)


def assemble(context: click.Context) -> None:
    """Make everything that the command would make, and start nothing. Raises ConfigurationError."""
    given, chosen = context.params, configuration(context)
    if given["metrics"] is not None:
        parts_of(given["metrics"])
    traces_of(given["traces"])
    if context.command is serve:
        check_sharing(given["workers"], given["storage"], given["bus"], given["metrics"])
        login = Login(**{name: given[name] for name in Login.__struct_fields__})
        assembled(
            chosen,
            given["storage"],
            given["bus"],
            given["queue"],
            given["push"],
            given["archive"],
            given["blobs"],
            login,
        )
    elif given["status"]:
        log_of(given["storage"])
    else:
        worker_parts_of(chosen, given["storage"], given["push"], given["queue"])


def _settings(context: click.Context) -> Iterator[Setting]:
    chosen = configuration(context)
    for option in context.command.params:
        if is_setting(option):
            yield _of_option(context, str(option.name))
    for path, _ in fields():
        if context.command is serve or path[0] == "delivery":
            given = chosen.settings.given.get(path)
            value = default_of(path) if given is None else given.value
            yield Setting(option_of(path), said(value), DEFAULT if given is None else given.source)


def _of_option(context: click.Context, name: str) -> Setting:
    chosen, value = configuration(context), context.params[name]
    tables = None if chosen.file is None else chosen.file.push()
    if name == "push" and value is None and chosen.file is not None and tables is not None:
        return Setting(name, _tables(tables), str(chosen.file.path))
    return Setting(name, masked(name, value), chosen.source_of(context, name))


def _tables(tables: Any) -> Any:
    """The tables of providers, with only the host of an address: the path of a webhook may be its secret."""
    shown = masked("push", tables)
    for table in shown.values() if isinstance(shown, dict) else ():
        for name in _URLS if isinstance(table, dict) else ():
            if isinstance(table.get(name), str) and table[name] != MASK:
                table[name] = masked_place(table[name])
    return shown


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"[{name}] {_words(inner)}" for name, inner in value.items()) or "{}"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
