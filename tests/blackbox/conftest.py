"""One server for the ordinary tests; tests that kill get their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.proxy import BlockingProxy, proxy_in_thread

from .cells import EXCEPTIONS, MakeServer, cell
from .late import LateCloses
from .server_process import ServerProcess, faults_of_log, own_tracebacks
from .world import World

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What cannot run in the chosen cell is skipped, with the reason."""
    for item in items:
        reason, here = EXCEPTIONS.get(f"{item.path.name}::{getattr(item, 'originalname', '')}", ("", False))
        if here and item.path.parent == HERE:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def make_server() -> Iterator[MakeServer]:
    """Makes a server that is not started yet, of the chosen cell."""
    with cell() as make:
        yield make


@pytest.fixture(scope="session")
def server(make_server: MakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = make_server(tmp_path_factory.mktemp("server"))
    process.environment = {**process.environment, "CHATKIT_LOG_LEVEL": "debug"}
    process.start()
    try:
        yield process
    finally:
        process.stop()
    assert not own_tracebacks(process.log), process.log
    assert not faults_of_log(process.log), "at debug, after all tests"
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
def own_server(make_server: MakeServer, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, to be killed or drained."""
    process = make_server(tmp_path)
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
