"""What the commands load when they start: no other command, and nothing that only others need."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from chatkit.cli import main
from chatkit.cli.commands import COMMANDS, chatkit


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after it."""
    program = f"import sys\n{statement}\nprint(*sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_demo_is_not_loaded_before_it_is_shown() -> None:
    found = loaded_by("import chatkit.cli.commands")
    assert "chatkit.cli.commands" in found
    assert sorted(name for name in found if name.startswith(("chatkit._demo", "rich"))) == []


def test_a_command_loads_no_other_one() -> None:
    found = loaded_by("from chatkit.cli.commands import chatkit; chatkit.commands['token']")
    assert "chatkit.cli.token" in found
    assert {"asyncpg", "uvicorn", "chatkit.cli.serve", "chatkit.cli.doctor"} & found == set()


def test_a_word_that_is_nearly_a_command_is_answered_with_that_command() -> None:
    done = CliRunner().invoke(chatkit, ["verfy"])
    assert done.exit_code == 2
    assert "Did you mean 'verify'?" in done.output


def test_a_missing_package_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.table", None)
    monkeypatch.setattr(sys, "argv", ["chatkit", "capacity"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value) == "the command line needs rich: pip install 'chatkit-engine[cli]'"


def test_help_shows_the_others_when_one_command_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COMMANDS:
        assert chatkit.commands[name].name == name, "those that need the one below are loaded"
    monkeypatch.delitem(sys.modules, "chatkit.cli.serve")
    monkeypatch.setitem(sys.modules, "h11", None)
    shown = CliRunner().invoke(chatkit, ["--help"], terminal_width=200)
    assert shown.exit_code == 0
    listed = [it.strip() for it in shown.output.partition("Commands:")[2].splitlines() if it]
    assert [it.split()[0] for it in listed] == sorted(COMMANDS)
    (line,) = (it for it in listed if "Cannot be loaded here" in it)
    assert line.startswith("serve ") and "h11" in line
    for words in (["serve"], ["serve", "--help"]):
        assert isinstance(CliRunner().invoke(chatkit, words).exception, ImportError)


def test_every_command_is_there_and_named_as_it_is_called() -> None:
    for name in COMMANDS:
        assert chatkit.commands[name].name == name
    assert chatkit.list_commands(click.Context(chatkit)) == sorted(COMMANDS)
    assert chatkit.get_command(click.Context(chatkit), "no-such") is None
