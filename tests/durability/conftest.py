"""What the durability tests share: strace or the reason why there is none, the prepared files, servers on copies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.server_process import ServerProcess

from .stage import Stage, fresh_server
from .strace import missing
from .syscalls import Files


@pytest.fixture(scope="session")
def strace() -> None:
    """Skips without a strace that works; where everything is to be tested that is a failure."""
    reason = missing()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("durability"))


@pytest.fixture
def server(files: Files, tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server on a copy of the prepared file."""
    process = fresh_server(files.prepared(), tmp_path / "server")
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def stage(server: ServerProcess) -> Iterator[Stage]:
    """Alice and bob on that server."""
    made = Stage(server)
    try:
        yield made
    finally:
        made.close()
