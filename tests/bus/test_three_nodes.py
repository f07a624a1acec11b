"""Three servers on PostgreSQL, joined by NATS: sessions that are replaced, logins that end, members who are removed.

Each once with the bus alone (no node looks at anything by itself but at revocations), and once with the bus gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatkit import open_bus
from chatkit.bus._remote import RemoteMember
from chatkit.ports import SystemIds
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.storage.postgres import PostgresStore
from tests.server.harness import HarnessServer, Peer, by_name, group, login
from tests.server.nodes import seqs
from tests.servers.nats import nats_process
from tests.servers.postgres import PostgresServer, serving
from tests.servers.process import ServerProcess, running

from .remote import until

NEVER_S = 3_600.0
SOON_S = 0.2


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(nats_process(tmp_path)) as server:
        yield server


@asynccontextmanager
async def three_nodes(
    postgres: PostgresServer, nats: ServerProcess, *, bus_works: bool
) -> AsyncIterator[list[HarnessServer]]:
    address = postgres.new_database()

    def made() -> HarnessServer:
        return HarnessServer(
            store=PostgresStore(address, ids=SystemIds()),
            authenticate=by_name,
            config=ServerConfig(limits=Limits.unlimited(), heads_check_s=NEVER_S if bus_works else SOON_S),
            bus=open_bus(f"nats://127.0.0.1:{nats.port}"),
        )

    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(made()) for _ in range(3)]
        if not bus_works:
            nats.kill()
            await until(lambda: not any(_bus(it).connected for it in servers))
        yield servers


def _bus(server: HarnessServer) -> RemoteMember:
    assert isinstance(server._bus, RemoteMember)
    return server._bus


async def ends(peer: Peer) -> int:
    await until(lambda: peer.session.close_code is not None)
    assert peer.session.close_code is not None
    return peer.session.close_code


async def hears(peer: Peer, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """What a peer is sent until it is enough."""
    heard: list[dict[str, Any]] = []

    def heard_enough() -> bool:
        heard.extend(peer.read())
        return enough(heard)

    await until(heard_enough)
    return heard


@pytest.mark.parametrize("bus_works", [True, False], ids=["by the bus", "without it"])
async def test_the_life_of_sessions_and_members_is_one_on_three_nodes(
    postgres: PostgresServer, nats: ServerProcess, bus_works: bool
) -> None:
    async with three_nodes(postgres, nats, bus_works=bus_works) as (a, b, c):
        await group(a, "ann", "ben", "cat")
        old, ben, cat = await login(a, "ann"), await login(b, "ben"), await login(c, "cat")
        new = await login(b, "ann")
        assert await ends(old) == 4201

        await a.remove_member("g-1", "ann", "ben")
        heard = await hears(ben, lambda events: any(it.get("change") == "LEFT" for it in events))
        seq = (await c.send("g-1", "cat", "after", client_msg_id="k1")).seq
        await hears(new, lambda events: seq in seqs(events, "g-1"))
        assert seqs(heard + ben.read(), "g-1") == []

        await c.revoke(user_id="ann")
        await a.ban("ben")
        assert (await ends(new), await ends(ben)) == (4101, 4202)
        assert cat.session.close_code is None
