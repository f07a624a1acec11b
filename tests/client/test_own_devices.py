"""What a client hears of others and of its user's other devices while it stays connected, from a real server."""

from __future__ import annotations

import anyio
import httpx
import pytest

from chatkit import (
    ChatApi,
    ChatClient,
    ChatServer,
    ConversationChanged,
    MemoryConnector,
    MessageReceived,
    asgi_app,
)
from chatkit.ports import Ports, SystemIds
from chatkit.storage.memory import MemoryStore
from chatkit.testing.virtual_time import VirtualClock
from chatkit.types import ConversationType
from chatkit.wire.http import FOR_EVER_MS
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


async def test_a_mute_on_one_device_is_heard_on_the_others_and_by_nobody_else() -> None:
    async with (
        chat_server() as server,
        httpx.AsyncClient(transport=httpx.ASGITransport(asgi_app(server))) as http,
    ):
        await server.create_conversation("GROUP", "ann", ["ben"], title="Tea", conversation_id="c")
        async with (
            device(server, "ann", "phone") as phone,
            device(server, "ann", "desk") as desk,
            device(server, "ben") as ben,
        ):
            for chat in (phone, desk, ben):
                await chat.wait_connected()
                chat._entered_runtime().api = ChatApi("http://chat", token=chat.user_id, client=http)
            assert (await desk.conversations())[0].muted_until == 0
            await phone.mute("c", level="MENTIONS")
            with anyio.fail_after(60):
                changed, _ = await until(desk, ConversationChanged)
            assert (changed.conversation_id, changed.change) == ("c", "UPDATED")
            (row,) = await desk.conversations()
            assert (row.muted_until, row.notify) == (FOR_EVER_MS, "MENTIONS")
            await phone.unmute("c")
            await until(desk, ConversationChanged)
            (row,) = await desk.conversations()
            assert (row.muted_until, row.title) == (0, "Tea")
            await server.set_title("c", "Coffee")
            await until(desk, ConversationChanged)
            changes = []
            with anyio.move_on_after(5):
                async for event in ben.events():
                    changes += [event] if isinstance(event, ConversationChanged) else []
            assert len(changes) == 1
