"""The command group; each command lives in a file of its own, which is loaded when it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Final

import click

COMMANDS: Final = {
    "serve": "serve",
    "token": "token",
    "chat": "chat",
    "demo": "demo",
    "verify": "verify",
    "audit": "audit",
    "user": "user",
    "archive": "archive",
    "postgres": "postgres",
    "import": "import_command",
    "export": "export",
    "backup": "backup",
    "restore": "restore",
    "worker": "worker",
    "explain": "explain",
    "metrics": "metrics",
    "top": "top",
    "bench": "bench",
    "capacity": "capacity_command",
    "config": "config",
    "doctor": "doctor",
}
"""The command in each module of this package that has one."""


class Commands(Mapping[str, click.Command]):
    """The commands, each loaded when it is asked for: one needs a database's driver, and another nothing."""

    def __getitem__(self, name: str) -> click.Command:
        attribute = COMMANDS[name]
        module = f".{name}_" if iskeyword(name) else f".{name}"
        command = getattr(import_module(module, __package__), attribute)
        assert isinstance(command, click.Command)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@click.group(
    commands=Commands(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="chatkit-engine", prog_name="chatkit")
def chatkit() -> None:
    """Reliable chat: a server engine and a client SDK."""
