"""The words of README and docs are true: their Python runs against a real server, their commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import anyio
import click
import pytest

from chatkit.cli.commands import chatkit
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import SECRET
from tests.servers.postgres import serving

from .snippets import (
    ADDRESS,
    ROOT,
    Block,
    blocks,
    has_top_level_await,
    output_of,
    pages,
    run_python,
    unpasteable,
)

PAGE_TIMEOUT_S = 30.0
PAGES = pages()
PYTHON_PAGES = [page for page in PAGES if blocks(page, "python")]
NOT_CHATKIT = {
    "pip",
    "make",
    "export",
    "uvicorn",
    "python",
    "python3",
    ".",
    "cd",
    "git",
    "curl",
    "mkdocs",
    "openssl",
    "createuser",
}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _commands() -> list[tuple[str, str]]:
    """(page, command line) of every `$ ...` line of a console block."""
    return [
        (_name(page), line.removeprefix("$ "))
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]


COMMANDS = _commands()
CHATKIT_COMMANDS = [
    (page, line)
    for page, line in COMMANDS
    if re.match(r"(python -m |opentelemetry-instrument -- )?chatkit(?![.\w])", line)
]


DATABASE = "DATABASE_URL"
"""What pages call the variable that names their PostgreSQL database."""


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL database, for a page that names one."""
    with serving() as postgres:
        yield postgres.new_database()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A real server of its own for a page, started only when the page names its address."""
    process = ServerProcess(tmp_path)
    yield process
    process.stop()


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=_name)
async def test_python_of_a_page_runs(
    page: Path,
    server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to_run = [block for block in blocks(page, "python") if not block.skipped]
    if any(ADDRESS in block.text for block in to_run):
        server.start()
    if any(DATABASE in block.text for block in to_run):
        monkeypatch.setenv(DATABASE, request.getfixturevalue("database"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("CHATKIT_JWT_SECRET", SECRET)
    module = ModuleType(
        "snippets"
    )  # some libraries look up what an annotation names in the module of a function
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = vars(module)
    with anyio.fail_after(PAGE_TIMEOUT_S):
        for block in to_run:
            capsys.readouterr()
            await run_python(page, block, namespace, f"127.0.0.1:{server.port}")
            expected = output_of(page, block)
            if expected is not None:
                printed = capsys.readouterr().out.replace(f"127.0.0.1:{server.port}", ADDRESS)
                assert printed.splitlines() == expected, f"{page}:{block.line}"


@pytest.mark.parametrize("page", ["tutorial", "messages", "conversations"])
async def test_a_page_for_newcomers_can_be_run_again_on_the_same_server(
    page: str, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stopped in the middle begins anew; nothing waits for what comes only once."""
    server.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATKIT_JWT_SECRET", SECRET)
    path = ROOT / "docs" / f"{page}.md"
    with anyio.fail_after(PAGE_TIMEOUT_S):
        for _ in "12":
            namespace: dict[str, object] = {"__name__": "snippets"}
            for block in blocks(path, "python"):
                await run_python(path, block, namespace, f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=_name)
def test_what_awaits_at_the_top_level_can_be_pasted(page: Path) -> None:
    """Also into the prompt of Python 3.11 and 3.12."""
    for block in blocks(page, "python"):
        if not block.skipped and has_top_level_await(block):
            assert unpasteable(block) is None, f"{page}:{block.line}"


def test_what_cannot_be_pasted_is_noticed() -> None:
    assert unpasteable(Block("python", "if 1:\n    a = 1\n\n    b = 2\n", 1, None)) == "    b = 2"
    assert unpasteable(Block("python", "if 1:\n    a = 1\nb = 2\n", 1, None)) == "b = 2"
    assert unpasteable(Block("python", "a = (\n", 1, None)) == "a = ("


def _skipped() -> list[tuple[str, Block]]:
    return [(_name(page), block) for page in PAGES for block in blocks(page, "python") if block.skipped]


def test_a_block_is_skipped_only_with_a_reason() -> None:
    for page, block in _skipped():
        assert re.match(r"skip because \w+.*", block.note or ""), f"{page}:{block.line}"


def test_pages_hold_no_python_in_other_words() -> None:
    """A block tagged `py` or `python3` would never be run."""
    for page in PAGES:
        for kind in ("py", "python3", "pycon"):
            assert blocks(page, kind) == [], _name(page)


def _command(words: list[str]) -> list[str]:
    """The command, inside a group if it is in one."""
    found: list[str] = []
    group: click.Command = chatkit
    for word in words:
        if not isinstance(group, click.Group) or word not in group.commands:
            break
        found.append(word)
        group = group.commands[word]
    return found


@pytest.mark.parametrize(("page", "line"), CHATKIT_COMMANDS, ids=lambda value: str(value)[:60])
def test_command_exists_with_its_options(page: str, line: str) -> None:
    """The command's own help knows every option that the page gives it."""
    words = shlex.split(line.split("|")[0], comments=True)
    words = words[words.index("chatkit") + 1 :]
    command = _command(words)
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    shown = subprocess.run(
        [sys.executable, "-m", "chatkit", *command, "--help"], capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert {option for option in options if option not in shown.stdout} == set()


def test_console_blocks_name_only_known_programs() -> None:
    for page, line in COMMANDS:
        assert (page, line) in CHATKIT_COMMANDS or shlex.split(line)[0] in NOT_CHATKIT, f"{page}: {line}"


def test_make_words_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = {line.split()[1] for _, line in COMMANDS if line.startswith("make ")}
    assert named <= targets
