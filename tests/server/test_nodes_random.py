"""Three nodes, six clients, all at random: whatever the bus does, everybody ends with the log, and sees no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import anyio
import msgspec
import pytest

from chatkit.client.client import ChatClient
from chatkit.client.config import ClientConfig
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import RefusedError
from chatkit.gateway.memory import MemoryConnector, MemoryTransport
from chatkit.server import committer, receipts
from chatkit.server.cluster import reconcile
from chatkit.server.server import ChatServer
from chatkit.storage.base import Entry
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import run_virtual
from tests.proof.membership import Stay, stays

from .nodes import Cluster, Fate, at_once, cluster, never, wild

USERS = ["u0", "u1", "u2", "u3"]
DEVICES = [
    ("u0", "phone"),
    ("u0", "laptop"),
    ("u1", "phone"),
    ("u2", "phone"),
    ("u2", "laptop"),
    ("u3", "phone"),
]
TURNS = 60
QUICK = ClientConfig(backoff_base_s=0.05, backoff_max_s=0.2)


class Connection:
    """What came over one connection."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.events: list[dict[str, Any]] = []


class WanderingConnector:
    """Connects to a node drawn at random, and can cut."""

    def __init__(self, user_id: str, nodes: list[Any], rng: Random) -> None:
        self.connections: list[Connection] = []
        self.current: MemoryTransport | None = None
        self._user_id = user_id
        self._nodes = nodes
        self._rng = rng

    async def connect(self, subprotocol: str) -> Any:
        connector = MemoryConnector(self._rng.choice(self._nodes))
        self.current = await connector.connect(subprotocol)
        self.connections.append(Connection(self._user_id))
        return Recorded(self.current, self.connections[-1])


class Recorded:
    """A transport whose frames are kept."""

    def __init__(self, inner: MemoryTransport, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection

    async def receive(self) -> bytes | str:
        frame = await self._inner.receive()
        decoded = msgspec.json.decode(frame) if isinstance(frame, str) else msgspec.msgpack.decode(frame)
        self._connection.events += decoded if isinstance(decoded, list) else [decoded]
        return frame

    async def send(self, frame: bytes | str) -> None:
        await self._inner.send(frame)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)


class Device:
    """A client, and what it kept."""

    def __init__(self, user_id: str, name: str, nodes: list[Any], rng: Rng) -> None:
        self.user_id = user_id
        self.kept = MemoryStore()
        self.connector = WanderingConnector(user_id, nodes, rng.stream(f"{user_id} {name} nodes"))
        self.sent: list[str] = []
        self.client = ChatClient(
            "http://memory",
            token=user_id,
            device_id=name,
            store=self.kept,
            codec=rng.stream(f"{user_id} {name} codec").choice(["json", "msgpack"]),
            connector=self.connector,
            config=QUICK,
            ports=rng.ports(f"{user_id} {name}"),
        )

    async def watch(self) -> None:
        """Be an app: take every event."""
        async for _ in self.client.events():
            pass

    async def cut(self) -> None:
        if self.connector.current is not None:
            await self.connector.current.aclose(1006, "cut")


@asynccontextmanager
async def watching(devices: list[Device]) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for device in devices:
            await device.client.__aenter__()
            tasks.start_soon(device.watch)
        try:
            yield
        finally:
            for device in reversed(devices):
                await device.client.aclose(0)
                await device.client.__aexit__(None, None, None)
            tasks.cancel_scope.cancel()


