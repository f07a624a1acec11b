"""One server for the ordinary tests; tests that kill get their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.proxy import BlockingProxy, proxy_in_thread
from tests.servers.postgres import serving

from .late import LateCloses
from .server_process import ServerProcess, Storage, sqlite_in
from .world import World


def own_tracebacks(log: str) -> list[str]:
    """The tracebacks that run through chatkit's code; what its web server logs has a test in `test_log.py`."""
    return [part for part in log.split("Traceback")[1:] if "chatkit/" in part]


@pytest.fixture(scope="session")
def storage() -> Iterator[None]:
    """SQLite; or PostgreSQL, with `CHATKIT_TEST_STORAGE=postgres`: all the same tests."""
    if os.environ.get("CHATKIT_TEST_STORAGE") != "postgres":
        yield
        return
    with serving() as postgres:
        Storage.address_for = lambda _folder: postgres.new_database()
        yield
        Storage.address_for = sqlite_in


@pytest.fixture(scope="session")
def server(storage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    process.start()
    try:
        yield process
    finally:
        process.stop()
    assert not own_tracebacks(process.log), process.log
    assert process.exit_code() in (0, -15)


@pytest.fixture(scope="session", autouse=True)
def late_closes(server: ServerProcess) -> Iterator[LateCloses]:
    """Starts the waits that take long at once, so that they pass while the other tests run."""
    waits = LateCloses(server)
    try:
        yield waits
    finally:
        waits.close()


@pytest.fixture
def world(server: ServerProcess) -> Iterator[World]:
    made = World(server.http_url, server.ws_url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def module_world(server: ServerProcess) -> Iterator[World]:
    """For tests that show that one and the same connection outlives every bad input."""
    made = World(server.http_url, server.ws_url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, to be killed or drained."""
    process = ServerProcess(tmp_path)
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def proxied(server: ServerProcess) -> Iterator[BlockingProxy]:
    """A faulty network before the server of all tests."""
    with proxy_in_thread("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
def far(proxied: BlockingProxy) -> Iterator[World]:
    """The same server, seen through `proxied`."""
    made = World(proxied.url(), proxied.url("ws", "/v1/ws"))
    try:
        yield made
    finally:
        made.close()
