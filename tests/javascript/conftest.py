"""Fixtures of the JavaScript client's tests: Node.js and the pinned TypeScript, or a reason why they are not here."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def _found(path: str | Path | None, what: str) -> str:
    if path is not None and Path(path).exists():
        return str(path)
    message = f"no {what} found: run scripts/node"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def node() -> str:
    return _found(shutil.which("node"), "Node.js")


@pytest.fixture(scope="session")
def npm(node: str) -> str:
    return _found(shutil.which("npm"), "npm")


@pytest.fixture(scope="session")
def tsc(node: str) -> str:
    return _found(Path(sys.prefix) / "node/node_modules/.bin/tsc", "TypeScript")
