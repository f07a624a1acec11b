"""The contract of every store: subclass `StoreContract` and override its fixture `make`.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make(self, tmp_path):
            return lambda: MyStore(tmp_path / "chat.db")

`make` returns a function that makes a store on one place, which is fresh in each test; the tests open what it makes,
close it, and make another one there. A store that is gone once it is closed says so, and overrides `store` instead:

    class TestMyStoreInMemory(StoreContract):
        forgets = True

        @pytest.fixture
        async def store(self):
            store = MyStoreInMemory()
            await store.migrate()
            yield store
            await store.aclose()

Only the port is used here (`chatkit.storage.base`), so that any implementation can be held to it. Closing is not
killing: what a crash leaves is beyond these tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ...storage.base import Store
from .storage_cursors import CursorContract, OutboxContract, StatusContract
from .storage_log import AppendContract, IdContract, PageContract, RecallContract
from .storage_members import MembershipContract
from .storage_nodes import NodeContract
from .storage_reopening import DurabilityContract, OpeningContract, opened
from .storage_reopening import Make as Make
from .storage_sessions import DeviceContract, SessionContract


class StoreContract(
    AppendContract,
    MembershipContract,
    PageContract,
    IdContract,
    RecallContract,
    CursorContract,
    StatusContract,
    OutboxContract,
    SessionContract,
    DeviceContract,
    NodeContract,
    OpeningContract,
    DurabilityContract,
):
    """All that a store promises, as tests. They run through anyio's pytest plugin, on whatever backend you choose."""

    pytestmark = pytest.mark.anyio

    forgets = False
    """Whether this store is gone once it is closed; then nothing is asked of it after that."""

    @pytest.fixture
    def make(self) -> Make:
        """Override: a function that makes a store on the one, at first empty, place of the test."""
        if self.forgets:
            pytest.skip("this store says that it forgets")
        raise NotImplementedError("override the fixture `make`, or say `forgets = True` and override `store`")

    @pytest.fixture
    async def store(self, make: Make) -> AsyncIterator[Store]:
        """A fresh and empty store on which `migrate` was awaited."""
        async with opened(make) as store:
            yield store
