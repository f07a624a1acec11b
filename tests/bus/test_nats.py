"""The bus on NATS keeps the contract, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatkit.bus.nats import NatsBus
from chatkit.testing.contracts.bus import BusContract, Join
from tests.servers.nats import nats_server, own_nats
from tests.servers.process import ServerProcess

__all__ = ["nats_server", "own_nats"]


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class TestNatsBus(BusContract):
    flood = 5_000

    @pytest.fixture
    async def join(self, nats_server: ServerProcess) -> AsyncIterator[Join]:
        members: list[NatsBus] = []

        async def place() -> NatsBus:
            members.append(NatsBus(f"nats://127.0.0.1:{nats_server.port}", queue_max=1_000))
            await members[-1].connect()
            return members[-1]

        yield place
        for member in members:
            await member.aclose()
