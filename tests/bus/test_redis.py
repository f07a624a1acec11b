"""The bus on Redis keeps the contract, against a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatkit.bus.redis import RedisBus
from chatkit.testing.contracts.bus import BusContract, Join
from tests.servers.process import ServerProcess
from tests.servers.redis import own_redis, redis_server

__all__ = ["own_redis", "redis_server"]


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class TestRedisBus(BusContract):
    flood = 5_000

    @pytest.fixture
    async def join(self, redis_server: ServerProcess) -> AsyncIterator[Join]:
        members: list[RedisBus] = []

        async def place() -> RedisBus:
            members.append(RedisBus(f"redis://127.0.0.1:{redis_server.port}", queue_max=1_000))
            await members[-1].connect()
            return members[-1]

        yield place
        for member in members:
            await member.aclose()
