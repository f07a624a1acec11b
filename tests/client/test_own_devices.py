"""What a client hears of others and of its user's other devices while it stays connected, from a real server."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ChatClient, ChatServer, MemoryConnector, MessageReceived
from chatkit.ports import Ports, SystemIds
from chatkit.storage.memory import MemoryStore
from chatkit.testing.virtual_time import VirtualClock
from chatkit.types import ConversationType
from tests.server.harness import by_name

from .fake_server import until


def chat_server() -> ChatServer:
    return ChatServer(
        store=MemoryStore(ids=SystemIds()), authenticate=by_name, ports=Ports(clock=VirtualClock())
    )


def device(server: ChatServer, user_id: str, device_id: str = "a") -> ChatClient:
    connector, ports = MemoryConnector(server), Ports(clock=VirtualClock())
    return ChatClient("http://chat", connector=connector, token=user_id, device_id=device_id, ports=ports)


@pytest.mark.parametrize("kind", ["SINGLE", "GROUP"])
async def test_of_two_the_other_one_is_all_that_a_message_waits_for(kind: ConversationType) -> None:
    async with chat_server() as server:
        await server.create_conversation(kind, "ann", ["ben"], conversation_id="c")
        async with device(server, "ann") as ann, device(server, "ben") as ben:
            await ann.wait_connected()
            await ben.wait_connected()
            seq = (await ann.send("c", "hi")).seq
            states = [ann.message_state("c", seq)]
            await until(ben, MessageReceived)
            await anyio.sleep(2)
            states.append(ann.message_state("c", seq))
            await ben.mark_read("c", seq)
            await anyio.sleep(2)
            states.append(ann.message_state("c", seq))
    assert states == ["SENT", "DELIVERED", "READ"]
