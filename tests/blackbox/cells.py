"""What the suite runs on: `CHATKIT_TEST_STORAGE` (sqlite, postgres, memory) and `CHATKIT_TEST_NODES` (1, 3).

`make matrix` runs every cell. Several processes cannot share a SQLite file or a memory, so three nodes on these are
three servers in one process, joined by `LocalBus`; on PostgreSQL they are three processes, joined by NATS. A balancer
deals connections to them in turn, and each HTTP request is a connection of its own: what one node has acknowledged is
asked of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.proof.cluster.nodes import Nodes
from tests.servers.nats import nats_process
from tests.servers.postgres import serving
from tests.servers.process import running

from .server_process import ROOT, ServerProcess

STORAGE = os.environ.get("CHATKIT_TEST_STORAGE", "sqlite")
NODES = int(os.environ.get("CHATKIT_TEST_NODES", "1"))
assert STORAGE in {"sqlite", "postgres", "memory"} and NODES in {1, 3}, (STORAGE, NODES)

MakeServer = Callable[[Path], ServerProcess]
"""A server that is not started, on a log of its own."""

_RESTARTED = "it starts a server again, and the log in memory is gone with its process"
_SHARED = "it bounds the memory of one process by what five slow readers would pile up; here three processes share them"

EXCEPTIONS = {
    "test_network.py::test_a_backlog_reaches_slow_readers_whole_and_is_not_piled_up": (
        _SHARED,
        STORAGE == "postgres" and NODES == 3,
    ),
    "test_kill.py::test_sigkill_under_load_ten_times": (_RESTARTED, STORAGE == "memory"),
    "test_kill.py::test_cursors_members_and_recalls_survive_a_sigkill": (_RESTARTED, STORAGE == "memory"),
    "test_drain.py::test_sigterm_drains": (_RESTARTED, STORAGE == "memory"),
    "test_erasing.py::test_a_server_that_was_killed_goes_on_with_it": (_RESTARTED, STORAGE == "memory"),
    "test_idempotency.py::test_same_answer_after_a_restart_of_the_server": (_RESTARTED, STORAGE == "memory"),
}
"""Tests that cannot run in a cell, with the reason, and whether this is such a cell."""


class NodesInOneProcess(ServerProcess):
    """Three servers on one store in one process, behind one port."""

    program = ("-m", "tests.proof.cluster.in_one_process")
    environment = {"PYTHONPATH": str(ROOT)}  # noqa: RUF012 -- nobody changes it


@contextmanager
def cell() -> Iterator[MakeServer]:
    """Makes servers of the chosen cell, on a database server and a bus that run until the end of the block."""
    if STORAGE == "postgres":
        with _on_postgres() as make:
            yield make
        return
    kind = ServerProcess if NODES == 1 else NodesInOneProcess
    yield lambda folder: kind(folder, storage="memory://" if STORAGE == "memory" else None)


@contextmanager
def _on_postgres() -> Iterator[MakeServer]:
    with ExitStack() as stack:
        postgres = stack.enter_context(serving(max_connections="300"))
        if NODES == 1:
            yield lambda folder: ServerProcess(folder, storage=postgres.new_database())
            return
        bus = stack.enter_context(
            running(nats_process(Path(stack.enter_context(TemporaryDirectory(prefix="chatkit-nats-")))))
        )

        def make(folder: Path) -> ServerProcess:
            storage = postgres.new_database()
            prefix = storage.partition("?")[0].rpartition("/")[2]
            return Nodes(folder, storage=storage, bus=f"nats://127.0.0.1:{bus.port}?prefix={prefix}")

        yield make
