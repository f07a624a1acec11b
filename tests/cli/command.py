"""The command line as its users run it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SECRET = "a-secret-of-the-tests-with-more-than-thirty-two-bytes"
TIMEOUT_S = 100.0

Env = Mapping[str, str | None]
"""Variables to set, or with None to remove."""


def chatkit(*arguments: str, cwd: Path, env: Env | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "chatkit", *arguments],
        cwd=cwd,
        env=_environment(env or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def started(*arguments: str, cwd: Path, env: Env | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chatkit", *arguments],
        cwd=cwd,
        env=_environment(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line it prints, as soon as it does; "" once it has ended."""
    assert process.stdout is not None
    return process.stdout.readline()


def _environment(env: Env) -> dict[str, str]:
    merged: dict[str, str | None] = {
        **os.environ,
        "CHATKIT_JWT_SECRET": SECRET,
        "PYTHONUNBUFFERED": "1",
        **env,
    }
    return {name: value for name, value in merged.items() if value is not None}