class Run:
    """One run: rng decides what everybody does."""

    def __init__(self, made: Cluster, rng: Rng) -> None:
        self.made = made
        self.rng = rng.stream("turns")
        self.devices = [Device(*place, made.nodes, rng) for place in DEVICES]  # type: ignore[arg-type]
        self.groups = ["g-0", "g-1"]
        self.recallable: list[tuple[Device, str]] = []

    async def go(self, fate: Fate) -> None:
        for name in self.groups:
            await self.node().create_conversation("GROUP", "u0", ["u0", *USERS[1:3]], conversation_id=name)
        async with watching(self.devices):
            self.made.bus.fate = fate
            async with anyio.create_task_group() as tasks:
                for _ in range(TURNS):
                    tasks.start_soon(self.turn)
                    await anyio.sleep(self.rng.random() * 0.1)
            self.made.bus.fate = never if self.rng.random() < 0.5 else at_once
            await anyio.sleep(12.0)
            self.pending = [device.client.pending_count for device in self.devices]

    async def turn(self) -> None:
        act = self.rng.choices(
            [self.send, self.recall, self.add, self.remove, self.create, self.cut], [70, 4, 8, 8, 4, 6]
        )[0]
        with suppress(RefusedError):  # no member by now, a member already, recalled already: that is the game
            await act()

    async def send(self) -> None:
        device, name = self.rng.choice(self.devices), self.rng.choice(self.groups)
        result = await device.client.send(name, f"from {device.user_id}")
        self.recallable.append((device, result.message_id))

    async def recall(self) -> None:
        if self.recallable:
            device, message_id = self.rng.choice(self.recallable)
            await device.client.recall(message_id)

    async def add(self) -> None:
        await self.node().add_members(self.rng.choice(self.groups[:2]), "u0", [self.rng.choice(USERS)])

    async def remove(self) -> None:
        await self.node().remove_member(self.rng.choice(self.groups[:2]), "u0", self.rng.choice(USERS[1:]))

    async def create(self) -> None:
        pair = self.rng.sample(USERS, 2)
        made = await self.node().create_conversation("SINGLE", pair[0], [pair[1]])
        self.groups.append(made.conversation_id)

    async def cut(self) -> None:
        await self.rng.choice(self.devices).cut()

    def node(self) -> ChatServer:
        return self.rng.choice(self.made.nodes)


async def whole_log(made: Cluster, name: str) -> list[Entry]:
    return await made.store.inner.entries(name, 0, 100_000)


def check_connection(connection: Connection, log: dict[str, dict[str, list[Stay]]]) -> None:
    """Pushes in order and once; nothing that is not visible; no push of what was acknowledged here."""
    last: dict[str, int] = {}
    acked = {(it["conversationId"], it["seq"]) for it in connection.events if it["event"] == "MSG_ACK"}
    for event in connection.events:
        entries = [event] if event["event"] == "NEW_MSG" else event.get("messages", [])
        for entry in entries:
            held = log[entry["conversationId"]].get(connection.user_id, [])
            assert any(stay.holds(entry["seq"]) for stay in held), (connection.user_id, entry)
        if event["event"] == "NEW_MSG":
            name, seq = event["conversationId"], event["seq"]
            assert seq > last.get(name, 0), (connection.user_id, name, last.get(name), seq)
            assert (name, seq) not in acked
            last[name] = seq


async def check_device(made: Cluster, device: Device, names: list[str]) -> None:
    """Of every conversation that its user is in, it holds all from where it began, or came back, to the end."""
    for name in names:
        entries = await whole_log(made, name)
        held = stays(entries).get(device.user_id, [])
        if not held or held[-1].ended_seq is not None:
            continue
        start = max(held[-1].first_seq, device.kept.floor(name) + 1)
        wanted = {it.seq: msgspec.json.decode(it.payload) for it in entries if it.seq >= start}
        kept = {it.seq: it.payload for it in device.kept.messages(name, 2**53, 100_000)}
        assert {seq: payload for seq, payload in kept.items() if seq >= start} == wanted, (
            device.user_id,
            name,
        )
        assert start <= entries[-1].seq, "something of it is held"


async def run(seed: int, kind: str) -> None:
    rng = Rng(seed)
    fate = rng.stream("fate").choice([wild(seed), wild(seed, lost=0.8), wild(seed, lost=0.0), never, at_once])
    async with cluster(kind, 3, heads_check_s=2.0) as made:
        game = Run(made, rng)
        await game.go(fate)
        whole = {name: await whole_log(made, name) for name in game.groups}
        logs = {name: stays(entries) for name, entries in whole.items()}
        for device in game.devices:
            await check_device(made, device, game.groups)
            for connection in device.connector.connections:
                check_connection(connection, logs)
        assert game.pending == [0] * len(DEVICES)
        assert sum(map(len, whole.values())) > TURNS / 3, "something was done"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(8))
def test_everybody_ends_with_the_log(monkeypatch: pytest.MonkeyPatch, seed: int, kind: str) -> None:
    if seed % 2:  # the loop gets its turn after each outcome that anybody is pushed
        for module in (committer, receipts, reconcile):
            monkeypatch.setattr(module, "DELIVERIES_PER_TURN", 1)
    run_virtual(run, seed, kind, seed=seed)
