"""The store on PostgreSQL keeps the contract, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatkit.storage.postgres import PostgresStore
from chatkit.testing.contracts.storage import Make, StoreContract
from tests.servers.postgres import PostgresServer, serving

from .ids import seeded_ids


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.new_database()


class TestOnPostgres(StoreContract):
    @pytest.fixture
    def make(self, address: str) -> Make:
        ids = seeded_ids()
        return lambda: PostgresStore(address, ids=ids)
