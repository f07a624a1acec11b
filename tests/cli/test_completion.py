"""Shells complete commands and options, as docs/configuration.md says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def completed(shell: str, **env: str) -> str:
    """What the shell asks the command for."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("chatkit"))],
        env=os.environ | {"_CHATKIT_COMPLETE": shell} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    assert f"_CHATKIT_COMPLETE={shell}_complete" in completed(f"{shell}_source")


def test_commands_and_options_are_completed() -> None:
    assert "plain,backup" in completed("bash_complete", COMP_WORDS="chatkit back", COMP_CWORD="1")
    assert "plain,--storage" in completed("bash_complete", COMP_WORDS="chatkit serve --stor", COMP_CWORD="2")
