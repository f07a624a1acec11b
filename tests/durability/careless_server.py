"""`python -m tests.durability.careless_server` instead of `chatkit serve`: the server that answers without a sync.

It shows that the look at system calls finds such a server.
"""

from __future__ import annotations

from chatkit.cli import serve as serving
from chatkit.drivers.sqlite import Connection, open_sqlite
from chatkit.ports import SystemIds
from chatkit.storage.base import Store
from chatkit.storage.sqlite import SqliteStore


def connect(path: str, *, read_only: bool = False) -> Connection:
    """As `open_sqlite`, but a commit outlives only the process."""
    return open_sqlite(path, read_only=read_only, synchronous="NORMAL")


def open_store(address: str) -> Store:
    """The store behind `sqlite:///PATH`."""
    return SqliteStore(address.removeprefix("sqlite:///"), ids=SystemIds(), connect=connect)


if __name__ == "__main__":
    replaced: dict[str, object] = vars(serving)
    assert "open_store" in replaced
    replaced["open_store"] = open_store
    serving.serve()
