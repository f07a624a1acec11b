"""Real clients and real servers over lines that delay, fill up, hang and break, in virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from chatkit import ChatClient, ClientConfig
from chatkit.client.events import MessageReceived
from chatkit.errors import ConfigurationError
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.server.server import ChatServer
from chatkit.server.session import Session
from chatkit.storage.memory import MemoryStore
from chatkit.testing.network import Conditions, Line, Network
from chatkit.testing.rng import Rng
from chatkit.testing.virtual_time import Backend, run_virtual
from chatkit.transport.base import Transport, TransportClosedError
from chatkit.types import Identity
from chatkit.wire.codec import JSON

HEARTBEAT_S = 4.0
SOON_S = 600.0
CONVERSATION = "c-1"


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[False, True], ids=["plain", "sliced"])
def sliced(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class CountingServer(ChatServer):
    """A server that counts how often each session ends."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.sessions: list[Session] = []
        self.gone: list[Session] = []

    def connect(self, *parts: Any) -> Session:
        session = super().connect(*parts)
        self.sessions.append(session)
        return session

    def disconnected(self, session: Session) -> None:
        super().disconnected(session)
        self.gone.append(session)


class Lowest:
    """Draws the least of everything: no delay beyond the least, the finest slices, and whatever can be lost is."""

    def random(self) -> float:
        return 0.0


class World:
    """A network with one server, `n-1`, and everything that was seen on its lines."""

    def __init__(
        self,
        *,
        seed: int = 1,
        sliced: bool = False,
        window_bytes: int = 65_536,
        rng: Any = None,
        config: dict[str, Any] | None = None,
        **conditions: Any,
    ) -> None:
        self.rng = Rng(seed)
        self.sliced = sliced
        self.trace: list[tuple[Any, ...]] = []
        self.network = Network(
            rng or self.rng.stream("network"),
            conditions=Conditions(**conditions),
            observe=self._frame,
            observe_line=self._line,
            window_bytes=window_bytes,
        )
        self._config = config or {}
        self.server = self.make_server("n-1")

    def make_server(self, name: str) -> CountingServer:
        ports = self.rng.ports(name)
        config = {"heartbeat_s": HEARTBEAT_S, "drain_timeout_s": 100.0, **self._config}
        return CountingServer(
            store=MemoryStore(ids=ports.ids),
            authenticate=self._authenticate,
            config=ServerConfig(**{"limits": Limits.unlimited(), **config}),
            ports=ports,
        )

    def client(self, user_id: str, node: str | None = "n-1") -> ChatClient:
        return ChatClient(
            "ws://n-1",
            token=user_id,
            device_id="phone",
            connector=self.network.connector(user_id, "phone", lambda: node, sliced=self.sliced),
            config=ClientConfig(backoff_base_s=0.2, backoff_max_s=1.0),
            ports=self.rng.ports(f"{user_id} client"),
        )

    async def transport(self, user_id: str = "bob", subprotocol: str = JSON.subprotocol) -> Transport:
        connector = self.network.connector(user_id, "phone", lambda: "n-1", sliced=self.sliced)
        return await connector.connect(subprotocol)

    async def logged_in(self, user_id: str = "bob") -> Transport:
        """A bare connection whose HEADS listing is complete."""
        transport = await self.transport(user_id)
        await transport.send(frame({"event": "HELLO", "token": user_id, "deviceId": "phone"}))
        heard: list[dict[str, Any]] = []
        while not any(event["event"] == "HEADS" for event in heard):
            heard += events_of(await transport.receive())
        return transport

    async def say(self, text: str) -> None:
        """A message from alice, in the host's name."""
        await self.server.send(CONVERSATION, "alice", text, client_msg_id=text[:20])

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(SOON_S):
            while not condition():
                await anyio.sleep(0.01)

    def frames(self, *, up: bool, user_id: str | None = None) -> list[bytes | str]:
        return [
            it[4]
            for it in self.trace
            if it[1] == "frame" and it[3] is up and (user_id is None or it[2].user_id == user_id)
        ]

    def line_events(self, number: int) -> list[tuple[str, int | None]]:
        return [(it[3], it[4]) for it in self.trace if it[1] == "line" and it[2].number == number]

    def plain_trace(self) -> list[tuple[Any, ...]]:
        return [(at_s, kind, line.number, *rest) for at_s, kind, line, *rest in self.trace]

    async def _authenticate(self, token: str) -> Identity:
        return Identity(token, None)

    def _frame(self, line: Line, up: bool, frame: bytes | str) -> None:
        self.trace.append((anyio.current_time(), "frame", line, up, frame))

    def _line(self, line: Line, event: str, code: int | None) -> None:
        self.trace.append((anyio.current_time(), "line", line, event, code))


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    """A network, its server, and a conversation between alice and bob; checks at the end that nothing is left."""
    world = World(**options)
    async with world.network, world.server as server:
        world.network.attach("n-1", server)
        await server.create_conversation("SINGLE", "alice", ["alice", "bob"], conversation_id=CONVERSATION)
        yield world
    assert world.network.lines == []
    assert len(world.server.gone) == len(world.server.sessions)
    assert set(world.server.gone) == set(world.server.sessions)


