"""The contract of every store: subclass `StoreContract` and give it a fixture `make`.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make(self, tmp_path):
            return lambda: MyStore(tmp_path / "chat.db")

`make` returns a function that makes a store on one place, which is fresh in each test; the tests open what it makes,
close it, and make another one there. Of a store that is gone once it is closed less is asked:

    class TestMyStoreInMemory(VolatileStoreContract):
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
from .storage_access import AccessContract
from .storage_audit import AuditContract
from .storage_breaking import BreakingContract
from .storage_cursors import CursorContract, OutboxContract, StatusContract
from .storage_delivery import DeliveryContract, MuteContract, NoticeContract, PushTokenContract
from .storage_log import AppendContract, IdContract, PageContract, RecallContract
from .storage_members import MembershipContract
from .storage_mentions import MentionContract, PinContract, TitleContract
from .storage_nodes import NodeContract
from .storage_ownership import BlockContract, OwnershipContract
from .storage_recent import RecentContract
from .storage_references import ReferenceContract
from .storage_reopening import DurabilityContract, OpeningContract, opened
from .storage_reopening import Make as Make
from .storage_restore import RestoreContract
from .storage_roles import (
    BanContract,
    HistoryContract,
    RecallByOthersContract,
    RoleContract,
    SilenceContract,
)
from .storage_sessions import DeviceContract, SessionContract
from .storage_streams import StreamContract


class VolatileStoreContract(
    AppendContract,
    MembershipContract,
    OwnershipContract,
    BlockContract,
    RoleContract,
    RecallByOthersContract,
    SilenceContract,
    BanContract,
    HistoryContract,
    PageContract,
    RecentContract,
    IdContract,
    RecallContract,
    ReferenceContract,
    MentionContract,
    PinContract,
    TitleContract,
    StreamContract,
    CursorContract,
    StatusContract,
    OutboxContract,
    DeliveryContract,
    NoticeContract,
    PushTokenContract,
    MuteContract,
    SessionContract,
    AccessContract,
    AuditContract,
    DeviceContract,
    NodeContract,
    RestoreContract,
    BreakingContract,
    OpeningContract,
):
    """What a store promises that is gone once it is closed: a fixture `store` gives a fresh one, `migrate` awaited."""

    pytestmark = pytest.mark.anyio


class StoreContract(VolatileStoreContract, DurabilityContract):
    """All that a store promises, as tests. They run through anyio's pytest plugin, on whatever backend you choose."""

    @pytest.fixture
    async def store(self, make: Make) -> AsyncIterator[Store]:
        """A fresh and empty store on which `migrate` was awaited."""
        async with opened(make) as store:
            yield store
