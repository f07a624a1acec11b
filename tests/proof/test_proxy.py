"""The faulty proxy on real loopback sockets: each toxic shown by what arrives and in which order, never by a clock."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from chatkit.errors import ConfigurationError
from chatkit.testing.rng import Rng

from .proxy import HELD_BYTES_MAX, Fault, FaultyProxy, Traffic, proxy_in_thread
from .toxics import (
    Bandwidth,
    BlackHole,
    Flow,
    Freeze,
    Latency,
    LimitData,
    Reset,
    Slicer,
    SlowClose,
    Toxic,
)

SOON_S = 20.0
HOUR_S = 3600.0
TEXT = bytes(range(256)) * 8


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Net:
    """A server, the proxy before it, and connections through it; all closed at the end."""

    def __init__(self, proxy: FaultyProxy, listener: SocketListener, stack: AsyncExitStack) -> None:
        self.proxy = proxy
        self._listener = listener
        self._stack = stack

    async def connect(self) -> tuple[SocketStream, SocketStream]:
        """Both ends of a new connection: the client's, the server's."""
        client = await self.client()
        with anyio.fail_after(SOON_S):
            server = await self._stack.enter_async_context(await self._listener.accept())
        return client, server

    async def client(self) -> SocketStream:
        return await self._stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", self.proxy.port))

    async def until(self, condition: Callable[[Traffic], bool]) -> Traffic:
        with anyio.fail_after(SOON_S):
            return await self.proxy.wait_until(condition)


@asynccontextmanager
async def running(seed: int = 0) -> AsyncIterator[Net]:
    async with AsyncExitStack() as stack:
        listener = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]
        assert isinstance(listener, SocketListener)
        await stack.enter_async_context(listener)
        port = listener.extra(SocketAttribute.local_port)
        proxy = await stack.enter_async_context(FaultyProxy("127.0.0.1", port, seed=seed))
        yield Net(proxy, listener, stack)


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with running() as made:
        yield made


async def read(stream: SocketStream, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    with anyio.fail_after(SOON_S):
        while len(data) < count:
            data += await stream.receive(count - len(data))
    return data


async def rest(stream: SocketStream) -> bytes:
    """Everything up to the end of the stream."""
    data = b""
    with anyio.fail_after(SOON_S):
        try:
            while True:
                data += await stream.receive()
        except anyio.EndOfStream:
            return data


async def was_reset(stream: SocketStream) -> bool:
    """Read up to the end of the stream; whether that was a reset."""
    try:
        await rest(stream)
    except anyio.BrokenResourceError as error:
        return isinstance(error.__cause__, ConnectionResetError)
    return False


async def exchange(one: SocketStream, other: SocketStream) -> None:
    """Something goes each way."""
    for source, sink in ((one, other), (other, one)):
        await source.send(b"ping")
        assert await read(sink, 4) == b"ping"


@asynccontextmanager
async def watched(stream: SocketStream) -> AsyncIterator[anyio.Event]:
    """Read until the end of the stream, which must come and is then told by the event."""
    ended = anyio.Event()

    async def watch() -> None:
        assert await rest(stream) == b""
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield ended


# --- without a fault ---


async def test_bytes_pass_both_ways_and_are_counted(net: Net) -> None:
    client, server = await net.connect()
    await client.send(TEXT)
    assert await read(server, len(TEXT)) == TEXT
    await server.send(b"short")
    assert await read(client, 5) == b"short"
    seen = net.proxy.traffic
    assert (seen.connections, seen.open, seen.cuts) == (1, 1, 0)
    assert (seen.up_bytes, seen.down_bytes) == (len(TEXT), 5)
    assert (seen.held_bytes, seen.dropped_bytes) == (0, 0)


async def test_each_side_may_end_its_half_first(net: Net) -> None:
    client, server = await net.connect()
    await client.send(b"question")
    await client.send_eof()
    assert await rest(server) == b"question"
    await server.send(b"answer")
    await server.aclose()
    assert await rest(client) == b"answer"
    await client.aclose()
    assert (await net.until(lambda traffic: traffic.open == 0)).cuts == 0


async def test_a_reset_of_one_side_reaches_the_other_after_its_bytes(net: Net) -> None:
    client, server = await net.connect()
    await client.send(b"last words")
    assert await read(server, 10) == b"last words"
    linger = client.extra(SocketAttribute.raw_socket)
    linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await anyio.aclose_forcefully(client)
    assert await was_reset(server)
    assert (await net.until(lambda traffic: traffic.open == 0)).cuts == 0


async def test_a_client_is_reset_when_no_server_listens(net: Net) -> None:
    await net._listener.aclose()
    assert await was_reset(await net.client())
    await net.until(lambda traffic: traffic.open == 0)


async def test_leaving_ends_every_connection(net: Net) -> None:
    async with FaultyProxy("127.0.0.1", net.proxy.port) as outer:
        client = await net._stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", outer.port))
        with anyio.fail_after(SOON_S):
            server = await net._listener.accept()
        await exchange(client, server)
        outer.freeze()
        await client.send(b"stuck")
        await outer.wait_until(lambda traffic: traffic.held_bytes == 5)
    assert await rest(client) == await rest(server) == b""
    await server.aclose()


async def test_a_proxy_serves_inside_its_block_and_once() -> None:
    proxy = FaultyProxy("127.0.0.1", 1)
    with pytest.raises(ConfigurationError, match="async with"):
        proxy.url("ws")
    async with proxy:
        assert proxy.url("ws", "/v1/ws") == f"ws://127.0.0.1:{proxy.port}/v1/ws"
    with pytest.raises(ConfigurationError, match="async with"):
        proxy.url("ws")
    with pytest.raises(ConfigurationError, match="once"):
        await proxy.__aenter__()


async def test_a_server_is_found_under_any_address_of_its_name(net: Net) -> None:
    port = net._listener.extra(SocketAttribute.local_port)
    async with FaultyProxy("localhost", port) as proxy:
        client = await net._stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", proxy.port))
        with anyio.fail_after(SOON_S):
            server = await net._stack.enter_async_context(await net._listener.accept())
        await exchange(client, server)


# --- sizes: slicer, limit ---


async def test_a_one_byte_slicer_changes_nothing_but_the_pieces(net: Net) -> None:
    net.proxy.add(Slicer(1))
    client, server = await net.connect()
    pieces: list[bytes] = []
    await client.send(TEXT)
    with anyio.fail_after(SOON_S):
        while sum(map(len, pieces)) < len(TEXT):
            pieces.append(await server.receive())
    assert b"".join(pieces) == TEXT
    assert len(pieces) > len(TEXT) / 10, "the reader may be late, but not so often"
    await exchange(client, server)


async def test_random_pieces_and_a_delay_between_them_keep_order_and_content(net: Net) -> None:
    net.proxy.add(Slicer(100, variation_bytes=99, delay_s=0.0001), "up")
    client, server = await net.connect()
    await client.send(TEXT)
    await client.send_eof()
    assert await rest(server) == TEXT


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("where", ["up", "down"])
async def test_limited_data_is_cut_after_exactly_so_many_bytes(net: Net, where: str, reset: bool) -> None:
    client, server = await net.connect()
    await exchange(client, server)
    source, sink = (client, server) if where == "up" else (server, client)
    net.proxy.add(LimitData(1000, reset=reset), where)  # type: ignore[arg-type]
    await source.send(TEXT[:999])
    assert await read(sink, 999) == TEXT[:999]
    assert net.proxy.traffic.cuts == 0
    await source.send(TEXT[999:1000])
    assert await read(sink, 1) == TEXT[999:1000]
    assert [await was_reset(sink), await was_reset(source)] == [reset, reset]
    assert (await net.until(lambda traffic: traffic.open == 0)).cuts == 1


async def test_what_is_above_the_limit_never_arrives(net: Net) -> None:
    net.proxy.add(LimitData(1000), "up")
    client, server = await net.connect()
    await client.send(TEXT)
    assert await rest(server) == TEXT[:1000]
    assert (await net.until(lambda traffic: traffic.open == 0)).held_bytes == 0


async def test_each_connection_has_a_limit_of_its_own_and_a_changed_one_counts_on(net: Net) -> None:
    fault = net.proxy.add(LimitData(100), "up")
    one, two = await net.connect(), await net.connect()
    for client, server in (one, two):
        await client.send(TEXT[:99])
        assert await read(server, 99) == TEXT[:99]
    net.proxy.change(fault, LimitData(50))
    assert [await rest(server) for _, server in (one, two)] == [b"", b""]


# --- times: latency, bandwidth, slow close ---


async def test_a_delayed_connection_is_overtaken_by_another(net: Net) -> None:
    slow, fast = await net.connect(), await net.connect()
    fault = net.proxy.add(Latency(HOUR_S), "up", open_only=True)
    quick = await net.connect()
    await slow[0].send(b"first")
    await net.until(lambda traffic: traffic.held_bytes == 5)
    await quick[0].send(b"second")
    assert await read(quick[1], 6) == b"second"
    await fast[1].send(b"down is free")
    assert await read(fast[0], 12) == b"down is free"
    assert net.proxy.traffic.up_bytes == 6
    net.proxy.change(fault, Latency(0.001))
    assert await read(slow[1], 5) == b"first"


async def test_jitter_never_reorders(net: Net) -> None:
    net.proxy.add(Latency(0.002, jitter_s=0.002))
    client, server = await net.connect()
    for number in range(100):
        await client.send(number.to_bytes(2))
        await anyio.lowlevel.checkpoint()
    assert await read(server, 200) == b"".join(number.to_bytes(2) for number in range(100))
    await client.send_eof()
    assert await rest(server) == b""


async def test_a_narrow_link_carries_everything_in_order_and_may_be_widened(net: Net) -> None:
    narrow = await net.connect()
    fault = net.proxy.add(Bandwidth(10), "down", open_only=True)
    await narrow[1].send(TEXT[:100])
    await net.until(lambda traffic: traffic.down_bytes >= 2)
    wide = await net.connect()
    for _ in range(25):
        await exchange(*wide)
    assert net.proxy.traffic.held_bytes > 0, "one byte waits for the other, not all for the first"
    await narrow[1].send(TEXT[100:])
    net.proxy.change(fault, Bandwidth(1_000_000))
    assert await read(narrow[0], len(TEXT)) == TEXT
    await exchange(*narrow)


async def test_a_slow_close_delays_the_end_and_nothing_else(net: Net) -> None:
    client, server = await net.connect()
    fault = net.proxy.add(SlowClose(HOUR_S), "up", open_only=True)
    await client.send(b"all")
    await client.aclose()
    assert await read(server, 3) == b"all"
    async with watched(server) as ended:
        await exchange(*await net.connect())
        assert not ended.is_set()
        net.proxy.remove(fault)


# --- silence: freeze, black hole, partition ---


async def test_frozen_bytes_arrive_after_the_thaw_and_not_before(net: Net) -> None:
    frozen = await net.connect()
    fault = net.proxy.add(Freeze(), open_only=True)
    await frozen[0].send(b"earlier")
    await net.until(lambda traffic: traffic.held_bytes == 7)
    later = await net.connect()
    await exchange(*later)
    assert net.proxy.traffic.up_bytes == 4, "of the later connection"
    net.proxy.remove(fault)
    assert await read(frozen[1], 7) == b"earlier"
    await exchange(*frozen)


async def test_a_frozen_network_holds_everything_also_what_is_new(net: Net) -> None:
    old = await net.connect()
    net.proxy.freeze()
    net.proxy.freeze()
    new = await net.connect()
    await old[0].send(b"old")
    await new[1].send(b"new")
    await new[1].send_eof()
    await net.until(lambda traffic: traffic.held_bytes == 6)
    assert (net.proxy.traffic.up_bytes, net.proxy.traffic.down_bytes) == (0, 0)
    net.proxy.thaw()
    assert (await read(old[1], 3), await rest(new[0])) == (b"old", b"new")
    net.proxy.thaw()


async def test_a_one_way_partition_leaves_the_other_way_open(net: Net) -> None:
    client, server = await net.connect()
    fault = net.proxy.add(Freeze(), "up")
    await client.send(b"lost for now")
    await server.send(b"heard")
    assert await read(client, 5) == b"heard"
    assert net.proxy.traffic.up_bytes == 0
    net.proxy.remove(fault)
    assert await read(server, 12) == b"lost for now"


async def test_in_a_black_hole_bytes_and_the_end_vanish(net: Net) -> None:
    client, server = await net.connect()
    net.proxy.add(BlackHole(), "up", open_only=True)
    await client.send(b"vanishes")
    await net.until(lambda traffic: traffic.dropped_bytes == 8)
    await client.aclose()
    async with watched(server) as ended:
        await exchange(*await net.connect())
        await server.send(b"is anybody there")
        assert not ended.is_set()
        await net.proxy.cut_all()


async def test_no_stream_goes_on_behind_a_hole(net: Net) -> None:
    holed, whole = await net.connect(), await net.connect()
    fault = net.proxy.add(BlackHole(), "up")
    await holed[0].send(b"lost")
    await net.until(lambda traffic: traffic.dropped_bytes == 4)
    net.proxy.remove(fault)
    await exchange(*whole)
    await holed[0].send(b"after")
    await net.until(lambda traffic: traffic.dropped_bytes == 9)
    await holed[1].send(b"down is whole")
    assert await read(holed[0], 13) == b"down is whole"


async def test_a_failure_of_the_test_leaves_as_it_is(net: Net) -> None:
    with pytest.raises(ZeroDivisionError):
        async with FaultyProxy("127.0.0.1", net.proxy.port):
            raise ZeroDivisionError


@pytest.mark.parametrize("toxic", [BlackHole(close_after_s=0.01), Freeze(close_after_s=0.01)])
async def test_silence_may_end_in_a_close(net: Net, toxic: Toxic) -> None:
    client, server = await net.connect()
    await exchange(client, server)
    net.proxy.add(toxic)
    await client.send(b"unheard")
    assert (await rest(server), await rest(client)) == (b"", b"")
    assert (await net.until(lambda traffic: traffic.open == 0)).cuts == 1


async def test_what_it_holds_is_bounded_and_the_sender_feels_it(net: Net) -> None:
    client, server = await net.connect()
    fault = net.proxy.add(Freeze(), open_only=True)
    flood, sent = bytes(32 * 1024 * 1024), anyio.Event()

    async def send() -> None:
        await client.send(flood)
        sent.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await net.until(lambda traffic: traffic.held_bytes == HELD_BYTES_MAX)
        await exchange(*await net.connect())
        assert (net.proxy.traffic.held_bytes, sent.is_set()) == (HELD_BYTES_MAX, False)
        net.proxy.remove(fault)
        received = 0
        with anyio.fail_after(SOON_S):
            while received < len(flood):
                received += len(await server.receive())
                assert net.proxy.traffic.held_bytes <= HELD_BYTES_MAX


# --- ends: reset, cut, down ---


async def test_a_reset_reaches_both_sides(net: Net) -> None:
    client, server = await net.connect()
    await exchange(client, server)
    net.proxy.add(Reset())
    assert [await was_reset(client), await was_reset(server)] == [True, True]
    assert await was_reset(await net.client()), "new ones too"
    assert (await net.until(lambda traffic: traffic.open == 0)).cuts == 2


@pytest.mark.parametrize("reset", [False, True])
async def test_cut_all_ends_what_is_open_and_nothing_else(net: Net, reset: bool) -> None:
    pairs = [await net.connect() for _ in range(5)]
    for client, server in pairs:
        await exchange(client, server)
    await net.proxy.cut_all(reset=reset)
    assert (net.proxy.traffic.open, net.proxy.traffic.cuts) == (0, 5)
    ends = [await was_reset(end) for pair in pairs for end in pair]
    assert ends == [reset] * 10
    await exchange(*await net.connect())


async def test_down_refuses_and_cuts_and_up_takes_again(net: Net) -> None:
    client, server = await net.connect()
    await exchange(client, server)
    port = net.proxy.port
    await net.proxy.down()
    await net.proxy.down()
    assert (await rest(client), await rest(server)) == (b"", b"")
    for _ in range(3):
        with pytest.raises(OSError, match="connection attempts failed") as refused:
            await net.client()
        assert isinstance(refused.value.__cause__, ConnectionRefusedError)
    net.proxy.up()
    net.proxy.up()
    assert net.proxy.port == port
    await exchange(*await net.connect())


async def test_after_healing_nothing_is_in_force(net: Net) -> None:
    net.proxy.add(LimitData(1))
    net.proxy.freeze()
    await net.proxy.down()
    net.proxy.heal()
    client, server = await net.connect()
    await exchange(client, server)
    net.proxy.freeze()
    await client.send(b"held")
    await net.until(lambda traffic: traffic.held_bytes == 4)
    net.proxy.heal()
    assert await read(server, 4) == b"held"


# --- which connections ---


async def touched(seed: int) -> list[bool]:
    """Which of 12 connections, half of them older than the fault, fall into a black hole for one in two."""
    async with running(seed) as net:
        pairs = [await net.connect() for _ in range(6)]
        net.proxy.add(BlackHole(), "up", toxicity=0.5)
        pairs += [await net.connect() for _ in range(6)]
        return [await falls(net, client) for client, _ in pairs]


async def falls(net: Net, client: SocketStream) -> bool:
    before = net.proxy.traffic
    await client.send(b"x")
    after = await net.until(lambda traffic: traffic.held_bytes == 0 and moved(traffic) > moved(before))
    return after.dropped_bytes > before.dropped_bytes


def moved(traffic: Traffic) -> int:
    return traffic.up_bytes + traffic.dropped_bytes


async def test_a_share_of_the_connections_is_drawn_from_the_seed() -> None:
    drawn = [await touched(seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(0 < sum(each) < 12 for each in drawn)


async def test_a_share_of_none_touches_none_and_removing_twice_is_refused(net: Net) -> None:
    fault = net.proxy.add(BlackHole(), toxicity=0)
    await exchange(*await net.connect())
    net.proxy.remove(fault)
    for refused in (net.proxy.remove, lambda fault: net.proxy.change(fault, Freeze())):
        with pytest.raises(ConfigurationError, match="not in force"):
            refused(fault)


async def test_toxics_add_up(net: Net) -> None:
    net.proxy.add(Slicer(3))
    net.proxy.add(Latency(0.001))
    net.proxy.add(Bandwidth(1_000_000))
    net.proxy.add(LimitData(500), "up")
    client, server = await net.connect()
    await client.send(TEXT)
    assert await rest(server) == TEXT[:500]


# --- what each toxic decides ---


def flow(passed_bytes: int = 0, last_s: float = 100.0) -> Flow:
    return Flow(Rng(1).stream("flow"), 100.0, passed_bytes, last_s)


def test_latency_adds_to_what_was_due() -> None:
    assert Latency(0.5).due_s(101.0, 7, flow()) == 101.5
    drawn = [Latency(0.5, jitter_s=0.25).due_s(0.0, 7, each) for each in [flow()] * 200]
    assert 0.25 <= min(drawn) < 0.3
    assert 0.7 < max(drawn) <= 0.75


def test_bandwidth_counts_from_when_the_link_is_free() -> None:
    assert Bandwidth(1000).due_s(101.0, 500, flow(last_s=100.9)) == 101.5
    assert Bandwidth(1000).due_s(101.0, 500, flow(last_s=103.0)) == 103.5
    assert Bandwidth(1000).size(10_000, flow()) == 50
    assert Bandwidth(0.5).size(10_000, flow()) == 1


def test_a_slice_is_the_average_give_or_take() -> None:
    sizes = [Slicer(10, variation_bytes=9).size(100, each) for each in [flow()] * 500]
    assert set(sizes) == set(range(1, 20))
    assert Slicer(10).size(4, flow()) == 4
    assert Slicer(10, delay_s=2.0).due_s(100.0, 4, flow()) == 100.0
    assert Slicer(10, delay_s=2.0).due_s(100.0, 4, flow(4, 99.0)) == 101.0


def test_a_limit_lets_nothing_pass_once_it_is_spent() -> None:
    assert LimitData(10).size(100, flow(4)) == 6
    assert (LimitData(10).size(100, flow(12)), LimitData(10).due_s(0.0, 0, flow(12))) == (0, math.inf)
    assert LimitData(10).ends_s(flow(9)) == math.inf
    assert LimitData(10).ends_s(flow(10)) == 100.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Latency(-1.0),
        lambda: Latency(math.nan),
        lambda: Latency(math.inf),
        lambda: Latency("1"),  # type: ignore[arg-type]
        lambda: Latency(0.1, jitter_s=0.2),
        lambda: Bandwidth(0),
        lambda: Slicer(0),
        lambda: Slicer(True),
        lambda: Slicer(1.5),  # type: ignore[arg-type]
        lambda: Slicer(5, variation_bytes=5),
        lambda: Slicer(5, delay_s=-1),
        lambda: LimitData(0),
        lambda: BlackHole(close_after_s=-1),
        lambda: Freeze(close_after_s="x"),  # type: ignore[arg-type]
        lambda: Reset(after_s=-0.1),
        lambda: SlowClose(math.inf),
        lambda: FaultyProxy("127.0.0.1", 0),
        lambda: FaultyProxy("127.0.0.1", 65536),
        lambda: FaultyProxy("127.0.0.1", 1.5),  # type: ignore[arg-type]
        lambda: FaultyProxy("127.0.0.1", True),
        lambda: FaultyProxy("127.0.0.1", "80"),  # type: ignore[arg-type]
        lambda: FaultyProxy("127.0.0.1", None),  # type: ignore[arg-type]
        lambda: FaultyProxy(None, 80),  # type: ignore[arg-type]
        lambda: FaultyProxy("", 80),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        wrong()


async def test_directions_shares_and_hosts_that_cannot_be_meant_are_refused(net: Net) -> None:
    with pytest.raises(ConfigurationError, match="where"):
        net.proxy.add(Freeze(), "sideways")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="where"):
        net.proxy.add(Freeze(), ["up"])  # type: ignore[arg-type]
    for share in (-0.1, 1.1, math.nan, "all", None):
        with pytest.raises(ConfigurationError, match="toxicity"):
            net.proxy.add(Freeze(), toxicity=share)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no address"):
        async with FaultyProxy("no-such-host.invalid", 80):
            pass


@pytest.mark.parametrize("wrong", ["slow", Latency, None])
async def test_what_is_no_toxic_is_refused_and_changes_nothing(net: Net, wrong: Toxic) -> None:
    with pytest.raises(ConfigurationError, match="is no toxic"):
        net.proxy.add(wrong)
    fault = net.proxy.add(Freeze(), "up")
    with pytest.raises(ConfigurationError, match="is no toxic"):
        net.proxy.change(fault, wrong)
    client, server = await net.connect()
    await client.send(b"held")
    await net.until(lambda traffic: traffic.held_bytes == 4)
    net.proxy.change(fault, Latency(0))
    assert await read(server, 4) == b"held"


async def refuses_everything(proxy: FaultyProxy, fault: Fault) -> None:
    """Each verb says that the proxy does not run."""
    verbs: list[Callable[[], object]] = [
        lambda: proxy.port,
        lambda: proxy.add(Freeze()),
        lambda: proxy.change(fault, Freeze()),
        lambda: proxy.remove(fault),
        proxy.freeze,
        proxy.thaw,
        proxy.up,
        proxy.heal,
    ]
    for verb in verbs:
        with pytest.raises(ConfigurationError, match="async with"):
            verb()
    waits: list[Callable[[], Awaitable[object]]] = [
        proxy.cut_all,
        proxy.down,
        lambda: proxy.wait_until(lambda traffic: traffic.connections > 99),
    ]
    for wait in waits:
        with pytest.raises(ConfigurationError, match="async with"):
            await wait()


async def test_before_and_after_its_block_every_verb_is_refused(net: Net) -> None:
    proxy = FaultyProxy("127.0.0.1", net.proxy.port)
    await refuses_everything(proxy, net.proxy.add(Latency(0)))
    async with proxy:
        assert proxy.running
        fault = proxy.add(Latency(0))
        proxy.heal()
        client = await anyio.connect_tcp("127.0.0.1", proxy.port)
        async with client:
            await proxy.wait_until(lambda traffic: traffic.connections == 1)
    assert not proxy.running
    await refuses_everything(proxy, fault)
    assert proxy.traffic.connections == 1
    assert (await proxy.wait_until(lambda traffic: traffic.connections == 1)).open == 0


async def test_who_waits_when_the_block_ends_is_told(net: Net) -> None:
    told: list[ConfigurationError] = []

    async def wait() -> None:
        try:
            await proxy.wait_until(lambda traffic: traffic.connections > 99)
        except ConfigurationError as error:
            told.append(error)

    with anyio.fail_after(SOON_S):
        async with anyio.create_task_group() as tasks, FaultyProxy("127.0.0.1", net.proxy.port) as proxy:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
    assert len(told) == 1


# --- from a test that is not async ---


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(SOON_S)
        yield made


def test_a_blocking_test_has_every_verb(listener: socket.socket) -> None:
    with proxy_in_thread("127.0.0.1", listener.getsockname()[1], seed=3) as proxy:
        address = ("127.0.0.1", proxy.port)
        assert proxy.url("ws", "/v1/ws") == f"ws://127.0.0.1:{proxy.port}/v1/ws"
        with socket.create_connection(address, SOON_S) as client, listener.accept()[0] as server:
            server.settimeout(SOON_S)
            fault = proxy.add(Freeze(), "up")
            client.sendall(b"held")
            assert proxy.wait_until(lambda traffic: traffic.held_bytes == 4).up_bytes == 0
            with pytest.raises(TimeoutError):
                proxy.wait_until(lambda traffic: traffic.up_bytes > 0, timeout_s=0)
            proxy.change(fault, Latency(0.001))
            assert server.recv(10) == b"held"
            proxy.remove(fault)
            proxy.freeze()
            proxy.thaw()
            proxy.cut_all(reset=True)
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    end.recv(1)
        proxy.down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        proxy.heal()
        proxy.up()
        with socket.create_connection(address, SOON_S) as client, listener.accept()[0] as server:
            client.sendall(b"again")
            assert server.recv(10) == b"again"
        assert proxy.traffic.connections == 2
    verbs: list[Callable[[], object]] = [
        lambda: proxy.port,
        lambda: proxy.add(Freeze()),
        lambda: proxy.change(fault, Freeze()),
        lambda: proxy.remove(fault),
        lambda: proxy.wait_until(lambda traffic: traffic.connections > 99),
        proxy.freeze,
        proxy.thaw,
        proxy.cut_all,
        proxy.down,
        proxy.up,
        proxy.heal,
    ]
    for verb in verbs:
        with pytest.raises(ConfigurationError, match="proxy_in_thread"):
            verb()
    assert proxy.traffic.connections == 2


def test_a_blocking_test_is_told_of_what_is_no_toxic(listener: socket.socket) -> None:
    with proxy_in_thread("127.0.0.1", listener.getsockname()[1]) as proxy:
        with pytest.raises(ConfigurationError, match="is no toxic"):
            proxy.add("slow")  # type: ignore[arg-type]
        with (
            socket.create_connection(("127.0.0.1", proxy.port), SOON_S) as client,
            listener.accept()[0] as server,
        ):
            client.sendall(b"sound")
            assert server.recv(10) == b"sound"