def frame(*events: dict[str, Any]) -> str:
    return msgspec.json.encode(list(events)).decode()


def events_of(data: bytes | str) -> list[dict[str, Any]]:
    decoded = msgspec.json.decode(data)
    return decoded if isinstance(decoded, list) else [decoded]


def names(frames: list[bytes | str]) -> list[str]:
    return [event["event"] for data in frames for event in events_of(data)]


async def texts(client: ChatClient, count: int) -> list[str]:
    """The next so many texts that a client tells of."""
    found: list[str] = []
    with anyio.fail_after(SOON_S):
        async for event in client.events():
            if isinstance(event, MessageReceived) and event.message.type == "TEXT":
                found.append(event.message.text)
                if len(found) == count:
                    break
    return found


async def send(client: ChatClient, text: str) -> None:
    await client.send(CONVERSATION, text, client_msg_id=text, timeout=SOON_S)


async def rest(transport: Transport) -> tuple[list[str], TransportClosedError]:
    """The names of all events that still arrive, and what ended the connection."""
    found: list[str] = []
    with anyio.fail_after(SOON_S):
        try:
            while True:
                found += names([await transport.receive()])
        except TransportClosedError as error:
            return found, error


def numbered(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


def runs(main: Callable[[World], Awaitable[None]], backend: Backend = "asyncio", **options: Any) -> World:
    """Run a program in a world of its own."""

    async def whole() -> World:
        async with running(**options) as world:
            await main(world)
        return world

    return run_virtual(whole, backend=backend)


# --- a network without faults ---


def test_messages_flow_in_order_after_their_latency(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        async with world.client("alice") as alice, world.client("bob") as bob:
            async with anyio.create_task_group() as group:
                for text in numbered(20):
                    group.start_soon(send, alice, text)
                assert sorted(await texts(bob, 20)) == sorted(numbered(20))
            start_s = anyio.current_time()
            await alice.send(CONVERSATION, "timed")
            assert anyio.current_time() - start_s >= 2 * 0.05
            assert [line.number for line in world.network.lines] == [1, 2]
            assert {line.user_id for line in world.network.lines} == {"alice", "bob"}
        await world.until(lambda: not world.network.lines)

    world = runs(main, backend, sliced=sliced, latency_s=(0.05, 0.1))
    assert world.line_events(1) == [("opened", None), ("client ended", 1000), ("server ended", 1000)]
    hello = next(it for it in world.trace if it[1] == "frame")
    assert (hello[2].node, hello[2].device_id, hello[2].subprotocol) == ("n-1", "phone", JSON.subprotocol)
    assert hello[3] and names([hello[4]]) == ["HELLO"]


def test_a_network_without_any_delay_works_too(sliced: bool) -> None:
    async def main(world: World) -> None:
        async with world.client("alice") as alice, world.client("bob") as bob:
            for text in numbered(10):
                await alice.send(CONVERSATION, text)
            assert await texts(bob, 10) == numbered(10)

    runs(main, sliced=sliced, latency_s=(0, 0))


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_both_codecs_cross_a_sliced_line(codec: str) -> None:
    async def main(world: World) -> None:
        connector = world.network.connector("bob", "pc", lambda: "n-1", sliced=True)
        async with ChatClient("ws://n", token="bob", device_id="pc", connector=connector, codec=codec) as bob:
            await world.say("到了吗？")
            assert await texts(bob, 1) == ["到了吗？"]

    world = runs(main)
    assert {type(data) for data in world.frames(up=False)} == {str if codec == "json" else bytes}


def test_every_frame_that_crosses_is_observed_once(sliced: bool) -> None:
    async def main(world: World) -> None:
        transport = await world.logged_in()
        for _ in range(5):
            await transport.send(frame({"event": "PING"}))
            assert names([await transport.receive()]) == ["PONG"]

    world = runs(main, sliced=sliced)
    assert names(world.frames(up=True)) == ["HELLO"] + 5 * ["PING"]
    assert names(world.frames(up=False))[-5:] == 5 * ["PONG"]


@pytest.mark.parametrize("rng", [None, Lowest()], ids=["seeded", "one byte"])
def test_a_sliced_line_may_be_cut_into_single_bytes(rng: Any, backend: Backend) -> None:
    async def main(world: World) -> None:
        async with world.client("alice") as alice, world.client("bob") as bob:
            for text in numbered(3):
                await alice.send(CONVERSATION, text)
            assert await texts(bob, 3) == numbered(3)

    runs(main, backend, sliced=True, rng=rng)


# --- opening ---


def test_an_unknown_subprotocol_is_refused(sliced: bool) -> None:
    async def main(world: World) -> None:
        with pytest.raises(TransportClosedError) as caught:
            await world.transport(subprotocol="chat.v9")
        assert caught.value.close_code == 4204

    world = runs(main, sliced=sliced)
    assert world.line_events(1) == [("server ended", 4204), ("client ended", 4204)]
    assert world.server.sessions == []


def test_connections_are_refused_without_a_node_or_at_random(backend: Backend) -> None:
    async def main(world: World) -> None:
        for node in (None, "n-9"):
            with pytest.raises(TransportClosedError) as caught:
                await world.network.connector("bob", "phone", lambda n=node: n).connect(JSON.subprotocol)  # type: ignore[misc]
            assert caught.value.close_code == 1006
        async with world.client("bob") as bob:
            await anyio.sleep(5)
            assert world.trace == []
            world.network.conditions = replace(world.network.conditions, refuse_probability=0.0)
            await bob.wait_connected()
            assert str(world.network.lines) == "[<Line 1 bob/phone to n-1>]"

    runs(main, backend, refuse_probability=1.0)


def test_a_server_that_does_not_run_takes_no_connection(sliced: bool) -> None:
    async def main(world: World) -> None:
        world.network.attach("n-2", world.make_server("n-2"))
        connector = world.network.connector("bob", "phone", lambda: "n-2", sliced=sliced)
        with pytest.raises(TransportClosedError) as caught:
            await connector.connect(JSON.subprotocol)
        assert caught.value.close_code == 1006

    runs(main, sliced=sliced)


def test_a_draining_server_says_so(sliced: bool) -> None:
    async def main(world: World) -> None:
        await world.server.drain()
        transport = await world.transport()
        assert (await rest(transport))[1].close_code == 1001

    runs(main, sliced=sliced)


def test_a_closed_connection_wakes_who_waits_for_it_and_leaves_no_task(
    backend: Backend, sliced: bool
) -> None:
    async def main(world: World) -> None:
        before = len(anyio.get_running_tasks())
        bob = await world.logged_in()
        (line,) = world.network.lines
        line.stall(down=True)
        async with anyio.create_task_group() as group:
            group.start_soon(rest, bob)
            await anyio.sleep(1)
            assert len(anyio.get_running_tasks()) > before
            await bob.aclose()
            await bob.aclose()
        await world.until(lambda: not world.network.lines)
        await anyio.sleep(1)
        assert len(anyio.get_running_tasks()) == before

    world = runs(main, backend, sliced=sliced)
    assert world.line_events(1) == [("opened", None), ("client ended", 1000), ("server ended", 1000)]


def test_opening_that_is_given_up_leaves_no_line(sliced: bool) -> None:
    async def main(world: World) -> None:
        with anyio.move_on_after(15):
            await world.transport()
        assert [line.number for line in world.network.lines] == [1]  # the end is still under way
        world.network.conditions = Conditions()
        await anyio.sleep(1)
        assert world.network.lines == []

    runs(main, sliced=sliced, latency_s=(7, 7))


def test_opening_that_hangs_is_dropped_by_the_server(sliced: bool) -> None:
    async def main(world: World) -> None:
        async def stall() -> None:
            await world.until(lambda: bool(world.network.lines))
            world.network.lines[0].stall(up=True)

        async with anyio.create_task_group() as group:
            group.start_soon(stall)
            with pytest.raises(TransportClosedError) as caught:
                await world.transport()
        assert caught.value.close_code == 1006

    world = runs(main, sliced=sliced, latency_s=(1, 1))
    assert world.line_events(1) == [("server ended", 1006), ("client ended", 1006)]


def test_a_name_is_attached_once() -> None:
    async def main(world: World) -> None:
        with pytest.raises(ConfigurationError):
            world.network.attach("n-1", world.server)
        world.network.detach("n-1")
        world.network.detach("n-1")
        world.network.attach("n-1", world.server)

    runs(main)


@pytest.mark.parametrize("wrong", [None, {"cut_probability": 0.1}, Conditions])
def test_conditions_that_are_none_are_refused_and_change_nothing(wrong: Conditions) -> None:
    async def main(world: World) -> None:
        before = world.network.conditions
        with pytest.raises(ConfigurationError, match=r"conditions must be Conditions\(\.\.\.\)"):
            world.network.conditions = wrong
        assert world.network.conditions is before

    runs(main)
    with pytest.raises(ConfigurationError, match="conditions must be"):
        Network(Rng(0).stream("network"), conditions=wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_s": None},
        {"latency_s": 0.1},
        {"latency_s": (0.1,)},
        {"latency_s": (0.1, 0.2, 0.3)},
        {"latency_s": ("0.1", "0.2")},
        {"latency_s": (0.2, 0.1)},
        {"latency_s": (0.0, math.nan)},
        {"latency_s": (0.0, math.inf)},
        {"bytes_per_s": 0},
        {"bytes_per_s": "fast"},
        {"refuse_probability": None},
        {"refuse_probability": 1.1},
        {"cut_probability": "often"},
        {"cut_probability": math.nan},
    ],
)
def test_conditions_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"latency_s|bytes_per_s|probability"):
        Conditions(**wrong)


