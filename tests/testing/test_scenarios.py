"""Every scenario holds on both stores; and each falls to a fault of the kind that it is made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from chatkit.client import heads, receipts
from chatkit.client.session import Session as ClientSession
from chatkit.core.resend import ResendQueue
from chatkit.core.timeline import Timeline
from chatkit.errors import ConfigurationError
from chatkit.ports import Ids
from chatkit.server.committer import Committer
from chatkit.server.hub import Hub
from chatkit.server.publisher import Publisher
from chatkit.server.server import ChatServer
from chatkit.server.session import Session as ServerSession
from chatkit.storage.base import Append, Command, Outcome, Page
from chatkit.storage.memory import MemoryStore
from chatkit.testing.scenarios import (
    SCENARIOS,
    PromiseBrokenError,
    TrapNotSprungError,
    __main__ as command,
    run_scenario,
)
from chatkit.testing.simulation.plan import Storage


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_holds(name: str, store: Storage, seed: int) -> None:
    outcome = run_scenario(name, seed, store)

    assert outcome.alarms == []
    assert [str(violation) for violation in outcome.verdict.violations] == []
    assert outcome.history.store is not None
