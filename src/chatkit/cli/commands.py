"""The command group; each command lives in a file of its own, which is loaded when it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Final, NoReturn

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
        try:
            command = getattr(import_module(module, __package__), attribute)
        except ImportError as error:
            return _Unloadable(name, error)
        assert isinstance(command, click.Command)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Unloadable(click.Command):
    """A command whose module, or one that it needs, cannot be loaded: `chatkit --help` says so and shows the others."""

    def __init__(self, name: str, error: ImportError) -> None:
        super().__init__(name, short_help=f"Cannot be loaded here: {error}")
        self._error = error

    def make_context(self, *_: object, **__: object) -> NoReturn:
        """Whoever calls it, or asks for its help, gets the error."""
        raise self._error


@click.group(
    commands=Commands(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="chatkit-engine", prog_name="chatkit")
def chatkit() -> None:
    """Reliable chat: a server engine and a client SDK."""
