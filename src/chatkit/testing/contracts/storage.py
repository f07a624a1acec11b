"""The contract of every store: subclass `StoreContract` and override its fixture `store`.

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self):
            store = MyStore()
            await store.migrate()
            return store

Only the port is used here (`chatkit.storage.base`), so that any implementation can be held to it. A store that is to be
closed is closed by the fixture, after its `yield`.
"""

from __future__ import annotations

import pytest

from ...storage.base import Store
from .storage_cursors import CursorContract, OutboxContract, StatusContract
from .storage_log import AppendContract, IdContract, PageContract, RecallContract
from .storage_members import MembershipContract
from .storage_nodes import NodeContract
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
):
    """All that a store promises, as tests. They run through anyio's pytest plugin, on whatever backend you choose."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def store(self) -> Store:
        """Override: a fresh and empty store on which `migrate` was awaited."""
        raise NotImplementedError("override the fixture `store`")
