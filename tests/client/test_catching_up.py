"""Catching up with many conversations, of a real server over a line with 100 ms round trip, on virtual time.

Every SYNC and every SYNC_PAGE is seen as it arrives: how many are under way, of which conversations, in which order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from chatkit import CaughtUp, ChatClient, ClientConfig, MessageReceived
from chatkit.client.events import ChatEvent
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer
from chatkit.storage.memory import MemoryStore
from chatkit.testing.network import Conditions, Line, Network
from chatkit.testing.rng import Rng
from chatkit.types import Identity
from chatkit.wire import events as ev
from chatkit.wire.codec import JSON, BadItem

USER, OTHER = "u-1", "u-2"
LATENCY_S = 0.05


class World:
    """A server, a long line to it, and what travels there."""

    def __init__(self, config: ServerConfig | None = None) -> None:
        rng = Rng(1)
        ports = rng.ports("n-1")
        self.server = ChatServer(
            store=MemoryStore(ids=ports.ids),
            authenticate=self._authenticate,
            config=config or ServerConfig(limits=Limits.unlimited()),
            ports=ports,
        )
        self._config = ClientConfig()
        self._ports = rng.ports("client")
        self.network = Network(
            rng.stream("network"),
            conditions=Conditions(latency_s=(LATENCY_S, LATENCY_S)),
            observe=self._frame,
            observe_line=lambda line, event, code: self.under_way.clear(),
        )
        self.network.attach("n-1", self.server)
        self.heads: list[str] = []
        self.asked: list[str] = []
        self.refused = 0
        self.under_way: dict[str, str] = {}
        self.most_under_way = 0
        self.on_page: Callable[[], None] = lambda: None

    async def _authenticate(self, token: str) -> Identity:
        return Identity(user_id=token, device_id=None, expires_ms=None)

    def client(self, config: ClientConfig | None = None) -> ChatClient:
        return ChatClient(
            "ws://n-1",
            token=USER,
            device_id="phone",
            connector=self.network.connector(USER, "phone", lambda: "n-1"),
            config=config,
            ports=self._ports,
        )

    async def write(self, conversations: int, messages: int, text: str = "m") -> list[str]:
        """Conversations with so many messages each, the oldest first."""
        names = [f"c-{number:04}" for number in range(conversations)]
        for name in names:
            await anyio.sleep(0.001)
            await self.server.create_conversation("GROUP", OTHER, [USER], conversation_id=name)
            for number in range(messages):
                await self.send(name, f"{text} {number}")
        return names

    async def send(self, name: str, text: str) -> None:
        await self.server.send(name, OTHER, text, client_msg_id=text[:100])

    def _frame(self, line: Line, up: bool, frame: bytes | str) -> None:
        events = JSON.client_events(frame) if up else JSON.server_events(frame)
        for event in events:
            assert not isinstance(event, BadItem)
            if isinstance(event, ev.Sync):
                self._asked(event)
            elif isinstance(event, ev.SyncPage):
                self._answered(event.ref)
                self.on_page()
            elif isinstance(event, ev.ErrorEvent) and event.ref in self.under_way:
                self.refused += 1
                self._answered(event.ref)
            elif isinstance(event, ev.Heads):
                self.heads += [head.conversation_id for head in event.conversations]

    def _asked(self, event: ev.Sync) -> None:
        assert isinstance(event.ref, str)
        assert event.conversation_id not in self.under_way.values(), "one page of a conversation at a time"
        self.under_way[event.ref] = event.conversation_id
        self.asked.append(event.conversation_id)
        self.most_under_way = max(self.most_under_way, len(self.under_way))

    def _answered(self, ref: object) -> None:
        assert isinstance(ref, str)
        self.under_way.pop(ref, None)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    async with world.server, world.network:
        yield world


async def catch_up(chat: ChatClient) -> list[ChatEvent]:
    """All events until there is nothing more to pull."""
    events: list[ChatEvent] = []
    async for event in chat.events():
        events.append(event)
        if isinstance(event, CaughtUp):
            return events
    raise AssertionError("the client has ended")


def seqs(events: list[ChatEvent]) -> dict[str, list[int]]:
    """By conversation, in the order in which they came."""
    found: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, MessageReceived):
            found.setdefault(event.message.conversation_id, []).append(event.message.seq)
    return found


async def test_300_conversations_take_a_second_the_newest_first() -> None:
    async with running(World()) as world:
        names = await world.write(300, 2)
        began_s = anyio.current_time()
        async with world.client() as chat:
            events = await catch_up(chat)

        assert anyio.current_time() - began_s <= 1.5  # of which the way in takes 0.3 s
        assert seqs(events) == {name: [1, 2, 3] for name in names}
        assert world.heads == list(reversed(names))
        assert world.asked == world.heads
        assert world.most_under_way == ClientConfig().sync_window


async def test_no_more_pages_are_under_way_than_the_app_has_room_for() -> None:
    """In events here, and in bytes in the next test; the app takes nothing meanwhile."""
    config = ClientConfig(events_max=60, events_low=20, page_limit=10)
    async with running(World()) as world:
        names = await world.write(40, 9)
        async with world.client(config) as chat:
            await anyio.sleep(5)
            assert world.most_under_way == 4  # six would fit; the window goes by 1, 4, 16
            assert 5 <= len(world.asked) <= 60 // 10  # all of them have come, and fill the queue
            events = await catch_up(chat)

        assert seqs(events) == {name: list(range(1, 11)) for name in names}


async def test_nor_more_bytes_of_pages() -> None:
    config = ClientConfig(events_bytes_max=4 * 64 * 1024)
    async with running(World()) as world:
        names = await world.write(40, 1, text="x" * 20_000)
        async with world.client(config) as chat:
            await anyio.sleep(5)
            assert world.most_under_way == 3  # three pages of 64 KiB fit beside the first message
            assert 20_000 * len(world.asked) <= config.events_bytes_max + 3 * 64 * 1024
            events = await catch_up(chat)

        assert seqs(events) == {name: [1, 2] for name in names}


async def test_what_is_written_meanwhile_comes_once_and_in_order() -> None:
    async with running(World()) as world:
        names = await world.write(100, 2)
        async with world.client() as chat, anyio.create_task_group() as tasks:
            tasks.start_soon(_write_on, world, names)
            events = await catch_up(chat)
            while sum(map(len, seqs(events).values())) < 4 * len(names):
                events.append(await anext(aiter(chat.events())))

        assert seqs(events) == {name: [1, 2, 3, 4] for name in names}


async def _write_on(world: World, names: list[str]) -> None:
    for number, name in enumerate(names):
        await anyio.sleep(0.012)
        await world.send(name, f"live {number}")


async def test_a_cut_in_the_middle_costs_only_what_was_under_way() -> None:
    async with running(World()) as world:
        names = await world.write(200, 1)
        pages = 0

        def cut_once() -> None:
            nonlocal pages
            pages += 1
            if pages == 60:
                world.network.lines[0].cut()

        world.on_page = cut_once
        async with world.client() as chat:
            events = await catch_up(chat)

        assert seqs(events) == {name: [1, 2] for name in names}
        asked = Counter(world.asked)
        assert set(asked) == set(names)
        assert sum(asked.values()) - len(names) <= ClientConfig().sync_window


async def test_beyond_the_rate_of_a_user_it_goes_on_as_fast_as_the_server_lets_it() -> None:
    async with running(World(ServerConfig())) as world:
        names = await world.write(700, 0)
        began_s = anyio.current_time()
        async with world.client() as chat:
            events = await catch_up(chat)
        took_s = anyio.current_time() - began_s

        assert seqs(events) == {name: [1] for name in names}
        assert world.refused
        assert took_s < 8  # 500 at once, the rest at 50 a second