def test_conditions_may_be_whole_numbers() -> None:
    assert (
        Conditions(latency_s=(0, 1), bytes_per_s=1, refuse_probability=0, cut_probability=1).latency(0.5)
        == 0.5
    )


def test_a_node_is_chosen_by_a_function() -> None:
    async def main(world: World) -> None:
        with pytest.raises(ConfigurationError, match="choose must be a function"):
            world.network.connector("alice", "phone", "n-1")  # type: ignore[arg-type]

    runs(main)


# --- cuts ---


def test_a_cut_loses_what_is_under_way_and_both_ends_learn(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        ping = frame({"event": "PING"})
        for text in numbered(20):
            await bob.send(ping)
            await world.say(text)
            await anyio.sleep(0.01)
        world.network.lines[0].cut()
        cut_s = anyio.current_time()
        _, error = await rest(bob)
        assert error.close_code == 1006
        assert anyio.current_time() - cut_s <= 0.05
        got = pushed(world.frames(up=False))
        assert got == numbered(20)[: len(got)] and len(got) < 20
        with pytest.raises(TransportClosedError):
            await bob.send(ping)
        await anyio.sleep(0.1)
        assert world.network.lines == []

    world = runs(main, backend, seed=2, sliced=sliced, latency_s=(0.3, 0.3))
    assert sorted(world.line_events(1)[1:]) == [("client ended", 1006), ("server ended", 1006)]
    assert names(world.frames(up=True)).count("PING") < 20


def test_a_cut_in_the_middle_of_a_frame_loses_all_of_it() -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        await bob.send(frame({"event": "PING", "ref": "x" * 60}))
        whole_bytes = line.up.under_way_bytes  # in slices of one byte
        await anyio.sleep(0.5)
        assert 0 < line.up.under_way_bytes < whole_bytes
        line.cut()
        await anyio.sleep(0.1)

    world = runs(main, sliced=True, rng=Lowest(), latency_s=(0, 0), bytes_per_s=100.0)
    assert names(world.frames(up=True)) == ["HELLO"]
    assert ("server ended", 1006) in world.line_events(1)


def test_clients_survive_a_line_that_is_cut_every_few_frames(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        async with world.client("alice") as alice, world.client("bob") as bob:
            async with anyio.create_task_group() as group:
                for text in numbered(40):
                    group.start_soon(send, alice, text)
                assert sorted(await texts(bob, 40)) == sorted(numbered(40))
            world.network.conditions = Conditions()

    world = runs(main, backend, sliced=sliced, cut_probability=0.1)
    assert len(world.server.sessions) > 2


# --- hanging ---


def test_half_open_each_end_gives_up_by_its_own_deadline(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        async with world.client("bob") as bob:
            await bob.wait_connected()
            (line,) = world.network.lines
            stalled_s = anyio.current_time()
            line.stall(up=True, down=True)
            await world.say("while it hangs")
            assert await texts(bob, 1) == ["while it hangs"]
            assert anyio.current_time() - stalled_s > 2 * HEARTBEAT_S
            await world.until(lambda: line not in world.network.lines)
            assert [it.number for it in world.network.lines] == [2]

    world = runs(main, backend, sliced=sliced)
    assert sorted(world.line_events(1)) == [
        ("client ended", 1000),
        ("opened", None),
        ("server ended", 4001),
    ]


def test_up_one_way_the_server_closes_and_the_client_hears_of_it(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        async with world.client("bob") as bob:
            await bob.wait_connected()
            (line,) = world.network.lines
            line.stall(up=True)
            await world.until(lambda: line not in world.network.lines)
            await bob.wait_connected()

    world = runs(main, backend, sliced=sliced)
    assert world.line_events(1) == [("opened", None), ("server ended", 4001), ("client ended", 4001)]


def test_down_one_way_the_client_closes_and_the_server_hears_of_it(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        async with world.client("bob") as bob:
            await bob.wait_connected()
            (line,) = world.network.lines
            line.stall(down=True)
            await world.until(lambda: line not in world.network.lines)
            await bob.wait_connected()

    world = runs(main, backend, sliced=sliced)
    assert world.line_events(1) == [("opened", None), ("client ended", 1000), ("server ended", 1000)]


def test_the_servers_close_does_not_pass_a_stalled_direction_until_it_is_released(sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        line.stall(up=True, down=True)
        await world.until(lambda: ("server ended", 4001) in world.line_events(1))
        with anyio.move_on_after(1000) as scope:
            await bob.receive()
        assert scope.cancelled_caught and line in world.network.lines
        line.release()
        assert (await rest(bob))[1].close_code == 4001
        assert world.network.lines == []

    runs(main, sliced=sliced)


def test_what_was_held_arrives_in_order_after_the_release(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        before = len(world.trace)
        line.stall(up=True, down=True)
        for number in range(5):
            await bob.send(frame({"event": "SYNC", "conversationId": CONVERSATION, "lastSeq": number}))
            await world.say(f"m{number}")
            await anyio.sleep(0.1)
        assert len(world.trace) == before
        line.release()
        held: list[str] = []
        with anyio.fail_after(SOON_S):
            while len(held) < 5:
                held += pushed([await bob.receive()])
        assert held == numbered(5)
        await world.until(lambda: len(world.frames(up=True)) == 6)
        assert [events_of(data)[0]["lastSeq"] for data in world.frames(up=True)[1:]] == [0, 1, 2, 3, 4]

    runs(main, backend, sliced=sliced)


def pushed(frames: list[bytes | str]) -> list[str]:
    """The texts of the pushes in these frames."""
    events = [event for data in frames for event in events_of(data)]
    return [event["payload"]["text"] for event in events if event["event"] == "NEW_MSG"]


# --- backpressure ---


def test_a_slow_line_makes_the_server_drop_pushes_and_the_client_still_gets_all(
    backend: Backend, sliced: bool
) -> None:
    async def main(world: World) -> None:
        async with world.client("bob") as bob:
            await bob.wait_connected()
            for text in numbered(60):
                await world.say(text + "x" * 300)
            assert [text.rstrip("x") for text in await texts(bob, 60)] == numbered(60)

    world = runs(
        main,
        backend,
        sliced=sliced,
        bytes_per_s=4000.0,
        window_bytes=1000,
        config={"send_buffer_bytes": 2000, "page_bytes_max": 3000},
    )
    assert "BEHIND" in names(world.frames(up=False))
    assert len(world.server.sessions) == 1


def test_a_client_waits_while_its_window_is_full(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        line.stall(up=True)
        ping = frame({"event": "PING", "ref": "x" * 40})
        sent = 0
        with anyio.move_on_after(1):
            while True:
                await bob.send(ping)
                sent += 1
        assert 0 < sent <= 1000 // len(ping)
        line.release()
        await bob.send(ping)
        await world.until(lambda: names(world.frames(up=True)).count("PING") == sent + 1)

    runs(main, backend, sliced=sliced, window_bytes=1000)


def test_pushes_gather_in_the_session_while_the_window_is_full(sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        line.stall(down=True)
        for text in numbered(5):
            await world.say(text + "x" * 300)
            await anyio.sleep(0.1)
        line.release()
        gathered = [pushed([await bob.receive()]) for _ in range(2)]
        assert [len(texts) for texts in gathered] == [1, 4]

    runs(main, sliced=sliced, window_bytes=300)


def test_no_more_than_the_window_is_under_way(sliced: bool) -> None:
    async def main(world: World) -> None:
        await world.logged_in()
        (line,) = world.network.lines
        line.stall(down=True)
        for text in numbered(5):
            await world.say(text + "x" * 300)
            await anyio.sleep(0.1)
        assert 800 <= line.down.under_way_bytes <= 1100

    runs(main, sliced=sliced, window_bytes=1100)


def test_a_frame_above_the_limit_is_answered_with_1009(sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        await bob.send("x" * 1_002_000)
        assert (await rest(bob))[1].close_code == 1009

    world = runs(main, sliced=sliced)
    assert ("server ended", 1009) in world.line_events(1)


def test_a_session_whose_answers_do_not_drain_is_not_read_from(sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        line.stall(down=True)
        pings = frame(*[{"event": "PING"}] * 20)

        async def send_all() -> None:
            for _ in range(30):
                await bob.send(pings)

        async with anyio.create_task_group() as group:
            group.start_soon(send_all)
            await anyio.sleep(1)
            taken = len(world.frames(up=True)) - 1
            await anyio.sleep(1)
            assert len(world.frames(up=True)) - 1 == taken < 30
            line.release()
            answered = 0
            with anyio.fail_after(SOON_S):
                while answered < 600:
                    answered += names([await bob.receive()]).count("PONG")

    runs(main, sliced=sliced, window_bytes=1000, config={"send_buffer_bytes": 1500})


def test_a_consumer_that_is_too_slow_is_closed_with_4000(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        await bob.send(frame(*[{"event": "PING"}] * 200))
        _, error = await rest(bob)
        assert error.close_code == 4000

    world = runs(main, backend, sliced=sliced, config={"send_buffer_bytes": 500})
    assert ("server ended", 4000) in world.line_events(1)


def test_a_closed_session_that_cannot_be_read_out_breaks_after_a_while(sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        (line,) = world.network.lines
        line.stall(down=True)
        for number in range(10):
            await world.say(f"{number}" + "x" * 100)
            await anyio.sleep(0.1)
        for _ in range(3):  # the second is not allowed, and what follows is not looked at
            await bob.send(frame({"event": "HELLO", "token": "bob", "deviceId": "phone"}))
        await world.until(lambda: ("server ended", 1006) in world.line_events(1))
        line.release()
        assert (await rest(bob))[1].close_code == 1006

    world = runs(main, sliced=sliced, window_bytes=300)
    assert names(world.frames(up=True)) == ["HELLO", "HELLO"]


# --- nodes ---


def test_a_detached_node_says_and_hears_nothing_more(backend: Backend, sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        sessions = world.server.sessions[:]
        await bob.send(frame({"event": "PING"}))
        await world.say("just before")
        world.network.detach("n-1")
        assert world.server.gone == sessions
        before = len(world.trace)
        await world.say("after")
        with pytest.raises(TransportClosedError):
            await world.transport()
        assert pushed([it[4] for it in world.trace[before:] if it[1] == "frame"]) == []
        _, error = await rest(bob)
        assert error.close_code == 1006
        assert "after" not in pushed(world.frames(up=False))
        assert "PING" not in names(world.frames(up=True))

    runs(main, backend, sliced=sliced, latency_s=(0.1, 0.1))


def test_what_is_buffered_for_a_slow_line_dies_with_its_node(sliced: bool) -> None:
    async def main(world: World) -> None:
        bob = await world.logged_in()
        for text in numbered(10):
            await world.say(text)
            await anyio.sleep(0)
        world.network.detach("n-1")
        world.network.conditions = Conditions()
        heard, error = await rest(bob)
        assert (error.close_code, len(heard)) == (1006, 0)

    runs(main, sliced=sliced, rng=Lowest(), bytes_per_s=1000.0, window_bytes=200)


def test_a_dying_server_does_not_wait_for_its_sessions(backend: Backend) -> None:
    async def main() -> float:
        world = World()
        async with world.network:
            async with world.server as server:
                world.network.attach("n-1", server)
                bob = await world.logged_in()
                world.network.lines[0].stall(up=True, down=True)
                world.network.detach("n-1")
                died_s = anyio.current_time()
            drained_s = anyio.current_time()
            assert ("server ended", 1006) in world.line_events(1)
            await bob.aclose()
            assert world.network.lines == []
        return drained_s - died_s

    assert run_virtual(main, backend=backend) < 1.0


def test_clients_go_to_the_node_that_is_chosen_for_them() -> None:
    async def main(world: World) -> None:
        node: list[str | None] = ["n-1"]
        connector = world.network.connector("bob", "phone", lambda: node[0])
        async with world.make_server("n-2") as second:
            world.network.attach("n-2", second)
            ports = world.rng.ports("bob")
            async with ChatClient(
                "ws://n", token="bob", device_id="phone", connector=connector, ports=ports
            ) as bob:
                await bob.wait_connected()
                node[0] = "n-2"
                world.network.detach("n-1")
                await world.until(lambda: [line.node for line in world.network.lines] == ["n-2"])
                await bob.wait_connected()
            await world.until(lambda: not world.network.lines)

    runs(main)


def test_a_server_that_drains_in_good_order_is_read_out(backend: Backend, sliced: bool) -> None:
    async def main() -> list[str]:
        world = World(sliced=sliced)
        async with world.network:
            async with world.server as server:
                world.network.attach("n-1", server)
                bob = await world.logged_in()
            heard, error = await rest(bob)
            assert error.close_code == 1001
        return heard

    assert run_virtual(main, backend=backend) == ["GOAWAY"]


# --- the network as a whole ---


def test_leaving_the_network_breaks_every_line(backend: Backend, sliced: bool) -> None:
    async def main() -> None:
        world = World(sliced=sliced)
        async with world.server as server:
            async with world.network:
                world.network.attach("n-1", server)
                bob, other = await world.logged_in(), await world.transport("alice")
            assert world.network.lines == []
            assert server.gone == server.sessions and len(server.sessions) == 2
            for transport in (bob, other):
                assert (await rest(transport))[1].close_code == 1006
            with pytest.raises(TransportClosedError):
                await world.transport()

    run_virtual(main, backend=backend)


def test_a_fault_of_the_server_ends_the_network_with_its_error(backend: Backend) -> None:
    class BrokenError(Exception):
        pass

    class Broken:
        def handle(self, *_: Any) -> None:
            raise BrokenError

        def ended(self, *_: Any) -> None:
            pass

    async def main() -> None:
        world = World()
        async with world.server as server, world.network:
            world.network.attach("n-1", server)
            bob = await world.logged_in()
            server.sessions[0]._services = Broken()  # type: ignore[assignment]
            await bob.send(frame({"event": "PING"}))
            await anyio.sleep(SOON_S)

    with pytest.raises(BaseExceptionGroup) as caught:
        run_virtual(main, backend=backend)
    assert caught.group_contains(BrokenError)


def test_the_hosts_own_error_leaves_the_network_as_it_is(backend: Backend) -> None:
    async def main() -> None:
        async with World().network:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_virtual(main, backend=backend)


async def stormy(world: World) -> list[str]:
    """A conversation through every fault there is; what bob got."""
    faults = world.rng.stream("faults")
    done = anyio.Event()

    async def strike() -> None:
        while not done.is_set():
            await anyio.sleep(faults.uniform(0.1, 2.0))
            if not world.network.lines:
                continue
            line = faults.choice(world.network.lines)
            up, down = faults.choice([(True, True), (True, False), (False, True), (False, False)])
            line.stall(up=up, down=down)
            await anyio.sleep(faults.uniform(0.1, 3 * HEARTBEAT_S))
            faults.choice([line.release, line.cut])()

    async with world.client("alice") as alice, world.client("bob") as bob:  # noqa: SIM117 -- which ends first
        async with anyio.create_task_group() as group:
            group.start_soon(strike)
            for text in numbered(30):
                await anyio.sleep(faults.uniform(0, 1))
                group.start_soon(send, alice, text)
            got = await texts(bob, 30)
            done.set()
            world.network.conditions = Conditions()
            for line in world.network.lines:
                line.release()
    return got


def stormy_run(seed: int, backend: Backend, *, sliced: bool) -> tuple[list[str], list[tuple[Any, ...]]]:
    async def main() -> tuple[list[str], list[tuple[Any, ...]]]:
        conditions = {"cut_probability": 0.03, "refuse_probability": 0.2, "bytes_per_s": 3000.0}
        async with running(seed=seed, sliced=sliced, **conditions) as world:
            got = await stormy(world)
        return got, world.plain_trace()

    return run_virtual(main, seed=seed, backend=backend)


@pytest.mark.parametrize("seed", [1, 2])
def test_clients_survive_every_fault(backend: Backend, sliced: bool, seed: int) -> None:
    got, trace = stormy_run(seed, backend, sliced=sliced)
    assert sorted(got) == sorted(numbered(30))
    assert len({number for _, _, number, *_ in trace}) > 2


def test_the_same_seed_is_the_same_run_and_another_is_not(backend: Backend, sliced: bool) -> None:
    first = stormy_run(3, backend, sliced=sliced)
    assert stormy_run(3, backend, sliced=sliced) == first
    assert stormy_run(4, backend, sliced=sliced) != first
