"""Client tests run on virtual time unless a module says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkit.testing.backends import VIRTUAL

from ..blackbox.server_process import ServerProcess


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A real server on a log of its own."""
    process = ServerProcess(tmp_path)
    process.start()
    yield process
    process.stop()
