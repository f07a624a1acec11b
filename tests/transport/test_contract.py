"""Every transport of chatkit keeps the transport contract."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator

import anyio
import pytest
import uvicorn

from chatkit import ChatServer, MemoryConnector, asgi_app
from chatkit.testing import VIRTUAL, Network
from chatkit.testing.contracts.transport import TransportContract
from chatkit.transport.base import Connector
from chatkit.transport.websocket import WebSocketConnector


class Virtual:
    @pytest.fixture
    def anyio_backend(self) -> object:
        return VIRTUAL


class TestMemory(Virtual, TransportContract):
    @pytest.fixture
    def connector(self, server: ChatServer) -> Connector:
        return MemoryConnector(server)


@pytest.fixture
async def network(server: ChatServer) -> AsyncIterator[Network]:
    async with Network(random.Random(1)) as network:
        network.attach("node", server)
        yield network


class TestFaultyNetwork(Virtual, TransportContract):
    """As long as nobody makes it faulty."""

    @pytest.fixture
    def connector(self, network: Network) -> Connector:
        return network.connector("ann", "phone", lambda: "node")


class TestFaultyNetworkInSlices(Virtual, TransportContract):
    """Each frame as the bytes of a real WebSocket, in small pieces."""

    @pytest.fixture
    def connector(self, network: Network) -> Connector:
        return network.connector("ann", "phone", lambda: "node", sliced=True)


class TestWebSocket(TransportContract):
    @pytest.fixture
    async def connector(self, server: ChatServer) -> AsyncIterator[Connector]:
        web = uvicorn.Server(uvicorn.Config(asgi_app(server), log_level="warning", lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(web.serve, [listener])
                yield WebSocketConnector(f"http://127.0.0.1:{listener.getsockname()[1]}")
                web.should_exit = True
