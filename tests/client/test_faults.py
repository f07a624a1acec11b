"""Clients and the real engine in one process, on virtual time, over connections that are cut at random."""

from __future__ import annotations

import random

import anyio
import msgspec
import pytest

from chatkit import ChatClient, ChatServer, ClientConfig, Identity, ServerConfig, open_store
from chatkit.client.events import MessageRecalled, MessageReceived, MessageSent
from chatkit.client.store.memory import MemoryStore
from chatkit.gateway.memory import MemoryConnector
from chatkit.server.limits import Limits
from chatkit.storage.base import CreateConversation
from chatkit.transport.base import Transport, TransportClosedError

from .foretold import foretold_ports

USERS = ("u-1", "u-2", "u-3")
SENDS = 60
RECALLS = 3
WHOLE_LOG = 1 + len(USERS) * 2 * (SENDS + RECALLS)


async def whoever(token: str) -> Identity:
    return Identity(token)


class CutTransport:
    """Ends after a number of frames in either direction; what was under way is lost or not, as on a real cut."""

    def __init__(self, inner: Transport, frames: int) -> None:
        self._inner = inner
        self._frames = frames

    async def receive(self) -> bytes | str:
        frame = await self._inner.receive()
        await self._count()
        return frame

    async def send(self, frame: bytes | str) -> None:
        await self._count()
        await self._inner.send(frame)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)

    async def _count(self) -> None:
        self._frames -= 1
        if self._frames < 0:
            await self._inner.aclose()
            raise TransportClosedError(1006, "cut by the test")


class CuttingConnector:
    """Cuts its connections until it is asked to be calm."""

    def __init__(self, server: ChatServer, rng: random.Random) -> None:
        self._inner = MemoryConnector(server)
        self._rng = rng
        self.calm = False
        self.connections = 0

    async def connect(self, subprotocol: str) -> Transport:
        self.connections += 1
        inner = await self._inner.connect(subprotocol)
        return inner if self.calm else CutTransport(inner, self._rng.randint(2, 25))


class Device:
    """One client, what it sent, and the log as its events showed it."""

    def __init__(self, server: ChatServer, user_id: str, name: str, seed: int, buffer: int) -> None:
        self.connector = CuttingConnector(server, random.Random(seed))
        self.prefix = f"{user_id}-{name}-"
        self.store = MemoryStore(messages_max=10_000)
        self.log: dict[int, str] = {}
        self.in_order: list[int] = []
        self.own: set[int] = set()
        config = ClientConfig(
            backoff_base_s=0.1, backoff_max_s=0.5, events_max=buffer, events_low=buffer // 2
        )
        self.chat = ChatClient(
            "ws://chat.test",
            token=user_id,
            device_id=name,
            store=self.store,
            connector=self.connector,
            config=config,
            ports=foretold_ports(),
        )

    async def consume(self) -> None:
        async for event in self.chat.events():
            if isinstance(event, MessageReceived):
                assert event.message.seq not in self.log, "notified twice"
                self.log[event.message.seq] = event.message.text
                self.in_order.append(event.message.seq)
            elif isinstance(event, MessageSent):
                assert event.sent.seq not in self.log, "notified twice"
                self.log[event.sent.seq] = event.sent.client_msg_id
            elif isinstance(event, MessageRecalled):
                self.log[event.seq] = ""
            await anyio.sleep(0.002)

    async def send_all(self) -> None:
        for number in range(SENDS):
            key = f"{self.prefix}{number}"
            sent = await self.chat.send("c-1", key, client_msg_id=key, timeout=600)
            self.own.add(sent.seq)
            if number % 20 == 7:
                await self.chat.recall(sent.message_id, timeout=600)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_cut_every_device_ends_with_the_servers_log(seed: int) -> None:
    store = open_store("memory://")
    config = ServerConfig(recall_window_s=10_000, limits=Limits.unlimited())
    async with ChatServer(store=store, authenticate=whoever, config=config, ports=foretold_ports()) as server:
        await store.commit([CreateConversation("c-1", "GROUP", "u-1", USERS, "", "e1", 1000, 1)])
        names = [(user_id, name) for user_id in USERS for name in ("phone", "pc")]
        devices = [
            Device(server, user_id, name, seed * 100 + place, (20, 10_000)[place % 2])
            for place, (user_id, name) in enumerate(names)
        ]
        await _exercise(devices)
        rows = (await store.page("c-1", "u-1", 0, 10_000, 10**9)).entries

    texts = {row.seq: row.payload for row in rows}
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == WHOLE_LOG
    for device in devices:
        assert device.in_order == sorted(device.in_order)
        kept = device.store.messages("c-1", 10**6, 10**6)
        assert [message.seq for message in kept] == [seq for seq in texts if seq >= kept[0].seq]
        recalls = {row.seq for row in rows if b'"RECALL"' in row.payload}
        others = {seq for seq in texts if seq >= kept[0].seq} - device.own - recalls
        assert set(device.in_order) == others
        assert [message.payload for message in kept] == [
            msgspec.json.decode(texts[message.seq]) for message in kept
        ]
        assert device.connector.connections > 3


async def _exercise(devices: list[Device]) -> None:
    async with anyio.create_task_group() as group:
        for device in devices:
            group.start_soon(_use, device)


async def _use(device: Device) -> None:
    async with device.chat, anyio.create_task_group() as group:
        group.start_soon(device.consume)
        await device.send_all()
        device.connector.calm = True
        while device.store.records() == [] or device.store.records()[0].prefix < WHOLE_LOG:
            await anyio.sleep(0.5)
        await device.chat.aclose()
