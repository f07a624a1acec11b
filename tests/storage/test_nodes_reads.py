"""Every store keeps the contract of the reads that only nodes use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatkit.storage.base import Store
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore

from .commands import CountingIds
from .nodes_contract import NodeContract


class TestStores(NodeContract):
    @pytest.fixture(params=["memory", "inline", "threads"])
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
        store: Store
        if request.param == "memory":
            store = MemoryStore(ids=CountingIds())
        else:
            threads = request.param == "threads"
            store = SqliteStore(str(tmp_path / "chat.db"), ids=CountingIds(), threads=threads)
        await store.migrate()
        yield store
        await store.aclose()
