"""The store in memory keeps the contract."""

from __future__ import annotations

import pytest

from chatkit.errors import UnavailableError
from chatkit.storage.base import Store
from chatkit.storage.memory import MemoryStore
from chatkit.testing.contracts.storage import VolatileStoreContract
from chatkit.testing.contracts.storage_blobs import BlobContract
from chatkit.testing.contracts.storage_commands import group
from chatkit.testing.contracts.storage_contacts import ContactContract
from chatkit.testing.contracts.storage_import import ImportContract
from chatkit.testing.contracts.storage_moderation import ModerationContract
from chatkit.testing.contracts.storage_person import PersonContract
from chatkit.testing.contracts.storage_search import SearchContract
from chatkit.testing.contracts.storage_trail import TrailContract

from .ids import seeded_ids


class TestMemoryStore(
    VolatileStoreContract,
    BlobContract,
    ContactContract,
    ModerationContract,
    PersonContract,
    ImportContract,
    SearchContract,
    TrailContract,
):
    @pytest.fixture
    async def store(self) -> Store:
        store = MemoryStore(ids=seeded_ids())
        await store.migrate()
        return store


async def test_the_secret_is_made_once() -> None:
    store = MemoryStore(ids=seeded_ids())
    secret = await store.migrate()

    assert len(secret) == 32
    assert await store.migrate() == secret


async def test_a_store_that_is_not_open_takes_nothing() -> None:
    store = MemoryStore(ids=seeded_ids())
    assert not store.healthy
    with pytest.raises(UnavailableError):
        await store.commit([group("g", "ann")])
    await store.migrate()
    await store.aclose()
    with pytest.raises(UnavailableError):
        await store.commit([group("g", "ann")])
