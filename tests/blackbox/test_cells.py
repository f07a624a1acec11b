"""The suite on three nodes: a part of it in every run; `make matrix` runs all of it in every cell."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.nats import nats_binary
from tests.servers.postgres import binaries

from .cells import EXCEPTIONS
from .server_process import ROOT

HERE = Path(__file__).parent
PART = ("test_story.py", "test_sync.py", "test_recall.py", "test_receipts.py")


@pytest.mark.skipif("CHATKIT_TEST_NODES" in os.environ, reason="this is a cell already")
def test_a_part_of_the_suite_on_three_nodes_on_postgresql() -> None:
    nats_binary(), binaries()
    environment = os.environ | {"CHATKIT_TEST_STORAGE": "postgres", "CHATKIT_TEST_NODES": "3", "CI": "true"}
    files = [str(HERE / name) for name in PART]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_every_exception_names_a_test() -> None:
    known = {
        f"{path.name}::{node.name}"
        for path in HERE.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert set(EXCEPTIONS) <= known
