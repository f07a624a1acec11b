"""What `chatkit export` and `chatkit user export` leave behind: a whole file under its name, or nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from chatkit import ChatServer, UnavailableError
from chatkit.cli.commands import chatkit
from chatkit.importing.log_export import export_log

from .command import TIMEOUT_S
from .test_user import fill

COMMANDS = pytest.mark.parametrize(
    "command", [("export", "log.jsonl"), ("user", "export", "ann", "--out", "log.jsonl")], ids=["log", "user"]
)


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    anyio.run(fill, tmp_path / "chat.db")


async def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def log_that_fails() -> None:
    raise UnavailableError("the log is busy", retry_after_s=1)


async def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep(1)


async def another_file() -> None:
    Path("log.jsonl").write_text("of somebody else")


def after_a_line(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[None]]) -> None:
    """Let something happen in the midst of an export."""

    async def lines(of: Callable[..., AsyncIterator[object]], *arguments: object) -> AsyncIterator[object]:
        async for line in of(*arguments):
            yield line
            await happens()

    of_user = ChatServer.export_user
    monkeypatch.setattr(ChatServer, "export_user", lambda *arguments: lines(of_user, *arguments))
    monkeypatch.setattr("chatkit.cli.export.export_log", lambda *arguments: lines(export_log, *arguments))


@COMMANDS
@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (full_disk, "Error: cannot write log.jsonl: No space left on device"),
        (log_that_fails, "Error: the log is busy"),
        (ctrl_c, "Aborted!"),
    ],
)
def test_half_an_export_is_none(
    command: tuple[str, ...],
    happens: Callable[[], Awaitable[None]],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        after_a_line(patched, happens)
        done = CliRunner().invoke(chatkit, command)
    assert (done.exit_code, done.stderr.strip()) == (1, says)
    assert not list(Path.cwd().glob("log.jsonl*"))
    assert CliRunner().invoke(chatkit, command).exit_code == 0


@COMMANDS
def test_an_export_has_its_name_once_it_is_whole_and_takes_no_other_file_s(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_a_line(monkeypatch, another_file)
    done = CliRunner().invoke(chatkit, command)
    assert done.exit_code == 2
    assert "cannot make the file log.jsonl: File exists" in done.stderr
    assert [it.read_text() for it in Path.cwd().glob("log.jsonl*")] == ["of somebody else"]


@pytest.mark.parametrize("command", [("export", "-"), ("user", "export", "ann")], ids=["log", "user"])
def test_a_full_disk_behind_standard_output_is_said_in_one_line(command: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chatkit", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.endswith("Error: cannot write standard output: No space left on device\n")
