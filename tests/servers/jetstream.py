"""nats-server with JetStream: one alone, and three that keep the same streams."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .nats import greets, nats_binary
from .process import ServerProcess, free_port, running


class JetStreamProcess(ServerProcess):
    """A server that keeps streams in `folder/store`, and may be emptied while it is down."""

    def __init__(self, folder: Path, *options: str) -> None:
        binary = nats_binary()
        self._store = folder / "store"

        def command(port: int) -> Sequence[str]:
            address = ["--addr", "127.0.0.1", "--port", str(port)]
            return [binary, *address, "-js", "-sd", str(self._store), *options]

        super().__init__(command, folder, greets)

    def wipe(self) -> None:
        """Forget everything that was stored. It must be down."""
        shutil.rmtree(self._store)


@pytest.fixture(scope="session")
def jetstream_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JetStreamProcess]:
    """One for all tests of this process, which leave it running; each takes names of its own."""
    with running_jetstream(JetStreamProcess(tmp_path_factory.mktemp("jetstream"))) as server:
        yield server


@pytest.fixture
def own_jetstream(tmp_path: Path) -> Iterator[JetStreamProcess]:
    """One for this test alone, to do anything with."""
    with running_jetstream(JetStreamProcess(tmp_path)) as server:
        yield server


@contextmanager
def running_jetstream(server: JetStreamProcess) -> Iterator[JetStreamProcess]:
    with running(server):
        yield server


@contextmanager
def cluster(folder: Path, count: int = 3) -> Iterator[list[JetStreamProcess]]:
    """Servers that know each other; they have a leader soon after."""
    ports = [free_port() for _ in range(count)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            own = folder / f"n{number}"
            own.mkdir()
            listen = f"nats://127.0.0.1:{port}"
            options = ["-n", f"n{number}", "--cluster_name", "c", "--cluster", listen, "--routes", routes]
            server = JetStreamProcess(own, *options)
            stack.enter_context(running(server))
            servers.append(server)
        yield servers
