"""`chatkit serve --bus`: a node as a process of its own, on a real bus."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatkit import ChatApi, open_bus, sign_token
from chatkit.bus._remote import RemoteMember
from chatkit.bus.base import Message
from chatkit.server.cluster import messages as cm
from chatkit.testing.contracts.bus import Ear, listening
from tests.servers.nats import nats_process
from tests.servers.process import ServerProcess, running
from tests.servers.redis import redis_process

from .command import SECRET, TIMEOUT_S, next_line, started


@pytest.fixture(params=[("nats", nats_process), ("redis", redis_process)], ids=["nats", "redis"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ServerProcess]]:
    """An address, and the server there."""
    scheme, make = request.param
    process: ServerProcess = make(tmp_path)
    with running(process):
        yield f"{scheme}://127.0.0.1:{process.port}", process


@asynccontextmanager
async def other_node(address: str) -> AsyncIterator[Ear]:
    """Somebody who hears what all nodes hear."""
    member = open_bus(address)
    assert isinstance(member, RemoteMember)
    member.subscribe(cm.NODES)
    await member.connect()
    async with listening(member) as ear:
        yield ear
    await member.aclose()


def said(ear: Ear) -> list[cm.ClusterMessage]:
    frames = [event.data for event in ear.heard if isinstance(event, Message)]
    return [cm.decode(message) for frame in frames for message in cm.split(frame)]


async def create(port: int) -> None:
    async with ChatApi(f"http://127.0.0.1:{port}", token=sign_token(SECRET, user_id="ann")) as api:
        await api.create_conversation("GROUP", ["ben"])


async def test_a_node_tells_the_others_and_ends_in_order(
    bus: tuple[str, ServerProcess], tmp_path: Path
) -> None:
    address, _ = bus
    command = ["serve", "--port", "0", "--storage", "memory://", "--bus", address, "--json"]
    async with other_node(address) as ear:
        with started(*command, cwd=tmp_path) as process:
            await create(json.loads(next_line(process))["port"])
            await ear.until(lambda: any(isinstance(it, cm.MembersJoined) for it in said(ear)))
            process.send_signal(signal.SIGTERM)

            assert process.wait(TIMEOUT_S) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""


async def test_a_node_goes_on_while_its_bus_is_gone(bus: tuple[str, ServerProcess], tmp_path: Path) -> None:
    address, server = bus
    command = ["serve", "--port", "0", "--storage", "memory://", "--bus", address, "--json"]
    with started(*command, cwd=tmp_path) as process:
        port = json.loads(next_line(process))["port"]
        server.kill()
        await create(port)
        process.send_signal(signal.SIGTERM)

        assert process.wait(TIMEOUT_S) == 0
    server.start()
