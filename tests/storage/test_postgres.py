"""The store on PostgreSQL keeps the contract, on a real server, as a role that has the rights of servers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chatkit.core.log import rules
from chatkit.errors import ConfigurationError, UnavailableError
from chatkit.storage.postgres import PostgresStore
from chatkit.testing.contracts.storage import Make, StoreContract
from chatkit.testing.contracts.storage_blobs import BlobContract
from chatkit.testing.contracts.storage_commands import do, group, send
from chatkit.testing.contracts.storage_contacts import ContactContract
from chatkit.testing.contracts.storage_import import ImportContract
from chatkit.testing.contracts.storage_moderation import DurableModerationContract
from chatkit.testing.contracts.storage_person import PersonContract
from chatkit.testing.contracts.storage_reopening import opened
from chatkit.testing.contracts.storage_search import SearchContract
from chatkit.testing.contracts.storage_trail import TrailContract
from tests.servers.pgbouncer import pooling
from tests.servers.postgres import PostgresServer

from .ids import seeded_ids
from .in_turn import StoresInTurn
from .server_role import as_role, serving_a_role
from .test_differential import agree


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving_a_role() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return as_role(server.empty_log())


NODES = int(os.environ.get("CHATKIT_TEST_NODES", "1"))
"""How many stores are on the log; `make matrix` runs the contract with 1 and with 3."""


class TestOnPostgres(
    StoreContract,
    BlobContract,
    ContactContract,
    DurableModerationContract,
    PersonContract,
    ImportContract,
    SearchContract,
    TrailContract,
):
    @pytest.fixture
    def make(self, address: str) -> Make:
        ids = seeded_ids()
        return lambda: StoresInTurn([PostgresStore(address, ids=ids) for _ in range(NODES)])


@pytest.mark.parametrize("seed", range(8))
async def test_a_random_history_is_the_same_as_in_memory(
    seed: int, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2 + seed % 2)
    async with opened(lambda: PostgresStore(address, ids=seeded_ids())) as store:
        await agree(store, seed, bytes_max=100_000)


async def test_a_random_history_is_the_same_behind_a_pooler(server: PostgresServer) -> None:
    """pgbouncer in transaction mode: each transaction has another connection of the server."""
    with pooling(server.empty_log()) as pooled:
        async with opened(lambda: PostgresStore(pooled, ids=seeded_ids())) as store:
            await agree(store, 100, bytes_max=100_000)


async def test_a_log_is_read_beside_its_servers_and_never_made(server: PostgresServer) -> None:
    address = server.new_database()
    reader = PostgresStore(address, ids=seeded_ids())
    with pytest.raises(ConfigurationError, match="has no log"):
        await reader.open_to_read()
    async with opened(lambda: PostgresStore(address, ids=seeded_ids())) as store:
        await do(store, group("g", "ann"), send("g", "ann", "k"))
        await reader.open_to_read()
        assert (await reader.trail("1-e1-2", None, 10)).client_msg_id == "k"
        with pytest.raises(ConfigurationError, match="open already"):
            await reader.open_to_read()
        with pytest.raises(UnavailableError):
            await reader.commit([group("h", "ann")])
        await reader.aclose()
