"""The command group; each command lives in a file of its own, which is loaded when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "serve": "serve",
    "token": "token",
    "demo": "demo",
    "verify": "verify",
    "audit": "audit",
    "user": "user",
    "archive": "archive",
    "postgres": "postgres",
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


def command(name: str) -> click.Command:
    """The command of a name that is in `COMMANDS`."""
    found = getattr(import_module(f".{name}", __package__), COMMANDS[name])
    assert isinstance(found, click.Command)
    return found


class Commands(click.Group):
    """A group that loads a command when it is asked for: one needs a database's driver, and another nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """By name, as in any group."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None: there is no such command."""
        return command(cmd_name) if cmd_name in COMMANDS else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chatkit-engine", prog_name="chatkit")
def chatkit() -> None:
    """Reliable chat: a server engine and a client SDK."""
