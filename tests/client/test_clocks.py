"""A server whose clock is wrong for a while costs nobody their login."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ChatClient, ChatServer, ClientConfig, MemoryConnector
from chatkit.client.events import Connected, Reconnecting
from chatkit.ports import Ports, SystemIds
from chatkit.server.auth import jwt_authenticator, sign_token
from chatkit.storage.memory import MemoryStore
from chatkit.testing.virtual_time import VirtualClock

from .fake_server import until
from .foretold import foretold_ports

SECRET = "a-secret-of-at-least-32-characters"
HOURS_MS = 3_600_000


@pytest.mark.parametrize("hours", [5, -5])
async def test_a_fixed_token_works_again_when_the_servers_clock_is_right_again(hours: int) -> None:
    clock = VirtualClock()
    server = ChatServer(
        store=MemoryStore(ids=SystemIds()),
        authenticate=jwt_authenticator(SECRET, clock=clock),
        ports=Ports(clock),
    )
    token = sign_token(SECRET, user_id="ann", ttl_s=4 * 3600, clock=clock)
    async with server, ChatClient(
        "ws://chat.test", token=token, device_id="phone", connector=MemoryConnector(server),
        config=ClientConfig(), ports=foretold_ports(),
    ) as chat:  # fmt: skip
        await until(chat, Connected)
        clock.ahead_ms = hours * HOURS_MS
        if hours > 0:
            await until(chat, Reconnecting)
        await anyio.sleep(4)
        clock.ahead_ms = 0
        with anyio.fail_after(100):
            await chat.wait_connected(100)
            await anyio.sleep(5)

        assert chat.stopped is None
        assert chat.user_id == "ann"
