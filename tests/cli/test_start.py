"""What the commands load when they start: no other command, and nothing that only others need."""

from __future__ import annotations

import subprocess
import sys

import click

from chatkit.cli.commands import COMMANDS, chatkit, command


def test_the_demo_is_not_loaded_before_it_is_shown() -> None:
    program = (
        "import sys\n"
        "import chatkit.cli.commands\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('chatkit._demo', 'rich'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_a_command_loads_no_other_one() -> None:
    program = (
        "import sys\n"
        "from chatkit.cli.commands import command\n"
        "command('token')\n"
        "print(*sorted({'asyncpg', 'uvicorn', 'chatkit.cli.serve', 'chatkit.cli.doctor'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_every_command_is_there_and_named_as_it_is_called() -> None:
    for name in COMMANDS:
        assert command(name).name == name
    assert chatkit.list_commands(click.Context(chatkit)) == sorted(COMMANDS)
    assert chatkit.get_command(click.Context(chatkit), "no-such") is None
