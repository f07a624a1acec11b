"""A PostgreSQL server beside a measured one, on the same core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.postgres import PostgresServer, serving

from .pinned import cores


@contextmanager
def postgres(**settings: str) -> Iterator[PostgresServer]:
    """All of its processes are on the first core; settings are those of every installation but for these."""
    with serving(**{"shared_buffers": "128MB", "max_connections": "100", **settings}) as server:
        for stat in Path("/proc").glob(
            "[0-9]*/stat"
        ):  # what it has started; the rest comes from the first process
            pid, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
            if server.pid in (pid, parent):
                os.sched_setaffinity(pid, {cores()[0]})
        yield server
