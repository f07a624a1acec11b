"""What the documentation shows, where it is more than a test that passes: a bot without its key, a whole program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..blackbox.server_process import ServerProcess
from ..blackbox.tokens import SECRET
from ..docs.snippets import ADDRESS, ROOT, blocks
from .test_pages import INI, JUDGED, files

pytest_plugins = ["pytester"]

PROOF = ROOT / "docs" / "proof.md"
KEY = ', client_msg_id=f"ok-{m.message_id}"'
RUNS = 2
"""A program that is shown can be run again, on the same server."""


def block_with(page: Path, words: str) -> str:
    """The only Python block of a page in which these words stand."""
    (text,) = (block.text for block in blocks(page, "python") if words in block.text)
    return text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    process.start()
    yield process
    process.stop()


def test_the_bot_of_the_readme_is_sound(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    shown = files(ROOT / "README.md")
    pytester.makepyfile(**shown | {"conftest": shown["conftest"] + JUDGED})
    pytester.runpytest_inprocess("--chat-seeds", "5").assert_outcomes(passed=5)


def test_the_bot_of_the_readme_is_found_wanting_without_its_key(pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    shown = files(ROOT / "README.md")
    assert KEY in shown["test_confirm"]
    shown["test_confirm"] = shown["test_confirm"].replace(KEY, "")
    pytester.makepyfile(**shown)

    result = pytester.runpytest_inprocess("--chat-seeds", "5")

    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(["*extra item: 'ok'", "chat_seed was 0;*"])


def test_the_program_with_a_proxy_ends_well_each_time(server: ServerProcess, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block_with(PROOF, "FaultyProxy(").replace(ADDRESS, f"127.0.0.1:{server.port}"))
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, str(program)],
            env=os.environ | {"CHATKIT_JWT_SECRET": SECRET, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
