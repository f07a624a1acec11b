"""Presence in the client: what the app says of itself outlives connections, and what is said of others is told."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from chatkit import ChatApi, ChatClient, ChatServer, MemoryConnector, PresenceChanged, ServerConfig, asgi_app
from chatkit.errors import BadRequestError, ForbiddenError
from chatkit.ports import Ports, SystemIds
from chatkit.storage.memory import MemoryStore
from chatkit.testing.virtual_time import VirtualClock
from chatkit.types import UserPresence
from chatkit.wire import events as ev
from tests.server.harness import by_name

from .fake_server import FakeServer, client, until


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_what_the_app_says_is_told_on_each_connection_until_it_says_otherwise(
    server: FakeServer,
) -> None:
    async with client(server) as chat:
        await chat.set_presence("AWAY")
        line = await server.accept()
        await line.log_in()
        assert (await line.expect(ev.PresenceCommand)).state == "AWAY"
        await chat.set_presence("AWAY")
        await line.quiet(1)
        line.close(4000, "slow")
        line = await server.accept()
        await line.log_in()
        assert (await line.expect(ev.PresenceCommand)).state == "AWAY"
        await chat.set_presence("ONLINE")
        assert (await line.expect(ev.PresenceCommand)).state == "ONLINE"
        line.close(4000, "slow")
        line = await server.accept()
        await line.log_in()
        await line.quiet(1)


async def test_what_is_said_of_others_is_told(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line.push(ev.PresencePush("u-2", "ONLINE"), ev.PresencePush("u-3", "OFFLINE", 1_700))
        first, _ = await until(chat, PresenceChanged)
        second, _ = await until(chat, PresenceChanged)

        assert (first, second) == (PresenceChanged("u-2", "ONLINE"), PresenceChanged("u-3", "OFFLINE", 1_700))


@pytest.mark.parametrize("state", ["OFFLINE", "away", None, 1])
async def test_another_state_is_refused(server: FakeServer, state: Any) -> None:
    async with client(server) as chat:
        with pytest.raises(BadRequestError, match="state"):
            await chat.set_presence(state)


def chat_server(**config: Any) -> ChatServer:
    return ChatServer(
        store=MemoryStore(ids=SystemIds()),
        authenticate=by_name,
        config=ServerConfig(**config),
        ports=Ports(VirtualClock()),
    )


def api(server: ChatServer, user: str) -> ChatApi:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(asgi_app(server)))
    return ChatApi("http://chat", token=user, client=http)


async def test_over_http_contacts_are_shown_in_the_order_asked() -> None:
    async with chat_server(presence=True) as server:
        await server.create_conversation("GROUP", "ann", ["ben", "cat"])
        connector = MemoryConnector(server)
        async with (
            ChatClient("http://chat", connector=connector, token="ben", device_id="b") as ben,
            api(server, "ann") as asking,
        ):
            await ben.wait_connected()
            await ben.set_presence("AWAY")
            await anyio.sleep(2)
            found = await asking.presence(["cat", "nobody", "ben", "ann"])

            assert found == [UserPresence("cat", "OFFLINE", None), UserPresence("ben", "AWAY", None)]


@pytest.mark.parametrize(
    "query", ["", "?users=", "?users=a,,b", "?users=a b", "?users=" + ",".join(["u"] * 101)]
)
async def test_a_query_that_names_nobody_or_too_many_is_refused(query: str) -> None:
    async with chat_server(presence=True) as server:
        transport = httpx.ASGITransport(asgi_app(server))
        async with httpx.AsyncClient(transport=transport, base_url="http://chat") as http:
            answer = await http.get(f"/v1/presence{query}", headers={"Authorization": "Bearer ann"})
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


async def test_where_it_is_off_asking_is_refused() -> None:
    async with chat_server() as server, api(server, "ann") as asking:
        with pytest.raises(ForbiddenError):
            await asking.presence(["ben"])
