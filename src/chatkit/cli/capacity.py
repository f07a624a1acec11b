"""`chatkit capacity`: what a load takes, from figures that were measured. The arithmetic is in `_capacity`."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ..errors import ConfigurationError
from ._capacity import Capacity, Inputs, capacity
from .common import exit_codes

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:g}"


def _bytes(value: float) -> str:
    """In powers of 1,000, as disks and lines are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"


def _inputs_as_options(command: _Function) -> _Function:
    """An option for each field of `Inputs`, in their order."""
    annotations = typing.get_type_hints(Inputs, include_extras=True)
    for field in reversed(msgspec.structs.fields(Inputs)):
        described = next(
            it.description for it in reversed(annotations[field.name].__metadata__) if it.description
        )
        kind = typing.get_args(annotations[field.name])[0]
        option = click.option(
            "--" + field.encode_name.replace("_", "-"),
            field.name,
            type=kind,
            help=f"{described} [default: {_number(field.default)}]",
        )
        command = option(command)
    return command


@click.command(name="capacity", short_help="What a load takes: nodes, databases, disk.")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Figures of your machine: a JSON object, as `python -m benchmarks.capacity --out FILE` writes it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (docs/scale.md).")
@_inputs_as_options
def capacity_command(file: Path | None, as_json: bool, **given: float | None) -> None:
    """Reckon what a load takes: nodes, databases, connections, memory, traffic and disk.

    Without options: 50 million daily users on the machine that docs/scale.md names. Options win over the file, and the
    file over the defaults. Nothing is measured and nothing is contacted.
    """
    with exit_codes():
        inputs = _inputs(
            {**_read(file), **{name: value for name, value in given.items() if value is not None}}
        )
    found = capacity(inputs)
    if as_json:
        click.echo(msgspec.json.encode({"inputs": inputs, **msgspec.to_builtins(found)}))
    else:
        _print(found)


def _read(file: Path | None) -> dict[str, Any]:
    """Raises ConfigurationError if there is no JSON object in it."""
    if file is None:
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise ConfigurationError(f"{file}: {error}") from None


def _inputs(given: dict[str, Any]) -> Inputs:
    try:
        return msgspec.convert(given, Inputs)
    except msgspec.ValidationError as error:
        raise ConfigurationError(str(error)) from None


def _print(found: Capacity) -> None:
    from rich.console import Console  # here: no other command waits for it to load
    from rich.table import Table

    table = Table(title=f"{found.stage}: at the peak", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in _rows(found):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _rows(found: Capacity) -> Iterable[tuple[str, str]]:
    yield "messages a second", _number(found.messages_per_s)
    yield "deliveries a second", _number(found.deliveries_per_s)
    yield "connections", _number(found.connections)
    yield "received", _bytes(found.received_bytes_per_s) + "/s"
    yield "traffic with pushes and acks", _bytes(found.traffic_bytes_per_s) + "/s"
    yield "nodes", _number(found.nodes)
    yield "  for connections alone", _number(found.nodes_for_connections)
    yield "  for CPU alone", _number(found.nodes_for_cpu)
    yield "  machines", _number(found.node_machines)
    yield "  memory", _bytes(found.node_memory_bytes)
    yield "  commands in a transaction", f"{found.commands_per_transaction:.1f}"
    if found.nodes > 1:
        yield "busy cores of the bus", f"{found.bus_busy_cores:.1f}"
    if found.databases:
        yield "databases", _number(found.databases)
        yield "  busy cores", f"{found.database_busy_cores:.1f}"
        yield "  of these for looks at heads and devices", f"{found.look_busy_cores:.1f}"
        yield "  messages a second that one takes", _number(found.messages_per_s_of_one_database)
        yield "  connections of nodes", _number(found.database_connections)
        yield "  write-ahead log a day", _bytes(found.wal_bytes_per_day)
    yield "stored a day", _bytes(found.stored_bytes_per_day)
    yield "stored in all", _bytes(found.stored_bytes)
